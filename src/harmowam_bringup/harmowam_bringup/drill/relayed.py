"""What stands behind the relay: every topic by which sensors, models and arms speak, with its type and quality of service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harmowam_msgs.msg import ActionChunk, Imagination
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.qos import CHUNK, COMMAND, LATEST, SENSOR
from harmowam_core.stages import Expert


@dataclass(frozen=True)
class Relayed:
    """A topic's message type and the profile of its producer."""

    kind: Any
    qos: QoSProfile


def relayed_topics(cell: Cell) -> dict[str, Relayed]:
    """By the name that subscribers know; producers publish ``topics.relayed(name)`` instead."""
    cameras = [camera.name for camera in cell.cameras]
    return {
        **{topics.camera_image(camera): Relayed(Image, SENSOR) for camera in cameras},
        **{topics.camera_info(camera): Relayed(CameraInfo, SENSOR) for camera in cameras},
        topics.JOINT_STATES: Relayed(JointState, SENSOR),
        topics.IMAGINATION: Relayed(Imagination, LATEST),
        **{topics.chunk(expert): Relayed(ActionChunk, CHUNK) for expert in Expert},
        cell.controllers.arm_topic: Relayed(JointTrajectory, COMMAND),
        cell.controllers.gripper_topic: Relayed(JointTrajectory, COMMAND),
    }
