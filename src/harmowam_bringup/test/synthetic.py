"""A made-up run of the graph: a banana that is picked, as far as rates, pictures and curves go."""

from __future__ import annotations

from typing import Any

import numpy as np

from harmowam_bringup.recording import Picture, Received, Recording
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import trajectory_to_message
from harmowam_core.stages import ActionChunk, Expert, Imagination, JointState, JointTrajectory, Phase
from harmowam_core.status import GateState, Reason, Status

CELL = load_cell()
START_NS = 1_700_000_000 * 10**9
SECONDS = 6.0


def picture(camera: str, time_s: float) -> np.ndarray:
    """A plain table with a square that moves to the right."""
    height, width = (128, 160) if camera == "scene" else (96, 96)
    image = np.full((height, width, 3), (180, 170, 150), np.uint8)
    left = int((width - 24) * time_s / SECONDS)
    image[height // 2 - 12 : height // 2 + 12, left : left + 24] = (230, 200, 40)
    return image


def make_recording() -> Recording:
    """6 s: cameras 10 Hz, imagination and chunks 5 Hz, gate and trajectories 20 Hz; 0.2 s from observation to trajectory."""
    recording = Recording(started_ns=START_NS, ended_ns=START_NS + round(SECONDS * 1e9))
    home = Kinematics(CELL).home()
    names = CELL.arm_joint_names

    def at(time_s: float) -> int:
        return START_NS + round(time_s * 1e9)

    for k in range(round(SECONDS * 10)):
        t = k / 10
        for camera in ("scene", "wrist_left", "wrist_right"):
            recording.pictures.setdefault(camera, []).append(Received(at(t + 0.02), Picture(at(t), picture(camera, t))))
    for k in range(round(SECONDS * 50)):
        t = k / 50
        state = JointState(at(t), names, home + 0.1 * np.sin(t), np.full(14, 0.1 * np.cos(t)))
        recording.joint_states.append(Received(at(t), state))
    for k in range(round((SECONDS - 0.2) * 5)):
        t, number = k / 5, k + 1
        frames = np.stack([picture("scene", min(t + i * 0.1, SECONDS))[::2, ::2] for i in range(13)])
        imagination = Imagination(at(t), number, frames, 0.1, np.zeros((13, 80, 4), np.float32), np.zeros((80, 8), np.float32))
        recording.imaginations.append(Received(at(t + 0.12), imagination))
        for expert in Expert:
            chunk = ActionChunk(
                at(t), number, expert, 0.1, CELL.arm_names, np.full((12, 2, 3), 0.4, np.float32),
                np.tile(np.float32([1, 0, 0, 0]), (12, 2, 1)), np.ones((12, 2), np.float32),
            )  # fmt: skip
            recording.chunks[expert].append(Received(at(t + 0.15), chunk))
    arm = recording.trajectories.setdefault(CELL.controllers.arm_topic, [])
    for k in range(1, round(SECONDS * 20)):
        t = k / 20
        expert = Expert.REACTIVE if t < 3.5 else Expert.PREDICTIVE
        number = max(0, int((t - 0.2) * 5) + 1) if t >= 0.2 else 0
        recording.gate.append(
            Received(
                at(t),
                GateState(
                    at(t - 0.1), Status.EXECUTING, "executing", 1, "put the banana on the plate", score=0.05 if t < 3.5 else 0.93,
                    phase=Phase.TRANSIT if t < 3.5 else Phase.INTERACTION, expert=expert, reason=Reason.NONE,
                    predictive_chunk_id=number, reactive_chunk_id=number, imagination_id=number, trajectory_id=k,
                ),
            )
        )  # fmt: skip
        times = np.linspace(0, 0.4, 5)
        still = np.zeros((5, 14))
        arm.append(Received(at(t) + 1000, trajectory_to_message(JointTrajectory(at(t), names, times, np.tile(home, (5, 1)), still, still))))
    for k, (t, stage) in enumerate([(0.0, "reach"), (2.0, "grasp"), (4.0, "carry"), (5.0, "place")]):
        stages = {name: i < k for i, name in enumerate(("reach", "grasp", "carry", "place"))}
        recording.scores.append(
            Received(at(t), {"score": k / 4, "success": False, "stages": stages, "sub_stage": f"{stage}ing", "failure": None, "time_s": t})
        )
    recording.scores.append(
        Received(
            at(5.5),
            {"score": 1.0, "success": True, "stages": dict.fromkeys(stages, True), "sub_stage": "done", "failure": None, "time_s": 5.5},
        )
    )
    return recording


def make_summary(recording: Recording) -> dict[str, Any]:
    """What the demo would write of it."""
    from harmowam_bringup.summary import summarise_run

    run = {"task": "pick_fruit", "environment": "in_domain", "seed": 0, "started": "2026-01-01T00:00:00", "commit": "abc", "config": {}}
    return summarise_run(recording, CELL, "put the banana on the plate", outcome={"name": "SUCCEEDED", "why": "done"}, run=run)
