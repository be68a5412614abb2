"""Grippers that take actions: goals, one at a time; joined joint states; the node against an action server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from harmowam_msgs.action import ExecuteTask, FollowPath
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState as JointStateMsg
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from harmowam_bringup.gripper import gripper_node
from harmowam_bringup.gripper.commands import (
    Command,
    GripperError,
    action_type,
    command_for,
    goal_of,
    joint_position,
    opening_of,
    succeeded,
)
from harmowam_bringup.gripper.follower import GRACE_S, RETRY_S, Follower, Step
from harmowam_bringup.gripper.joined_states import MAX_AGE_S, JoinedStates
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.messages import joint_state_to_message, trajectory_to_message
from harmowam_core.qos import COMMAND, SENSOR
from harmowam_core.stages import JointState, JointTrajectory

FRANKA, ROBOTIQ = load_cell("franka_dual"), load_cell("ur5e_robotiq")
NOW_NS = 1_700_000_000_000_000_000

# ---- goals -----------------------------------------------------------------------------------------------------------------


def test_a_franka_hand_grasps_with_force_and_moves_open() -> None:
    grasp = command_for(FRANKA.gripper, 0.0)
    assert (grasp.package, grasp.kind, grasp.suffix) == ("franka_msgs", "Grasp", "/grasp")
    assert grasp.fields["width"] == 0 and grasp.fields["force"] == 30 and grasp.fields["epsilon.outer"] > 0.08
    assert command_for(FRANKA.gripper, 1.0) == Command("franka_msgs", "Move", "/move", {"width": 0.08, "speed": 0.1})


def test_a_robotiq_gripper_turns_its_knuckle() -> None:
    shut = command_for(ROBOTIQ.gripper, 0.0)
    assert shut == Command("control_msgs", "GripperCommand", "", {"command.position": 0.7929, "command.max_effort": 40.0})
    assert command_for(ROBOTIQ.gripper, 1.0).fields["command.position"] == 0


@pytest.mark.parametrize("cell", [FRANKA, ROBOTIQ])
def test_openings_and_joint_positions_are_inverse(cell: Any) -> None:
    for opening in np.linspace(0, 1, 7):
        assert opening_of(cell.gripper, joint_position(cell.gripper, opening)) == pytest.approx(opening)


@pytest.mark.parametrize("opening", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_opening_is_refused(opening: float) -> None:
    with pytest.raises(ValueError, match="expected a number in"):
        command_for(FRANKA.gripper, opening)
    with pytest.raises(ValueError, match="expected a number in"):
        Follower(5.0).want(opening)


def test_a_gripper_that_follows_trajectories_takes_no_commands() -> None:
    with pytest.raises(ValueError, match="follows trajectories by itself"):
        command_for(FRANKA.gripper.model_copy(update={"interface": "trajectory"}), 1.0)


def test_goals_are_filled_by_path_and_strange_fields_refused() -> None:
    action = SimpleNamespace(__name__="Grasp", Goal=lambda: SimpleNamespace(width=0.0, epsilon=SimpleNamespace(inner=0.0)))
    goal = goal_of(action, {"width": 0.08, "epsilon.inner": 0.5})
    assert (goal.width, goal.epsilon.inner) == (0.08, 0.5)
    with pytest.raises(GripperError, match="has no field 'epsilon.far'"):
        goal_of(action, {"epsilon.far": 1.0})
    assert goal_of(FollowPath, {"speed_scale": 0.5}).speed_scale == 0.5


def test_packages_that_are_missing_are_named_with_the_remedy() -> None:
    assert action_type("harmowam_msgs", "FollowPath") is FollowPath
    with pytest.raises(GripperError, match="surely_not_there/action/Move, which is not installed: build surely_not_there from source"):
        action_type("surely_not_there", "Move")
    with pytest.raises(GripperError, match="harmowam_msgs/action/Fly"):
        action_type("harmowam_msgs", "Fly")


def test_an_object_between_the_fingers_is_a_success() -> None:
    assert succeeded(SimpleNamespace(success=True, error="")) and not succeeded(SimpleNamespace(success=False, error="x"))
    assert succeeded(SimpleNamespace(reached_goal=False, stalled=True)) and not succeeded(
        SimpleNamespace(reached_goal=False, stalled=False)
    )


# ---- one goal at a time ----------------------------------------------------------------------------------------------------


def test_a_wish_is_sent_once() -> None:
    follower = Follower(5.0)
    assert follower.step(0.0) is Step.NOTHING
    follower.want(1.0)
    assert follower.step(0.0) is Step.SEND
    follower.want(1.0)
    assert [follower.step(t) for t in (0.1, 0.2)] == [Step.NOTHING] * 2
    follower.ended(follower.goal, True)
    follower.want(1.0)
    assert follower.step(0.3) is Step.NOTHING and not follower.fault


def test_a_new_wish_ends_the_goal_before_it_is_sent() -> None:
    follower = Follower(5.0)
    follower.want(1.0)
    follower.step(0.0)
    follower.want(0.0)
    assert [follower.step(0.1), follower.step(0.2)] == [Step.CANCEL, Step.NOTHING]
    follower.ended(follower.goal, False, "cancelled")
    assert not follower.fault  # as wished
    assert follower.step(0.3) is Step.SEND and follower.wanted == 0.0


def test_a_goal_that_does_not_end_is_given_up_and_tried_again() -> None:
    follower = Follower(2.0)
    follower.want(0.0)
    follower.step(0.0)
    assert follower.step(2.1) is Step.CANCEL and "has not got to 0.00 in 2.0 s" in follower.fault
    follower.ended(follower.goal, False)
    assert follower.step(2.2) is Step.SEND and follower.fault
    follower.ended(follower.goal, True)
    assert not follower.fault


@pytest.mark.parametrize("superseded", [False, True])
def test_a_driver_that_died_is_given_up_and_its_late_answer_ignored(superseded: bool) -> None:
    follower = Follower(2.0)
    follower.want(0.0)
    follower.step(0.0)
    dead = follower.goal
    if superseded:
        follower.want(1.0)
    assert follower.step(2.1) is Step.CANCEL
    assert follower.step(2.0 + GRACE_S) is Step.NOTHING
    assert follower.step(2.1 + GRACE_S) is Step.SEND and "has not got to 0.00 in 2.0 s" in follower.fault
    follower.ended(dead, True)
    assert follower.fault and follower.step(2.2 + GRACE_S) is Step.NOTHING  # the second goal is still under way
    follower.ended(follower.goal, True)
    assert not follower.fault and follower.step(9.0) is Step.NOTHING


def test_a_failure_says_why_and_is_tried_again_after_a_while() -> None:
    follower = Follower(2.0)
    follower.want(0.0)
    follower.step(0.0)
    follower.ended(follower.goal, False, "no power")
    assert follower.fault == "the gripper did not get to 0.00: no power"
    assert follower.step(RETRY_S / 2) is Step.NOTHING and follower.step(RETRY_S) is Step.SEND


# ---- joint states ----------------------------------------------------------------------------------------------------------


def arms_state(stamp_ns: int, cell: Any = FRANKA) -> JointState:
    count = len(cell.arm_joint_names)
    return JointState(stamp_ns, cell.arm_joint_names, np.arange(count) * 0.1, np.ones(count))


def test_fingers_are_joined_in_metres_at_the_arms_stamp() -> None:
    states = JoinedStates(ROBOTIQ)
    states.measured("arm", 0.7929 / 2, NOW_NS)
    joined = states.join(arms_state(NOW_NS + 7, ROBOTIQ))
    assert joined is not None and joined.stamp_ns == NOW_NS + 7
    assert joined.names == (*ROBOTIQ.arm_joint_names, "finger_joint")
    assert joined.positions[-1] == pytest.approx(ROBOTIQ.finger_travel / 2) and joined.velocities[0] == 1


def test_old_finger_states_never_pass_for_new_ones() -> None:
    states = JoinedStates(FRANKA)
    assert states.join(arms_state(NOW_NS)) is None and states.missing(NOW_NS) == ["left", "right"]
    states.measured("left", 0.04, NOW_NS)
    assert states.join(arms_state(NOW_NS)) is None and states.missing(NOW_NS) == ["right"]
    states.measured("right", 0.0, NOW_NS)
    assert states.join(arms_state(NOW_NS)) is not None
    assert states.join(arms_state(NOW_NS + round((MAX_AGE_S + 0.01) * 1e9))) is None


# ---- the node --------------------------------------------------------------------------------------------------------------


class Driver(Node):
    """Arms and fingers of two Frankas, and an action server a gripper; ExecuteTask stands in for franka_msgs, which is in no wheel."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("driver", context=context)
        self.goals: list[tuple[str, float]] = []
        self.joined: list[JointStateMsg] = []
        self.slow = self.deaf = self.silent_fingers = False
        self.arms = self.create_publisher(JointStateMsg, "/joint_state_broadcaster/joint_states", SENSOR)
        self.fingers = {
            arm: self.create_publisher(JointStateMsg, f"/{arm}/franka_gripper/joint_states", SENSOR) for arm in FRANKA.arm_names
        }
        self.trajectories = self.create_publisher(JointTrajectoryMsg, FRANKA.controllers.gripper_topic, COMMAND)
        self.create_subscription(JointStateMsg, topics.JOINT_STATES, self.joined.append, SENSOR)
        group = ReentrantCallbackGroup()
        self.servers = [
            ActionServer(
                self, ExecuteTask, f"/{arm}/franka_gripper{suffix}", lambda handle, arm=arm: self.execute(arm, handle),
                cancel_callback=lambda _: CancelResponse.ACCEPT, callback_group=group,
            )
            for arm in FRANKA.arm_names for suffix in ("/grasp", "/move")
        ]  # fmt: skip

    def execute(self, arm: str, handle: Any) -> ExecuteTask.Result:
        self.goals.append((arm, handle.request.time_limit_s))
        while self.deaf or (self.slow and not handle.is_cancel_requested):
            time.sleep(0.01)
        handle.canceled() if handle.is_cancel_requested else handle.succeed()
        return ExecuteTask.Result()

    def publish_states(self) -> None:
        stamp_ns = self.get_clock().now().nanoseconds
        for arm, publisher in self.fingers.items() if not self.silent_fingers else ():
            finger = JointState(stamp_ns, (f"{arm}_fr3_finger_joint1", f"{arm}_fr3_finger_joint2"), np.full(2, 0.02), np.zeros(2))
            publisher.publish(joint_state_to_message(finger))
        self.arms.publish(joint_state_to_message(arms_state(stamp_ns)))

    def ask(self, left_m: float, right_m: float) -> None:
        rows = np.array([[left_m, right_m]])
        still = np.zeros_like(rows)
        trajectory = JointTrajectory(self.get_clock().now().nanoseconds, FRANKA.finger_joint_names, np.array([0.4]), rows, still, still)
        self.trajectories.publish(trajectory_to_message(trajectory))


