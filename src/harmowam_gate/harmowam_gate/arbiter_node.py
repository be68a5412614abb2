"""Arbiter node: chunks, joint states and images in; the only trajectories that the arms get, and the gate's state, out."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import Any

from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from harmowam_msgs.msg import Task as TaskMsg
from sensor_msgs.msg import JointState as JointStateMsg
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg
from visualization_msgs.msg import MarkerArray

from harmowam_core import topics
from harmowam_core.health import Level
from harmowam_core.kinematics import Kinematics
from harmowam_core.lifecycle import run
from harmowam_core.messages import (
    chunk_from_message,
    gate_state_to_message,
    joint_state_from_message,
    trajectory_to_message,
)
from harmowam_core.policy_node import PolicyNode
from harmowam_core.presets import load_preset
from harmowam_core.qos import COMMAND, LATCHED, LATEST
from harmowam_core.stages import Expert, Observation, StageError
from harmowam_core.status import GateState, Outcome, Reason, Status
from harmowam_gate.arbiter import Arbiter
from harmowam_gate.gate_network import load_gate
from harmowam_gate.markers import gate_markers
from harmowam_gate.settings import ArbiterSettings, bounds
from harmowam_gate.task_server import TaskServer

MARKERS_PERIOD_S = 0.1
SAME_MOMENT_NS = 50_000_000  # images this close belong to one observation


class ArbiterNode(PolicyNode):
    """Runs the arbiter at a steady rate, and the gate, in the worker's thread, on each new set of images."""

    def __init__(self, model: Any = None) -> None:
        self._scores: deque[tuple[float, int]] = deque(maxlen=10)
        self._image_ns: dict[str, int] = {}
        self._scored_ns = 0
        super().__init__("arbiter", model)

    def declare(self) -> None:
        """Add the rate and the arbiter's settings."""
        super().declare()
        self.parameter("rate", 20.0, "Ticks a second, Hz.", lower=10.0, upper=50.0, read_only=True)
        for name, field in ArbiterSettings.model_fields.items():
            self.parameter(name, field.default, field.description or name, read_only=True, **bounds(field))

    def load(self, preset: str, **options: Any) -> Any:
        """The preset's gate."""
        return load_gate(preset, **options)

    def configure(self) -> None:
        """Make the arbiter, its publishers and its inputs."""
        self.cell = load_preset(self.value("preset")).load_cell()
        settings = ArbiterSettings(**{name: self.value(name) for name in ArbiterSettings.model_fields})
        self.arbiter = Arbiter(self.cell, Kinematics(self.cell), settings)
        publisher = self.create_lifecycle_publisher
        self._arms = publisher(JointTrajectoryMsg, self.cell.controllers.arm_topic, COMMAND)
        self._grippers = publisher(JointTrajectoryMsg, self.cell.controllers.gripper_topic, COMMAND)
        self._states = publisher(GateStateMsg, topics.GATE_STATE, LATEST)
        self._task_publisher = publisher(TaskMsg, topics.TASK, LATCHED)
        self._markers = publisher(MarkerArray, topics.MARKERS, LATEST)
        super().configure()
        for expert in Expert:
            self.create_subscription(ActionChunkMsg, topics.chunk(expert), partial(self._receive_chunk, expert), LATEST)
        self.create_service(Trigger, topics.HOLD, self._hold)
        self.create_service(Trigger, topics.RESET, self._reset)

    def activate(self) -> None:
        """Start to tick and to take goals."""
        self._state: GateState | None = None
        self._tasks = TaskServer(self, self.arbiter, self._task_publisher)
        self.create_timer(1.0 / self.value("rate"), self._tick)
        self.create_timer(MARKERS_PERIOD_S, self._mark)

    def deactivate(self) -> None:
        """End the task; the last trajectory brings the arms to rest by itself."""
        self._tasks.stop(Outcome.FAULT, "the arbiter was deactivated")

    # ---- in --------------------------------------------------------------------------------------------------------------

    def _receive_joint_state(self, message: JointStateMsg) -> None:
        with self.reported("joint states"):
            try:
                state = joint_state_from_message(message)
                self.arbiter.on_joint_state(state)
            except StageError as error:
                self.arbiter.on_bad_joint_state(_reason(error), str(error))
                raise
            with self._inputs_lock:
                self._assembler.add_joint_state(state)
            self.health.event("joint states")

    def _receive_chunk(self, expert: Expert, message: ActionChunkMsg) -> None:
        with self.reported(f"{expert.value} chunk"):
            try:
                chunk = chunk_from_message(message)
                if chunk.source is not expert:
                    raise StageError(f"chunk.source is {chunk.source.value} on the topic of the {expert.value} expert")
            except StageError as error:
                self.arbiter.on_bad_input(_reason(error), str(error))
                raise
            verdict = self.arbiter.on_chunk(chunk, self.now_ns())
            self.health.event(f"{expert.value} chunk")
            if not verdict.ok and self.arbiter.task_id:
                raise StageError(f"refused ({verdict.reason.name}): {verdict.text}")

    def on_image(self, camera: str, stamp_ns: int) -> None:
        """Once all cameras have shown a moment, the gate scores it."""
        self._image_ns[camera] = stamp_ns
        scene_ns = self._image_ns.get("scene", 0)
        complete = all(self._image_ns.get(name, 0) >= scene_ns - SAME_MOMENT_NS for name in self._assembler.cameras)
        if complete and scene_ns > self._scored_ns:
            self._scored_ns = scene_ns
            self.worker.give(scene_ns)

    def work(self, item: int) -> None:
        """Score the images of this stamp."""
        self.infer("gate", item, self._score)

    def _score(self, observation: Observation) -> None:
        [score] = self.model.score([observation])
        self._scores.append((score, observation.stamp_ns))

    def _hold(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.arbiter.hold("the operator called /harmowam/hold")
        response.success, response.message = True, "the arms brake to rest and stay there until /harmowam/reset"
        return response

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.arbiter.reset()
        response.success, response.message = True, "ready for a task"
        return response

    # ---- out -------------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now_ns, started_s = self.now_ns(), time.monotonic()
        while self._scores:
            self.arbiter.on_gate_score(*self._scores.popleft())
        self._tasks.attend(now_ns)
        output = self.arbiter.tick(now_ns)
        for publisher, trajectory in ((self._arms, output.arm_trajectory), (self._grippers, output.gripper_trajectory)):
            if trajectory is not None:
                publisher.publish(trajectory_to_message(trajectory))
                self.health.event("arm trajectory" if publisher is self._arms else "gripper trajectory")
        self._state = output.state
        self._states.publish(gate_state_to_message(output.state))
        self._tasks.report(output, now_ns)
        if output.state.status in (Status.HOLDING, Status.LATCHED):
            self.health.fault("arbiter", output.state.text, Level.WARN)
        else:
            self.health.clear("arbiter")
        self.health.latency("tick", time.monotonic() - started_s)

    def _mark(self) -> None:
        if self._state is not None and self._markers.get_subscription_count():
            now_ns = self.now_ns()
            self._markers.publish(gate_markers(self.cell, self.arbiter.paths(now_ns), self._state, now_ns))


def _reason(error: StageError) -> Reason:
    return Reason.NOT_FINITE if "finite" in str(error) else Reason.MALFORMED


def main() -> None:
    """Run the node."""
    run(ArbiterNode)


if __name__ == "__main__":
    main()
