"""Planner and arbiter over DDS, in one process with arms that follow exactly; test_moves.py has the physics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import rclpy
from harmowam_msgs.action import MoveTo
from rclpy.action import ActionClient
from rclpy.lifecycle import TransitionCallbackReturn

from harmowam_bringup.planning.planner_node import PlannerNode
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.status import Outcome
from harmowam_core.testing import FakeCell, graph, wait_for
from harmowam_gate.arbiter_node import ArbiterNode

CELL = load_cell()
AWAY = Kinematics(CELL).home()
AWAY[[0, 3, 7]] += (0.4, -0.3, -0.3)
# One Python process plays all parts: what is late here says nothing of the arbiter.
PATIENCE = {"joint_state_max_age_s": 0.5, "deadline_slow_misses": 25, "deadline_hold_misses": 25, "stall_s": 1.0}


class Gate:
    """Never asked for anything that matters here."""

    def score(self, observations):
        return [0.1 for _ in observations]


class Client:
    """Sends goals and hears feedback."""

    def __init__(self, cell: FakeCell) -> None:
        self.feedback: list[tuple[str, float]] = []
        self._client = ActionClient(cell, MoveTo, topics.MOVE_TO)
        assert self._client.wait_for_server(timeout_sec=10.0)

    def send(self, target: str = "", q: np.ndarray | None = None):
        names = [] if q is None else list(CELL.arm_joint_names)
        goal = MoveTo.Goal(target=target, joint_names=names, positions=[] if q is None else q.tolist())
        sent = self._client.send_goal_async(goal, feedback_callback=lambda m: self.feedback.append((m.feedback.stage, m.feedback.progress)))
        return wait_for(lambda: sent.done() and sent.result(), "answer", 20.0)

    def result(self, handle) -> MoveTo.Result:
        done = handle.get_result_async()
        return wait_for(lambda: done.done() and done.result().result, "result", 40.0)

    def move(self, target: str = "", q: np.ndarray | None = None) -> MoveTo.Result:
        return self.result(self.send(target, q))


@pytest.fixture
def move_client() -> Iterator[Callable[[], Client]]:
    with graph(partial(ArbiterNode, Gate()), PlannerNode, parameters=PATIENCE) as (cell, nodes):
        wait_for(lambda: all(node.active for node in nodes), "active nodes", 30.0, meanwhile=cell.sense)

        def measuring() -> Client:
            cell.keep_measuring()
            return Client(cell)

        yield lambda measures=True: measuring() if measures else Client(cell)


def test_there_and_back_refused_cancelled_and_away(move_client) -> None:
    client = move_client()
    there = client.move(q=AWAY)
    assert there.outcome == Outcome.SUCCEEDED and there.duration_s > 0.5, there.why
    assert client.feedback[0] == ("planning", 0.0) and client.feedback[-1][0] == "moving" and client.feedback[-1][1] > 0.8
    assert client.move("home").outcome == Outcome.SUCCEEDED
    unknown = client.move("moon")
    assert unknown.outcome == Outcome.REFUSED and "unknown target 'moon'" in unknown.why
    client.feedback.clear()
    handle = client.send(q=AWAY)
    wait_for(lambda: any(stage == "moving" and progress > 0.2 for stage, progress in client.feedback), "motion")
    second = client.move("home")
    assert second.outcome == Outcome.REFUSED and "another move" in second.why
    handle.cancel_goal_async()
    assert client.result(handle).outcome == Outcome.CANCELLED
    away = client.move("retreat")
    assert away.outcome == Outcome.SUCCEEDED, away.why


def test_moveit_without_its_package_or_configuration_is_refused_at_configure(domain_id: int) -> None:
    rclpy.init(domain_id=domain_id, args=["--ros-args", "-p", "planner:=moveit", "-p", "autostart:=false"])
    node = PlannerNode()
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "apt install ros-jazzy-moveit-py" in node.health.summary().message or "moveit_config:=FILE" in node.health.summary().message
    node.destroy_node()
    rclpy.try_shutdown()


def test_without_joint_states_it_says_so(move_client) -> None:
    refused = move_client(measures=False).move("home")
    assert refused.outcome == Outcome.REFUSED and "no usable joint states" in refused.why
