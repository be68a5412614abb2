"""A made-up demonstration as messages: the left hand goes down, closes, lifts, carries, opens; images tell the time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from harmowam_core.cell import load_cell
from harmowam_core.contract import load_contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_to_message, joint_state_to_message, task_to_message
from harmowam_core.stages import JointState
from harmowam_core.status import Task

CELL, CONTRACT = load_cell(), load_contract()
KINEMATICS = Kinematics(CELL)
START_NS = 1_700_000_000 * 10**9
SECONDS = 12.0
CLOSES_S, OPENS_S = 4.0, 8.0
WORDS = "put the lime on the plate"
Item = tuple[str, int, Any]


def height_share(time_s: float) -> float:
    """How far down the hand is: 1 at the grasp and at the release."""
    return float(max(np.exp(-(((time_s - CLOSES_S) / 0.8) ** 2)), np.exp(-(((time_s - OPENS_S) / 0.8) ** 2))))


def joints(time_s: float) -> np.ndarray:
    """(14,) rad: at home, but the left arm's second and fourth joint lower the hand."""
    positions = KINEMATICS.home().copy()
    positions[1] += 0.45 * height_share(time_s)
    positions[3] -= 0.1 * height_share(time_s)
    return positions


def opening(time_s: float) -> float:
    """What the left gripper is told."""
    return 0.0 if CLOSES_S <= time_s < OPENS_S else 1.0


def demonstration(*, camera_hz: float = 30.0, success: bool | None = True, task: bool = True) -> list[Item]:
    """Messages in order of time; ``success`` None: nobody keeps the score."""
    found: list[Item] = []

    def at(time_s: float) -> int:
        return START_NS + round(time_s * 1e9)

    def add(time_s: float, topic: str, message: Any, late_s: float = 0.002) -> None:
        found.append((topic, at(time_s + late_s), message))

    if task:
        add(0.5, CONTRACT.observation.instruction.topic, task_to_message(Task(at(0.5), 1, WORDS)))
        add(11.5, CONTRACT.observation.instruction.topic, task_to_message(Task(at(11.5), 0, "")))
    for k in range(round(SECONDS * 50)):
        t = k / 50
        positions = np.concatenate([joints(t), [CELL.finger_travel * max(opening(t - 0.2), 0.4), CELL.finger_travel]])
        state = JointState(at(t), CELL.arm_joint_names + CELL.finger_joint_names, positions, np.zeros(16))
        add(t, CONTRACT.observation.joints.topic, joint_state_to_message(state))
    for k in range(round(SECONDS * camera_hz)):
        t = k / camera_hz
        for number, source in enumerate(CONTRACT.observation.images.values()):
            shape = (128, 160, 3) if number == 0 else (96, 96, 3)
            add(t, source.topic, image_to_message(np.full(shape, round(20 * t), np.uint8), at(t), ""), 0.004 + 0.001 * number)
    for k in range(round(SECONDS * 20)):
        t = k / 20
        point = JointTrajectoryPoint(positions=[CELL.finger_travel * opening(t), CELL.finger_travel], velocities=[0.0, 0.0])
        message = JointTrajectory(joint_names=list(CELL.finger_joint_names), points=[point])
        add(t, CONTRACT.action.openings.topic, message)
    if success is not None:
        for t in (2.0, 6.0, 11.4):
            add(t, "/sim/score", String(data=json.dumps({"task": "pick_fruit", "success": success and t > 10})))
    return sorted(found, key=lambda item: item[1])
