"""Planned moves over DDS, in the simulated cell with its physics; the auditor watches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harmowam_msgs.action import ExecuteTask, MoveTo
from harmowam_msgs.msg import GateState
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from harmowam_bringup.launch_yaml import read_launch
from harmowam_bringup.planning.embedded import EmbeddedPlanner
from harmowam_bringup.planning.protocol import PlanningScene
from harmowam_bringup.session import GraphSession, free_domain
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.qos import LATCHED, LATEST, SENSOR
from harmowam_core.status import Outcome

CELL = load_cell()
HOME = Kinematics(CELL).home()
LAUNCH = """launch:
  - node: {pkg: harmowam_sim, exec: cell_node, name: cell, param: [{name: camera_rate, value: 1.0, type: float}]}
  - node: {pkg: harmowam_gate, exec: arbiter_node, name: arbiter, param: [{name: joint_state_max_age_s, value: 0.5, type: float}]}
  - node: {pkg: harmowam_bringup, exec: planner_node, name: planner}
  - node: {pkg: harmowam_bringup, exec: auditor_node, name: auditor}
"""
FREE_RAD = 1.0  # of a random pose from home, any joint


class Robot:
    """What an operator sees and does."""

    def __init__(self, session: GraphSession) -> None:
        self.session = session
        self.joints, self.speeds = np.full(14, np.nan), np.full(14, np.nan)
        self.texts: set[str] = set()
        self.verdict: dict = {}
        self.stages: list[str] = []
        self.progress: list[float] = []
        node = session.node
        node.create_subscription(JointState, topics.JOINT_STATES, self._measure, SENSOR)
        node.create_subscription(GateState, topics.GATE_STATE, lambda m: self.texts.add(m.text), LATEST)
        node.create_subscription(String, topics.AUDITOR_VERDICT, lambda m: self.verdict.update(json.loads(m.data)), LATCHED)
        self.client = ActionClient(node, MoveTo, topics.MOVE_TO)
        session.spin(self.client.server_is_ready, 30, "planner")
        session.spin(lambda: np.isfinite(self.joints).all(), 10, "joint states")

    def _measure(self, message: JointState) -> None:
        index = [list(message.name).index(name) for name in CELL.arm_joint_names]
        self.joints, self.speeds = np.array(message.position)[index], np.array(message.velocity)[index]

    def _hear(self, message) -> None:
        self.stages.append(message.feedback.stage)
        self.progress.append(message.feedback.progress)

    def send(self, goal: MoveTo.Goal):
        """Send a goal; its handle."""
        sent = self.client.send_goal_async(goal, feedback_callback=self._hear)
        self.session.spin(sent.done, 10, "answer")
        return sent.result()

    def result(self, handle) -> MoveTo.Result:
        """Wait for the end."""
        done = handle.get_result_async()
        self.session.spin(done.done, 60, "end of the move")
        return done.result().result

    def move(self, target: str = "", q: np.ndarray | None = None) -> MoveTo.Result:
        """Go there."""
        names = [] if q is None else list(CELL.arm_joint_names)
        return self.result(self.send(MoveTo.Goal(target=target, joint_names=names, positions=[] if q is None else q.tolist())))

    def to_rest(self) -> None:
        """Wait until nothing moves."""
        self.session.spin(lambda: np.abs(self.speeds).max() < 0.01, 3, "arms at rest")


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    folder: Path = tmp_path_factory.mktemp("moves")
    path = folder / "moves.launch.yaml"
    path.write_text(LAUNCH)
    domain = free_domain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with GraphSession(read_launch(path), folder / "nodes.log", domain) as session:
            session.wait_active(90)
            yield Robot(session)


def random_pose(seed: int) -> np.ndarray:
    """Collision-free joints (14,) with a way home."""
    rng, planner = np.random.default_rng(seed), EmbeddedPlanner(PlanningScene.of(CELL))
    while True:
        q = HOME + rng.uniform(-FREE_RAD, FREE_RAD, 14)
        try:
            planner.plan(HOME, q)
        except ValueError:
            continue
        return q


def test_home_from_a_random_pose(robot: Robot) -> None:
    away = random_pose(1)
    gone = robot.move(q=away)
    assert gone.outcome == Outcome.SUCCEEDED, gone.why
    assert np.abs(robot.joints - away).max() <= 0.005
    robot.stages.clear()
    robot.progress.clear()
    home = robot.move("home")
    assert home.outcome == Outcome.SUCCEEDED, home.why
    assert np.abs(robot.joints - HOME).max() <= 0.005
    assert home.duration_s > 0.5 and 0 < home.planning_s < 10
    assert robot.stages[0] == "planning" and robot.stages[-1] == "moving"
    assert robot.progress == sorted(robot.progress) and robot.progress[-1] > 0.8
    assert "following a path" in robot.texts
    assert robot.verdict["trajectories"] > 20 and robot.verdict["violations"] == 0, robot.verdict


def test_refusals_say_why(robot: Robot) -> None:
    def refused(why: str, **goal) -> None:
        result = robot.move(**goal)
        assert result.outcome == Outcome.REFUSED and why in result.why, result.why

    before = robot.joints.copy()
    refused("unknown target 'somewhere'", target="somewhere")
    beyond = HOME.copy()
    beyond[3] = 0.5
    refused("beyond the limit of left_fr3_joint4", q=beyond)
    crossed = HOME.copy()
    crossed[1] += 1.0  # the left hand through the table
    refused("at the goal", q=crossed)
    result = robot.result(robot.send(MoveTo.Goal(joint_names=["elbow"], positions=[0.0])))
    assert result.outcome == Outcome.REFUSED and "unknown joint 'elbow'" in result.why
    assert np.abs(robot.joints - before).max() < 0.005


def test_not_while_a_task_runs(robot: Robot) -> None:
    tasks = ActionClient(robot.session.node, ExecuteTask, topics.EXECUTE_TASK)
    sent = tasks.send_goal_async(ExecuteTask.Goal(instruction="put the apple on the plate", time_limit_s=60.0))
    robot.session.spin(sent.done, 10, "answer")
    away = HOME.copy()
    away[0] += 0.3
    refused = robot.move(q=away)
    assert refused.outcome == Outcome.REFUSED and "a task is still running" in refused.why, refused.why
    cancelled = sent.result().cancel_goal_async()
    robot.session.spin(cancelled.done, 10, "cancellation")


def test_cancelled_on_the_way_it_comes_to_rest_and_goes_home_from_there(robot: Robot) -> None:
    goal = HOME.copy()
    goal[[0, 7]] += (0.9, 0.4)
    handle = robot.send(MoveTo.Goal(joint_names=list(CELL.arm_joint_names), positions=goal.tolist()))
    robot.session.spin(lambda: np.abs(robot.speeds).max() > 0.2, 20, "motion")
    cancelled = handle.cancel_goal_async()
    robot.session.spin(cancelled.done, 10, "cancellation")
    result = robot.result(handle)
    assert result.outcome == Outcome.CANCELLED, result.why
    robot.to_rest()
    assert np.abs(robot.joints - goal).max() > 0.1
    home = robot.move("retreat")
    assert home.outcome == Outcome.SUCCEEDED, home.why
    assert np.abs(robot.joints - HOME).max() <= 0.005
    assert robot.verdict["violations"] == 0, robot.verdict
