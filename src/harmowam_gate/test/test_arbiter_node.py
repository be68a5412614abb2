"""The arbiter's node over real DDS, with a stand-in gate and chunks from the test."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from threading import Event

import numpy as np
import pytest
import yaml
from harmowam_msgs.action import ExecuteTask
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from harmowam_msgs.msg import Task as TaskMsg
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg
from visualization_msgs.msg import MarkerArray

from harmowam_core import topics
from harmowam_core.contract import load_contract
from harmowam_core.messages import (
    chunk_to_message,
    failure_to_message,
    gate_state_from_message,
    image_to_message,
    trajectory_from_message,
)
from harmowam_core.qos import CHUNK, COMMAND, LATCHED, LATEST
from harmowam_core.stages import ActionChunk, Expert
from harmowam_core.status import Outcome, Reason, Status
from harmowam_core.testing import FakeCell, graph, wait_for
from harmowam_gate.arbiter_node import ArbiterNode


class Gate:
    """Says what it is told to."""

    value = 0.1

    def score(self, observations):
        return [self.value for _ in observations]


@dataclass
class Running:
    """A graph of the arbiter's node and the test's own publishers."""

    cell: FakeCell
    node: ArbiterNode
    gate: Gate
    client: ActionClient
    joint_states: Timer | None = None
    publishers: dict = field(default_factory=dict)
    chunk_id: int = 0

    def sense(self, *experts, spoil=None):
        """What the rest of the graph publishes in one moment: sensors and the experts' chunks, 2 cm down in 1.2 s."""
        stamp_ns = self.cell.sense()
        self.chunk_id += 1
        arms = self.cell.cell.arms
        positions = np.tile(np.float32([arm.home_tcp_position for arm in arms]), (12, 1, 1))
        positions[:, 0, 2] -= np.linspace(0, 0.06, 12, dtype=np.float32)
        orientations = np.tile(np.float32([arm.home_tcp_orientation for arm in arms]), (12, 1, 1))
        for expert in experts:
            chunk = ActionChunk(
                stamp_ns, self.chunk_id, expert, 0.1, self.cell.cell.arm_names, positions, orientations, np.ones((12, 2), np.float32)
            )
            message = chunk_to_message(chunk)
            if spoil is not None:
                spoil(message)
            self.publishers[expert].publish(message)

    def state(self):
        """The newest gate state."""
        heard = self.cell.heard[topics.GATE_STATE]
        return gate_state_from_message(heard[-1]) if heard else None

    def reaches(self, condition, what, *experts, **options):
        """Sense until the gate state meets ``condition``."""
        return wait_for(
            lambda: (s := self.state()) is not None and condition(s) and s, what, 30.0, meanwhile=partial(self.sense, *experts, **options)
        )

    def send(self, instruction="put the apple on the plate", time_limit_s=60.0):
        """A goal; returns its accepted handle."""
        assert self.client.wait_for_server(timeout_sec=10.0)
        sent = self.client.send_goal_async(ExecuteTask.Goal(instruction=instruction, time_limit_s=time_limit_s))
        return wait_for(lambda: sent.done() and sent.result(), "goal response")

    def result(self, handle, *experts):
        """The goal's result."""
        future = handle.get_result_async()
        return wait_for(lambda: future.done() and future.result().result, "result", 30.0, meanwhile=partial(self.sense, *experts))

    def reset(self):
        """As soon as the arms are at rest."""
        return wait_for(lambda: self.call(topics.RESET).success, "reset")

    def call(self, service):
        """Call a trigger."""
        client = self.cell.create_client(Trigger, service)
        assert client.wait_for_service(timeout_sec=10.0)
        future = client.call_async(Trigger.Request())
        return wait_for(lambda: future.done() and future.result(), service)


