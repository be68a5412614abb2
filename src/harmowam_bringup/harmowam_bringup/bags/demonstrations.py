"""Scripted demonstrations written as a recording, for tests and benchmarks that need a bag and no graph."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message

from harmowam_bringup.bags.bag_writer import BagWriter, RecordedTopic
from harmowam_core.cell import Cell
from harmowam_core.contract import Contract
from harmowam_core.messages import image_to_message, joint_state_to_message, optical_frame, task_to_message, trajectory_to_message
from harmowam_core.stages import JointState, JointTrajectory
from harmowam_core.status import Task
from harmowam_sim.demonstrators import Demonstrator, Rollout, rollout
from harmowam_sim.environments import sample_episode
from harmowam_sim.splits import EVALUATION_SEED_START

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
PAUSE_NS = 500_000_000
FINGERS_TAKE_S = 0.4
"""From open to closed; in less, they would be faster than the stack lets them be."""


def demonstrate(task: str, environment: str, seed: int, cell: Cell) -> Rollout:
    """One demonstration of an evaluation seed, counted from 0, with the native images of all cameras."""
    spec = sample_episode(task, environment, EVALUATION_SEED_START + seed)
    agent = Demonstrator(spec, np.random.default_rng([spec.seed, 3]))
    return rollout(agent, spec, cameras=tuple(camera.name for camera in cell.cameras), sizes=None)


def write_demonstrations(
    folder: Path, rollouts: Iterable[Rollout], cell: Cell, contract: Contract, *, size: tuple[int, int] | None = None, images_a_row: int = 1
) -> Path:
    """Write a bag with images, joint states, tasks and gripper commands, one demonstration after another.

    size: (height, width) that images are enlarged to, None: as rendered; images_a_row: so many times a row each camera sends its picture.
    """
    with BagWriter(folder, {"source": "scripted demonstrations"}) as bag:
        channels: dict[str, int] = {}

        def send(topic: str, kind: str, time_ns: int, message: Any) -> None:
            if topic not in channels:
                channels[topic] = bag.add_topic(RecordedTopic(topic, kind, large=kind.endswith("Image")))
            bag.write(channels[topic], time_ns, time_ns, serialize_message(message))

        now_ns = START_NS
        observation, openings = contract.observation, contract.action.openings.topic
        for number, shown in enumerate(rollouts, 1):
            task = Task(now_ns, number, shown.instructions[0])
            send(observation.instruction.topic, "harmowam_msgs/msg/Task", now_ns, task_to_message(task))
            for t in range(len(shown)):
                for part in range(images_a_row):
                    stamp_ns = now_ns + part * PERIOD_NS // images_a_row
                    for camera, source in observation.images.items():
                        image = shown.frames[camera][t]
                        if size is not None:
                            image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
                        send(source.topic, "sensor_msgs/msg/Image", stamp_ns, image_to_message(image, stamp_ns, optical_frame(camera)))
                    send(
                        observation.joints.topic,
                        "sensor_msgs/msg/JointState",
                        stamp_ns,
                        joint_state_to_message(_joints(shown, t, stamp_ns, cell)),
                    )
                if t == 0 or (shown.commanded_openings[t] != shown.commanded_openings[t - 1]).any():
                    send(openings, "trajectory_msgs/msg/JointTrajectory", now_ns, trajectory_to_message(_fingers(shown, t, now_ns, cell)))
                bag.flush()
                bag.wait_for_disk()
                now_ns += PERIOD_NS
            send(observation.instruction.topic, "harmowam_msgs/msg/Task", now_ns, task_to_message(Task(now_ns, 0, "")))
            now_ns += PAUSE_NS
    if bag.error is not None:
        raise bag.error
    return folder


def _joints(shown: Rollout, t: int, stamp_ns: int, cell: Cell) -> JointState:
    positions = np.append(shown.arm_positions[t].ravel(), shown.openings[t] * cell.finger_travel).astype(np.float64)
    return JointState(stamp_ns, cell.arm_joint_names + cell.finger_joint_names, positions, np.zeros_like(positions))


def _fingers(shown: Rollout, t: int, stamp_ns: int, cell: Cell) -> JointTrajectory:
    positions = shown.commanded_openings[t : t + 1].astype(np.float64) * cell.finger_travel
    return JointTrajectory(
        stamp_ns, cell.finger_joint_names, np.array([FINGERS_TAKE_S]), positions, np.zeros_like(positions), np.zeros_like(positions)
    )
