"""Arbiter node: chunks, joint states and images in; the only trajectories that the arms get, and the gate's state, out."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any
from zlib import crc32

from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import Drift as DriftMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from harmowam_msgs.msg import Task as TaskMsg
from rclpy.event_handler import SubscriptionEventCallbacks
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg
from visualization_msgs.msg import MarkerArray

from harmowam_core import topics
from harmowam_core.inbox import take_waiting
from harmowam_core.kinematics import Kinematics
from harmowam_core.lifecycle import run
from harmowam_core.messages import (
    chunk_from_message,
    drift_from_message,
    gate_state_to_message,
    is_failure,
    joint_state_from_message,
    stamp_from_message,
    trajectory_to_message,
)
from harmowam_core.policy_node import PolicyNode
from harmowam_core.qos import CHUNK, COMMAND, LATCHED, LATEST
from harmowam_core.stages import Expert, JointState, Observation, StageError
from harmowam_core.status import GateState, Outcome, Reason
from harmowam_core.wan_preset import load_any_preset
from harmowam_gate.announcer import Announcer
from harmowam_gate.arbiter import LATE_S, Arbiter, ArbiterOutput, ResetRefused
from harmowam_gate.gate_network import load_gate
from harmowam_gate.graph_watch import GraphWatch
from harmowam_gate.markers import gate_markers
from harmowam_gate.path_server import PathServer
from harmowam_gate.settings import ArbiterSettings, bounds, check_timing
from harmowam_gate.task_server import TaskServer

MARKERS_PERIOD_S = 0.1
ARM_PERIOD_S = 0.005
GRAPH_PERIOD_S = 0.1
MISMATCH_PERIOD_S = 0.5
REAL_TIME = 30  # after ros2_control's 50
SAME_MOMENT_NS = 50_000_000  # images this close belong to one observation


class ArbiterNode(PolicyNode):
    """Runs the arbiter at a steady rate, and the gate, in the worker's thread, on each new set of images.

    Inside, times are of the steady clock; stamps are mapped when they come in and when they go out.
    """

    def __init__(self, model: Any = None) -> None:
        self._scores: deque[tuple[float, int]] = deque(maxlen=10)
        self._image_ns: dict[str, int] = {}
        self._scored_ns = 0
        super().__init__("arbiter", model)

    def declare(self) -> None:
        """Add the rate and the arbiter's settings."""
        super().declare()
        self.parameter("rate", 50.0, "Ticks a second, Hz.", lower=10.0, upper=100.0, read_only=True)
        for name, field in ArbiterSettings.model_fields.items():
            self.parameter(name, field.default, field.description or name, read_only=True, **bounds(field))

    def load(self, preset: str, **options: Any) -> Any:
        """The preset's gate."""
        return load_gate(preset, **options)

    def configure(self) -> None:
        """Make the arbiter, its publishers and its inputs."""
        self.cell = load_any_preset(self.value("preset")).load_cell()
        settings = ArbiterSettings(**{name: self.value(name) for name in ArbiterSettings.model_fields})
        check_timing(settings, self.value("rate"), LATE_S)
        arbiter = Arbiter(self.cell, Kinematics(self.cell), settings, 1.0 / self.value("rate"))
        before: Arbiter | None = getattr(self, "arbiter", None)
        if before is not None:  # of an earlier configuration: only a reset ends its latch
            arbiter.keep_latch(before)
        self.arbiter = arbiter
        self.clock = self.stamp_clock()
        self._chunks = self._chunks_refused = 0
        publisher, controllers = self.create_lifecycle_publisher, self.cell.controllers
        self._arms = publisher(JointTrajectoryMsg, controllers.arm_topic, COMMAND)
        self._grippers = publisher(JointTrajectoryMsg, controllers.gripper_topic, COMMAND)
        self._states = publisher(GateStateMsg, topics.GATE_STATE, LATEST)
        self._markers = publisher(MarkerArray, topics.MARKERS, LATEST)
        super().configure()
        contract = self._feed.contract
        if renamed := contract.observation.joints.names:
            raise ValueError(
                f"contract '{contract.name}' renames {sorted(renamed)}: that serves recordings; arms are commanded by the profile's names, "
                "so give them there as the driver has them"
            )
        self._task_publisher = publisher(TaskMsg, contract.observation.instruction.topic, LATCHED)
        [self._joint_states] = [s for s in self.subscriptions if s.callback == self._receive_joint_state]
        for expert in Expert:
            watched = SubscriptionEventCallbacks(liveliness=partial(self._on_liveliness, expert))
            receive = partial(self._receive_chunk, expert)
            self.create_subscription(ActionChunkMsg, topics.chunk(expert), receive, CHUNK, event_callbacks=watched)
        self.create_subscription(DriftMsg, topics.DRIFT, self._receive_drift, LATEST)
        self.create_service(Trigger, topics.HOLD, self._hold)
        self.create_service(Trigger, topics.RESET, self._reset)
        commanded = {self._arms.topic_name, self._grippers.topic_name, controllers.arm_topic, controllers.gripper_topic}
        self._graph = GraphWatch(self, commanded, self._joint_states.topic_name)

    def activate(self) -> None:
        """Start to tick and to take goals; refused where somebody's quality of service does not fit."""
        self._refuse_mismatches()
        self._state: GateState | None = None
        self._announcer = Announcer(self)
        self._tasks = TaskServer(self, self.arbiter, self._task_publisher)
        self._path_server = PathServer(self, self.arbiter, self.cell)
        self.create_timer(1.0 / self.value("rate"), self._tick)
        self.create_timer(ARM_PERIOD_S, self._watch_arm)
        self.create_timer(GRAPH_PERIOD_S, self._watch_graph)
        self.create_timer(MISMATCH_PERIOD_S, self._watch_mismatches)
        self.create_timer(MARKERS_PERIOD_S, self._mark)

    def deactivate(self) -> None:
        """End the task; the last trajectory brings the arms to rest by itself."""
        for server in (self._tasks, self._path_server):
            server.stop(Outcome.FAULT, "the arbiter was deactivated", time.monotonic_ns())

    # ---- in --------------------------------------------------------------------------------------------------------------

    def _steady(self, stamp_ns: int) -> int:
        """By the steady clock; what comes just after a jump of the other clock must not wait for the next tick to be understood.

        StageError for the future: what is sensed then would never grow old, and hide all that comes after.
        """
        now_ns = self.steady_ns(self.clock)
        steady_ns = self.clock.to_steady(stamp_ns, now_ns)
        if steady_ns > now_ns + self.clock.slack_ns:
            ahead_s = (steady_ns - now_ns) * 1e-9
            raise StageError(f"stamped {ahead_s:.3f} s in the future; synchronise the computers' clocks")
        return steady_ns

    def _receive_joint_state(self, message: JointStateMsg) -> None:
        with self.reported("joint states"):
            try:
                state = joint_state_from_message(message)
                self.arbiter.on_joint_state(JointState(self._steady(state.stamp_ns), state.names, state.positions, state.velocities))
            except StageError as error:
                self.arbiter.on_bad_joint_state(error)
                raise
            with self._inputs_lock:
                self._assembler.add_joint_state(state)
            self.health.event("joint states")

    def _receive_chunk(self, expert: Expert, message: ActionChunkMsg) -> None:
        with self.reported(f"{expert.value} chunk"):
            if is_failure(message):
                self.arbiter.on_expert_lost(expert, "failed")
                raise StageError("the expert says that it has failed")
            self._chunks += 1
            try:
                chunk = chunk_from_message(message)
                if chunk.source is not expert:
                    raise StageError(f"chunk.source is {chunk.source.value} on the topic of the {expert.value} expert")
            except StageError as error:
                self._chunks_refused += 1
                self.arbiter.on_bad_chunk(expert, error)
                self._tell_refusal()
                raise
            stamp_ns = self.clock.to_steady(chunk.stamp_ns, self.steady_ns(self.clock))
            verdict = self.arbiter.on_chunk(replace(chunk, stamp_ns=stamp_ns), time.monotonic_ns())
            self.health.event(f"{expert.value} chunk")
            if not verdict.ok and verdict.reason is not Reason.NO_TASK and self.arbiter.task_id:
                self._chunks_refused += 1
                self._tell_refusal()
                raise StageError(f"refused ({verdict.reason.name}): {verdict.text}")

    def _tell_refusal(self) -> None:
        """At once; where ticks are missing, the rest of the state is of before that, and the next tick tells."""
        now_ns, deadlines = time.monotonic_ns(), self.arbiter.watch.deadlines
        if deadlines is None or not deadlines.overdue(now_ns):
            self._publish_state(self.arbiter.state(now_ns))

    def _on_liveliness(self, expert: Expert, event: Any) -> None:
        """The middleware hears from the expert's process, or does not any more."""
        if event.alive_count == 0:
            self.arbiter.on_expert_lost(expert, "does not answer")
            self.health.fault(f"{expert.value} expert", "its process does not answer")
            if self.active:  # the lease has taken long enough
                self._tick()
        else:
            self.arbiter.on_expert_back(expert)
            self.health.clear(f"{expert.value} expert")

    def _receive_drift(self, message: DriftMsg) -> None:
        with self.reported("drift"):
            drift = drift_from_message(message)
            self.arbiter.on_drift(replace(drift, stamp_ns=self._steady(drift.stamp_ns)))

    def _receive_image(self, camera: str, message: Image) -> None:
        with self.reported(f"{camera} stamp"):
            self.arbiter.watch.images.on_image(camera, self._steady(stamp_from_message(message.header.stamp)), crc32(message.data))
            super()._receive_image(camera, message)

    def on_image(self, camera: str, stamp_ns: int) -> None:
        """Once all cameras have shown a moment, the gate scores it."""
        self._image_ns[camera] = stamp_ns
        scene_ns = self._image_ns.get("scene", 0)
        complete = all(self._image_ns.get(name, 0) >= scene_ns - SAME_MOMENT_NS for name in self._assembler.cameras)
        if complete and scene_ns != self._scored_ns:
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
        try:
            self.arbiter.reset(time.monotonic_ns())
        except ResetRefused as error:
            response.success, response.message = False, f"still held: {error}"
        else:
            response.success, response.message = True, "ready for a task"
        return response

    # ---- out -------------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now_ns = self.steady_ns(self.clock, slew=True)
        self._drain_joint_states()
        while self._scores:
            score, stamp_ns = self._scores.popleft()
            self.arbiter.on_gate_score(score, self.clock.to_steady(stamp_ns, now_ns))
        self._tasks.attend(now_ns)
        self._path_server.attend(now_ns)
        output = self.arbiter.tick(now_ns)
        try:
            output = self.arbiter.checked(output, now_ns, time.monotonic_ns())
            self._send(output)
        except Exception as error:  # what cannot be sent must not end the node
            output = self._failed(output, now_ns, error)
        self._tasks.report(output, now_ns)
        self._path_server.report(output, now_ns)
        self._announcer.tell(output.state)
        deadlines = self.arbiter.watch.deadlines
        assert deadlines is not None  # the arbiter was given a period
        self.health.figure("ticks missed", f"{deadlines.total_missed} of {deadlines.total}")
        self.health.figure("chunks refused", f"{self._chunks_refused} of {self._chunks}")
        self.health.latency("tick", (time.monotonic_ns() - now_ns) * 1e-9)

    def _send(self, output: ArbiterOutput) -> None:
        """All of it, or, where some of it is no message, nothing; the arms last, so that what fails before was not sent to them."""
        messages = [
            (publisher, what, trajectory_to_message(replace(trajectory, stamp_ns=self.clock.to_stamp(trajectory.stamp_ns))))
            for publisher, what, trajectory in (
                (self._grippers, "gripper trajectory", output.gripper_trajectory),
                (self._arms, "arm trajectory", output.arm_trajectory),
            )
            if trajectory is not None
        ]
        self._states.publish(gate_state_to_message(self._stamped(output.state)))
        for publisher, what, message in messages:
            publisher.publish(message)
            self.health.event(what)

    def _failed(self, output: ArbiterOutput, now_ns: int, error: Exception) -> ArbiterOutput:
        """What could not be sent becomes a brake, which is."""
        failed = self.arbiter.checked(self.arbiter.fail(now_ns, error), now_ns, time.monotonic_ns())
        if failed.outcome is None:
            failed = replace(failed, outcome=output.outcome)
        try:
            self._send(failed)
        except Exception as again:  # what was sent last ends at rest by itself
            self.arbiter.not_sent(now_ns)
            self.get_logger().error(str(again), throttle_duration_sec=1.0)
        return failed

    def _stamped(self, state: GateState) -> GateState:
        self._state = replace(state, stamp_ns=self.clock.to_stamp(state.stamp_ns))
        return self._state

    def _publish_state(self, state: GateState) -> None:
        self._states.publish(gate_state_to_message(self._stamped(state)))

    def _drain_joint_states(self) -> None:
        """Take those that wait already: an arm is not lost because its news stand in a queue behind this tick."""
        for message, _ in take_waiting(self._joint_states):
            self._receive_joint_state(message)

    def _watch_arm(self) -> None:
        """An arm is lost the moment that it is: not for the rest of a tick, nor until this is called again."""
        if not self.arbiter.loses_arm(time.monotonic_ns() + round(ARM_PERIOD_S * 1e9)):
            return
        self._drain_joint_states()
        left_s = self.arbiter.settings.joint_state_max_age_s - self.arbiter.watch.joint_state_age_s(time.monotonic_ns())
        if left_s < ARM_PERIOD_S:
            time.sleep(max(left_s, 0.0))
            self._drain_joint_states()
        if self.arbiter.loses_arm(time.monotonic_ns()):
            self._tick()

    def _watch_graph(self) -> None:
        self.arbiter.watch.on_publishers(self._graph.publishers())
        if self._graph.driver_restarted():
            self.arbiter.watch.on_driver_restarted()

    def _refuse_mismatches(self) -> None:
        if mismatches := self._graph.mismatches():
            raise StageError("quality of service: " + "; ".join(mismatches))

    def _watch_mismatches(self) -> None:
        """Discovery takes its time: who turns up later must fit, too, or the node is not active any more."""
        try:
            self._refuse_mismatches()
        except StageError as error:
            self.get_logger().error(f"deactivating: {error}")
            self.health.fault("quality of service", str(error))
            self.trigger_deactivate()
        else:
            self.health.clear("quality of service")

    def _mark(self) -> None:
        if self._state is not None and self._markers.get_subscription_count():
            paths = self.arbiter.paths(time.monotonic_ns())
            self._markers.publish(gate_markers(self.cell, paths, self._state, self.now_ns()))


def main() -> None:
    """Run the node."""
    run(ArbiterNode, real_time=REAL_TIME)


if __name__ == "__main__":
    main()