@pytest.fixture
def rig(domain_id: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Driver, gripper_node.GripperNode]]]:
    def command(gripper: Any, opening: float) -> Command:
        real = command_for(gripper, opening)
        return Command("harmowam_msgs", "ExecuteTask", real.suffix, {"time_limit_s": real.fields["width"]})

    monkeypatch.setattr(gripper_node, "command_for", command)
    monkeypatch.setattr(gripper_node, "succeeded", lambda result: True)
    made: list[Any] = []

    def make(**parameters: bool) -> tuple[Driver, gripper_node.GripperNode]:
        given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={str(value).lower()}")]
        rclpy.init(domain_id=domain_id, args=["--ros-args", *given])
        driver, node = Driver(rclpy.get_default_context()), gripper_node.GripperNode()
        assert node.get_parameter("dry_run").type_ is Parameter.Type.BOOL
        executor = MultiThreadedExecutor(4)
        for item in (driver, node):
            executor.add_node(item)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        made.extend([executor, thread, driver, node])
        wait_until(lambda: node.active)
        return driver, node

    yield make
    if made:
        made[0].shutdown(timeout_sec=1.0)
        made[1].join(timeout=5.0)
        for server in made[2].servers:
            server.destroy()
        made[2].destroy_node()
        made[3].destroy_node()
        rclpy.try_shutdown()