@pytest.fixture
def running() -> Iterator[Running]:
    gate = Gate()
    # One Python process plays all parts: what is late here says nothing of the arbiter.
    patience = {"joint_state_max_age_s": 0.5, "deadline_slow_misses": 25, "deadline_hold_misses": 25, "stall_s": 1.0}
    with graph(partial(ArbiterNode, gate), parameters=patience) as (cell, [node]):
        client = ActionClient(cell, ExecuteTask, topics.EXECUTE_TASK)
        run = Running(cell, node, gate, client)
        run.joint_states = cell.keep_measuring()
        cell.listen(GateStateMsg, topics.GATE_STATE, LATEST)
        cell.listen(TaskMsg, topics.TASK, LATCHED)
        cell.listen(MarkerArray, topics.MARKERS, LATEST)
        run.publishers = {expert: cell.create_publisher(ActionChunkMsg, topics.chunk(expert), CHUNK) for expert in Expert}
        wait_for(lambda: node.active and all(p.get_subscription_count() for p in run.publishers.values()), "active node", 30.0)
        yield run


def test_a_task_from_goal_to_hold(running):
    """Idle, follow the reactive expert, hold when it is gone, go on, be cancelled."""
    cell, commands = running.cell, running.cell.heard[running.cell.cell.controllers.arm_topic]
    running.reaches(lambda s: s.status is Status.IDLE and s.score == pytest.approx(0.1), "idle state with a score", Expert.REACTIVE)
    assert not commands

    handle = running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing", Expert.REACTIVE, Expert.PREDICTIVE)
    state = running.reaches(lambda s: s.expert is Expert.REACTIVE and s.trajectory_id > 5, "trajectories", Expert.REACTIVE)
    assert (state.task_id, state.instruction, state.sub_stage) == (1, "put the apple on the plate", "approach")
    assert 0 < state.reactive_chunk_age_s < 0.8 and state.reactive_chunk_id > 0
    assert cell.heard[topics.TASK][-1].instruction == "put the apple on the plate"
    trajectory = trajectory_from_message(commands[-1])
    assert trajectory.names == cell.cell.arm_joint_names
    assert not trajectory.velocities[-1].any() and 0.1 < trajectory.times_s[-1] < 0.75
    namespaces = {marker.ns for marker in wait_for(lambda: cell.heard[topics.MARKERS], "markers")[-1].markers}
    assert {"workspace", "gate", "reactive left"} <= namespaces

    state = running.reaches(lambda s: s.reason is Reason.CHUNK_STALE, "hold without chunks")
    assert state.status is Status.HOLDING and "reactive chunk" in state.text
    running.gate.value = 0.9
    running.reaches(lambda s: s.expert is Expert.PREDICTIVE, "the predictive expert", Expert.PREDICTIVE)

    cancelled = handle.cancel_goal_async()
    wait_for(cancelled.done, "cancellation")
    result = running.result(handle)
    assert (Outcome(result.outcome), result.why) == (Outcome.CANCELLED, "cancelled by the caller")
    assert cell.heard[topics.TASK][-1].task_id == 0


def own_contract(folder, **observation):
    """A contract file that differs in these parts."""
    content = load_contract().model_dump(mode="json")
    for name, value in observation.items():
        content["observation"][name] |= value
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_tasks_are_told_on_the_topic_of_the_contract(tmp_path):
    path = own_contract(tmp_path, instruction={"topic": "/cell_7/task"})
    with graph(partial(ArbiterNode, Gate()), parameters={"contract": path}) as (cell, [node]):
        wait_for(lambda: node.active, "active node", 30.0)
        assert node.count_publishers("/cell_7/task") == node.count_subscribers("/cell_7/task") == 1
        wait_for(lambda: cell.count_subscribers("/cell_7/task") == 1, "the arbiter, as the cell sees it")
        assert cell.count_publishers(topics.TASK) == 1, "the stand-in cell's own"


def test_the_paper_scale_preset_has_an_arbiter_too():
    with graph(partial(ArbiterNode, Gate()), parameters={"preset": "wan2_2_5b"}) as (_, [node]):
        wait_for(lambda: node.active, "active node", 30.0)
        assert node.cell.arm_names == ("left", "right")


def test_joints_that_a_contract_renames_are_refused(tmp_path):
    path = own_contract(tmp_path, joints={"names": {"left_fr3_joint1": "shoulder"}})
    with graph(partial(ArbiterNode, Gate()), parameters={"contract": path}) as (cell, [node]):
        texts = cell.heard[topics.DIAGNOSTICS]
        wait_for(lambda: any("renames ['left_fr3_joint1']" in str(message) for message in texts), "why it cannot be configured")
        assert not node.active


