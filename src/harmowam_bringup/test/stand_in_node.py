"""Nodes that stand in for those of the graph: right topics, types, stamps and rates, made-up contents. ``python stand_in_node.py ROLE``.

The arbiter holds the arm where it is, succeeds after 2 s (62 s: "wait"), refuses the instruction "refuse", and dies on "die".
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
from harmowam_msgs.action import ExecuteTask
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.messages import (
    chunk_to_message,
    gate_state_to_message,
    image_from_message,
    image_to_message,
    imagination_from_message,
    imagination_to_message,
    joint_state_from_message,
    joint_state_to_message,
    stamp_from_message,
    trajectory_to_message,
)
from harmowam_core.qos import CHUNK, COMMAND, LATEST, SENSOR
from harmowam_core.stages import ActionChunk, Expert, Imagination, JointTrajectory, Phase
from harmowam_core.stages import JointState as JointStateValue
from harmowam_core.status import GateState, Outcome, Status

CELL = load_cell()


class Cell(ManagedNode):
    """A table on which nothing happens but time."""

    def __init__(self) -> None:
        super().__init__("cell")

    def configure(self) -> None:
        self.images = {c.name: self.create_publisher(Image, topics.camera_image(c.name), SENSOR) for c in CELL.cameras}
        self.joints = self.create_publisher(JointState, topics.JOINT_STATES, SENSOR)
        self.scores = self.create_publisher(String, "/sim/score", LATEST)
        self.home = np.r_[Kinematics(CELL).home(), 0.04, 0.04]
        self.started_s, self.names = time.monotonic(), CELL.arm_joint_names + CELL.finger_joint_names
        self.create_timer(0.02, self.tick)
        self.create_timer(0.1, self.capture)

    def tick(self) -> None:
        state = JointStateValue(self.now_ns(), self.names, self.home, np.zeros(len(self.names)))
        self.joints.publish(joint_state_to_message(state))

    def capture(self) -> None:
        for camera in CELL.cameras:
            image = np.full((camera.height, camera.width, 3), 120, np.uint8)
            self.images[camera.name].publish(image_to_message(image, self.now_ns(), camera.name))
        time_s = time.monotonic() - self.started_s
        score = {"time_s": time_s, "score": 0.0, "success": False, "failure": None, "stages": {"reach": False}, "sub_stage": "reaching"}
        self.scores.publish(String(data=json.dumps(score)))


class WorldModel(ManagedNode):
    """Imagines that nothing changes, from every second image."""

    def __init__(self) -> None:
        super().__init__("world_model")

    def configure(self) -> None:
        self.count = 0
        self.publisher = self.create_publisher(ImaginationMsg, topics.IMAGINATION, LATEST)
        self.create_subscription(Image, topics.camera_image("scene"), self.imagine, SENSOR)

    def imagine(self, message: Image) -> None:
        self.count += 1
        if self.count % 2 or not self.active:
            return
        frame = image_from_message(message)[::2, ::2]
        stamp_ns = stamp_from_message(message.header.stamp)
        frames, latents = np.stack([frame] * 13), np.zeros((13, 80, 4), np.float32)
        imagination = Imagination(stamp_ns, self.count, frames, 0.1, latents, np.zeros((80, 8), np.float32))
        self.publisher.publish(imagination_to_message(imagination))


class ExpertNode(ManagedNode):
    """Answers every imagination with a chunk that stays where it is."""

    source: Expert

    def __init__(self) -> None:
        super().__init__(f"{self.source.value}_expert")

    def configure(self) -> None:
        self.publisher = self.create_publisher(ActionChunkMsg, topics.chunk(self.source), CHUNK)
        self.create_subscription(ImaginationMsg, topics.IMAGINATION, self.act, LATEST)

    def act(self, message: ImaginationMsg) -> None:
        imagination = imagination_from_message(message)
        positions = np.tile(np.float32([arm.home_tcp_position for arm in CELL.arms]), (12, 1, 1))
        orientations = np.tile(np.float32([arm.home_tcp_orientation for arm in CELL.arms]), (12, 1, 1))
        stamp_ns, number, grippers = imagination.stamp_ns, imagination.imagination_id, np.ones((12, 2), np.float32)
        chunk = ActionChunk(stamp_ns, number, self.source, 0.1, CELL.arm_names, positions, orientations, grippers)
        self.publisher.publish(chunk_to_message(chunk))


class Predictive(ExpertNode):
    source = Expert.PREDICTIVE


class Reactive(ExpertNode):
    source = Expert.REACTIVE


class Arbiter(ManagedNode):
    """Holds the arm still at 20 Hz while it says that it follows the reactive, later the predictive expert."""

    def __init__(self) -> None:
        super().__init__("arbiter")

    def configure(self) -> None:
        self.ids: dict[Expert, int] = {}
        self.instruction, self.until_s, self.trajectories = "", 0.0, 0
        self.hold: np.ndarray | None = None
        self.done: Future | None = None
        self.gate = self.create_publisher(GateStateMsg, topics.GATE_STATE, LATEST)
        self.arm = self.create_publisher(JointTrajectoryMsg, CELL.controllers.arm_topic, COMMAND)
        self.create_subscription(JointState, topics.JOINT_STATES, self.on_joints, SENSOR)
        for expert in Expert:
            self.create_subscription(ActionChunkMsg, topics.chunk(expert), lambda m, e=expert: self.ids.update({e: m.chunk_id}), LATEST)
        self.create_timer(0.05, self.tick)
        self.server = ActionServer(
            self, ExecuteTask, topics.EXECUTE_TASK, self.execute, goal_callback=self.judge, cancel_callback=self.cancel
        )

    def on_joints(self, message: JointState) -> None:
        if self.hold is None:
            self.hold = joint_state_from_message(message, CELL.arm_joint_names).positions

    def judge(self, goal: ExecuteTask.Goal) -> GoalResponse:
        if goal.instruction == "die":
            os._exit(7)
        return GoalResponse.REJECT if goal.instruction == "refuse" else GoalResponse.ACCEPT

    def cancel(self, handle: Any) -> CancelResponse:
        self.until_s = 0.0
        return CancelResponse.ACCEPT

    async def execute(self, handle: Any) -> ExecuteTask.Result:
        self.instruction, self.until_s, self.done = handle.request.instruction, time.monotonic() + 2.0, Future()
        if self.instruction == "wait":
            self.until_s += 60.0
        handle.publish_feedback(ExecuteTask.Feedback(score=0.25, expert=2, sub_stage="reach", text="on my way"))
        await self.done
        self.instruction = ""
        if handle.is_cancel_requested:
            handle.canceled()
            return ExecuteTask.Result(outcome=Outcome.CANCELLED, why="cancelled", duration_s=0.0)
        handle.succeed()
        return ExecuteTask.Result(outcome=Outcome.SUCCEEDED, why="stood still", duration_s=2.0)

    def tick(self) -> None:
        now_ns, busy = self.now_ns(), bool(self.instruction)
        if busy and self.hold is not None and len(self.ids) < len(Expert):  # a busy machine takes long to bring the first chunks
            self.until_s = time.monotonic() + 2.0
        left_s = self.until_s - time.monotonic()
        early = left_s > 1.0
        expert = Expert.REACTIVE if early else Expert.PREDICTIVE
        state = GateState(
            now_ns,
            Status.EXECUTING if busy else Status.IDLE,
            "standing still",
            task_id=int(busy),
            instruction=self.instruction,
            score=0.1 if early else 0.9,
            phase=Phase.TRANSIT if early else Phase.INTERACTION,
            expert=expert if busy else None,
            reactive_chunk_id=self.ids.get(Expert.REACTIVE, 0),
            predictive_chunk_id=self.ids.get(Expert.PREDICTIVE, 0),
            trajectory_id=self.trajectories,
        )
        self.gate.publish(gate_state_to_message(state))
        if self.hold is not None:
            self.trajectories += 1
            still = np.zeros((2, len(self.hold)))
            held = JointTrajectory(now_ns, CELL.arm_joint_names, np.array([0.0, 0.4]), np.stack([self.hold] * 2), still, still)
            self.arm.publish(trajectory_to_message(held))
        if busy and left_s <= 0 and self.done is not None and not self.done.done():
            self.done.set_result(None)


class Stuck(ManagedNode):
    """A world model that cannot be configured."""

    def __init__(self) -> None:
        super().__init__("world_model")

    def configure(self) -> None:
        raise RuntimeError("no weights in /nowhere")


ROLES = {"cell": Cell, "world_model": WorldModel, "predictive": Predictive, "reactive": Reactive, "arbiter": Arbiter, "stuck": Stuck}

if __name__ == "__main__":
    run(ROLES[sys.argv[1]])