def wait_until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_the_node_drives_both_grippers_and_joins_their_states(rig: Callable[..., Any]) -> None:
    driver, node = rig()
    wait_until(lambda: all(client.server_is_ready() for client in node._actions.values()))
    wait_until(lambda: driver.trajectories.get_subscription_count() == 1)
    driver.ask(0.04, 0.0)
    wait_until(lambda: len(driver.goals) == 2)
    assert sorted(driver.goals) == [("left", 0.08), ("right", 0.0)]
    driver.slow = True
    driver.ask(0.0, 0.0)
    wait_until(lambda: driver.goals[2:] == [("left", 0.0)])
    driver.ask(0.04, 0.0)  # the goal under way is cancelled, then the new one sent
    driver.slow = False
    wait_until(lambda: driver.goals[3:] == [("left", 0.08)])

    def joined() -> bool:
        driver.publish_states()
        return bool(driver.joined)

    wait_until(joined)
    assert list(driver.joined[-1].name) == [*FRANKA.arm_joint_names, *FRANKA.finger_joint_names]
    assert list(driver.joined[-1].position[-2:]) == pytest.approx([0.02, 0.02])
    driver.ask(0.09, 0.0)  # no opening
    wait_until(lambda: "opening is 2.25" in node.health.summary().message)
    assert len(driver.goals) == 4


def test_the_node_sends_the_goal_again_where_a_driver_never_ends_it(rig: Callable[..., Any]) -> None:
    driver, node = rig()
    node.followers["left"].timeout_s = 0.1
    wait_until(lambda: all(client.server_is_ready() for client in node._actions.values()))
    wait_until(lambda: driver.trajectories.get_subscription_count() == 1)
    driver.deaf = True
    driver.ask(0.04, 0.0)
    wait_until(lambda: driver.goals.count(("left", 0.08)) == 2)
    assert "gripper of left" in node.health.summary().message
    node.followers["left"].timeout_s = 5.0
    driver.deaf = False
    wait_until(lambda: not node.followers["left"].fault)
    assert len(driver.goals) == 3


@pytest.mark.parametrize("assume_open", [False, True])
def test_in_a_dry_run_it_only_joins_states(rig: Callable[..., Any], assume_open: bool) -> None:
    driver, _ = rig(dry_run=True, assume_open=assume_open)
    driver.silent_fingers = assume_open

    def joined() -> bool:
        driver.ask(0.04, 0.04)
        driver.publish_states()
        return len(driver.joined) > 3

    wait_until(joined)
    assert driver.trajectories.get_subscription_count() == 0 and driver.goals == []
    assert list(driver.joined[-1].position[-2:]) == pytest.approx([0.04, 0.04] if assume_open else [0.02, 0.02])