def test_times_that_do_not_fit_the_rate_are_refused():
    with graph(partial(ArbiterNode, Gate()), parameters={"lookahead_s": 0.04}) as (cell, [node]):
        texts = cell.heard[topics.DIAGNOSTICS]
        wait_for(lambda: any("lookahead_s 0.04 is not above" in str(message) for message in texts), "why it cannot be configured")
        assert not node.active


def test_bad_input_is_refused_by_name(running):
    """The text tells of it for as long as it comes, also once the arm holds for want of good chunks."""
    running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing", Expert.REACTIVE)

    def not_finite(message):
        message.positions[4] = math.nan

    running.reaches(lambda s: "finite" in s.text and "positions" in s.text, "refusal of NaN", Expert.REACTIVE, spoil=not_finite)
    state = running.reaches(lambda s: s.status is Status.LATCHED, "latch", Expert.REACTIVE, spoil=not_finite)
    assert state.reason is Reason.NOT_FINITE and "reactive chunks" in state.text
    running.reset()
    running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing again", Expert.REACTIVE)

    def short(message):
        message.orientations = message.orientations[:-4]

    running.reaches(lambda s: "orientations" in s.text, "refusal of size", Expert.REACTIVE, spoil=short)
    counted = wait_for(lambda: (said := refused_of(running.cell)) and said[0] > 3 and said, "refusals in the diagnostics")
    assert counted[0] < counted[1]


def refused_of(cell) -> list[int]:
    """Chunks refused, and chunks, as the diagnostics say."""
    return [int(number) for number in cell.diagnosis("arbiter")[2].get("chunks refused", "").split(" of ") if number]


def test_a_refusal_after_a_stall_repeats_nothing_of_before(running):
    """The first word is that ticks were missed, not that the arm moves, as it did when the last one was heard."""
    running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing", Expert.REACTIVE)
    stalled = Event()

    def stall():
        timer.cancel()
        stalled.set()
        time.sleep(1.0)

    timer = running.node.create_timer(0.001, stall)
    assert stalled.wait(5.0)
    time.sleep(0.1)
    heard = running.cell.heard[topics.GATE_STATE]
    heard.clear()

    def short(message):
        message.orientations = message.orientations[:-4]

    running.sense(Expert.REACTIVE, spoil=short)
    wait_for(lambda: heard, "a state")
    first = gate_state_from_message(heard[0])
    assert (first.status, first.reason) == (Status.HOLDING, Reason.DEADLINE_MISSED)


def test_what_is_stamped_in_the_future_hides_nothing(running):
    """One joint state and one picture of a clock that is an hour ahead: named, and those that follow still count."""
    running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing", Expert.REACTIVE)
    faults, note = {}, running.node.health.fault
    running.node.health.fault = lambda what, text, *level: (faults.update({what: text}), note(what, text, *level))
    ahead_ns = running.cell.get_clock().now().nanoseconds + 3600 * 10**9
    running.cell._publish_home(ahead_ns, 0.0)
    camera = running.cell.cell.cameras[0]
    picture = np.zeros((camera.height, camera.width, 3), np.uint8)
    running.cell._images[camera.name].publish(image_to_message(picture, ahead_ns, "x"))
    named = {"joint states", f"{camera.name} stamp"}
    wait_for(lambda: named <= set(faults), "word of both", meanwhile=partial(running.sense, Expert.REACTIVE))
    assert all("in the future; synchronise" in faults[what] for what in named)
    assert running.node.arbiter.watch.joint_state.stamp_ns < time.monotonic_ns() + 10**9
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing on", Expert.REACTIVE)
    for name, kept in running.node._assembler._images.items():
        assert kept[-1][0] < ahead_ns - 10**9, name


def test_goals_are_refused_with_a_reason_and_end_at_their_time(running):
    handle = running.send(time_limit_s=1.0)
    second = running.result(running.send("another"))
    assert Outcome(second.outcome) is Outcome.REFUSED and "still running" in second.why
    first = running.result(handle, Expert.REACTIVE)
    assert Outcome(first.outcome) is Outcome.TIME_LIMIT and 1.0 <= first.duration_s < 5.0


def test_hold_and_reset(running):
    handle = running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing", Expert.REACTIVE)
    assert running.call(topics.HOLD).success
    result = running.result(handle, Expert.REACTIVE)
    assert Outcome(result.outcome) is Outcome.CANCELLED and "/harmowam/hold" in result.why
    running.reaches(lambda s: s.status is Status.LATCHED, "latched")
    assert "reset" in running.result(running.send()).why
    running.reset()
    running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing again", Expert.REACTIVE)


def test_a_latch_outlives_another_configuration(running):
    running.call(topics.HOLD)
    held = running.reaches(lambda s: s.status is Status.LATCHED, "latched")
    node = running.node
    for change in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure, node.trigger_activate):
        assert change() == TransitionCallbackReturn.SUCCESS
    running.cell.heard[topics.GATE_STATE].clear()
    again = running.reaches(lambda s: True, "a state")
    assert (again.status, again.reason, again.text) == (held.status, held.reason, held.text)
    assert "reset" in running.result(running.send()).why
    running.reset()
    running.reaches(lambda s: s.status is Status.IDLE, "idle")


def test_an_expert_that_fails_or_is_gone_is_replaced_and_announced(running):
    """By its own word, then by the middleware: its publisher vanishes between two chunks."""
    running.send()
    both = (Expert.REACTIVE, Expert.PREDICTIVE)
    running.reaches(lambda s: s.expert is Expert.REACTIVE, "the reactive expert", *both)

    def fail():
        running.publishers[Expert.REACTIVE].publish(failure_to_message(running.cell.sense(), Expert.REACTIVE))
        running.sense(Expert.PREDICTIVE)

    failed = "degraded: the reactive expert failed"
    wait_for(lambda: (s := running.state()).expert is Expert.PREDICTIVE and failed in s.text, "the predictive expert", meanwhile=fail)
    wait_for(lambda: "degraded" in running.cell.diagnosis("arbiter")[1], "diagnosis", meanwhile=partial(running.sense, Expert.PREDICTIVE))
    running.reaches(lambda s: s.expert is Expert.REACTIVE, "the reactive expert again", *both)
    running.cell.destroy_publisher(running.publishers[Expert.REACTIVE])
    replaced = running.reaches(lambda s: s.expert is Expert.PREDICTIVE and "does not answer" in s.text, "word of it", Expert.PREDICTIVE)
    assert replaced.reactive_chunk_age_s < 0.65


@pytest.mark.parametrize("topic", ["arm_topic", "gripper_topic"])
def test_a_second_publisher_on_a_command_topic_latches(running, topic):
    running.send()
    running.reaches(lambda s: s.status is Status.EXECUTING, "executing", Expert.REACTIVE)
    rogue = running.cell.create_publisher(JointTrajectoryMsg, getattr(running.cell.cell.controllers, topic), COMMAND)
    state = running.reaches(lambda s: s.status is Status.LATCHED, "latch", Expert.REACTIVE)
    assert state.reason is Reason.SECOND_PUBLISHER
    refused = wait_for(lambda: (said := running.call(topics.RESET)) and "brakes" not in said.message and said, "refusal")
    assert not refused.success and "publishers" in refused.message
    running.cell.destroy_publisher(rogue)
    running.reset()


def test_a_publisher_that_does_not_fit_deactivates_the_arbiter_by_name(running):
    running.cell.create_publisher(ActionChunkMsg, topics.chunk(Expert.REACTIVE), LATEST)
    wait_for(lambda: not running.node.active, "inactive arbiter", 5.0)
    level, text, _ = wait_for(
        lambda: (said := running.cell.diagnosis("arbiter")) and "quality of service" in said[1] and said, "diagnosis", 5.0
    )
    assert level == 2 and topics.chunk(Expert.REACTIVE) in text and "fake_cell" in text


def test_parameters_are_read_only_while_active(running):
    result = running.node.set_parameters([Parameter("tracking_rad", value=9.0), Parameter("rate", value=20.0)])
    assert not any(r.successful for r in result) and all("read-only" in r.reason for r in result)
    assert running.node.value("tracking_rad") == 0.12
