"""Gripper node: finger trajectories in, action goals to the grippers' drivers out; and one /joint_states for arms and fingers."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState as JointStateMsg
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from harmowam_bringup.gripper.commands import action_type, command_for, goal_of, succeeded
from harmowam_bringup.gripper.follower import Follower, Step
from harmowam_bringup.gripper.joined_states import JoinedStates
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.messages import joint_state_from_message, joint_state_to_message, trajectory_from_message
from harmowam_core.qos import COMMAND, SENSOR
from harmowam_core.robot import filled
from harmowam_core.stages import StageError

TICK_S = 0.02


class GripperNode(ManagedNode):
    """One follower an arm, ticked steadily; a goal's answers come back through its callbacks."""

    def __init__(self) -> None:
        super().__init__("gripper")

    def declare(self) -> None:
        """Which cell, whether to command, and where the arms' states come from."""
        self.cell_name = self.parameter("cell", "franka_dual", "Cell profile by name, or path of a profile.", read_only=True)
        self.dry_run = self.parameter("dry_run", False, "Join the joint states, command nothing.", read_only=True)
        self.assume_open = self.parameter(
            "assume_open", False, "Nothing measures the fingers (their driver is off in a dry run): report them as open.", read_only=True
        )
        self.arm_states = self.parameter(
            "arm_states", "/joint_state_broadcaster/joint_states", "Topic of the arms' states.", read_only=True
        )

    def configure(self) -> None:
        """Connect to the drivers."""
        self.cell = load_cell(self.cell_name)
        self.states = JoinedStates(self.cell)
        self.followers = {arm: Follower(self.cell.gripper.timeout) for arm in self.cell.arm_names}
        self._handles: dict[str, Any] = {}
        self._actions: dict[tuple[str, str], ActionClient] = {}
        self._joined = self.create_lifecycle_publisher(JointStateMsg, topics.JOINT_STATES, SENSOR)
        self.create_subscription(JointStateMsg, self.arm_states, self._on_arms, SENSOR)
        for arm in self.cell.arms:
            names = {"arm": arm.name, "prefix": arm.prefix}
            topic, joint = (filled(text, **names) for text in (self.cell.gripper.joint_states, self.cell.gripper.joint))
            if not self.assume_open:
                self.create_subscription(JointStateMsg, topic, partial(self._on_fingers, arm.name, joint), SENSOR)
            for command in {
                command_for(self.cell.gripper, opening).suffix: command_for(self.cell.gripper, opening) for opening in (0.0, 1.0)
            }.values():
                action = filled(self.cell.gripper.action, **names) + command.suffix
                self._actions[arm.name, command.suffix] = ActionClient(self, action_type(command.package, command.kind), action)

    def activate(self) -> None:
        """Start to follow."""
        if not self.dry_run:
            self.create_subscription(JointTrajectoryMsg, self.cell.controllers.gripper_topic, self._on_trajectory, COMMAND)
            self.create_timer(TICK_S, self._tick)

    # ---- in --------------------------------------------------------------------------------------------------------------

    def _on_fingers(self, arm: str, joint: str, message: JointStateMsg) -> None:
        try:
            state = joint_state_from_message(message, (joint,))
        except StageError as error:
            self.health.fault(f"fingers of {arm}", str(error))
            return
        self.health.clear(f"fingers of {arm}")
        self.states.measured(arm, float(state.positions[0]), state.stamp_ns)

    def _on_arms(self, message: JointStateMsg) -> None:
        try:
            arms = joint_state_from_message(message, self.cell.arm_joint_names)
        except StageError as error:
            self.health.fault("arms", str(error))
            return
        self.health.clear("arms")
        if self.assume_open:
            for arm in self.cell.arm_names:
                self.states.measured(arm, self.cell.gripper.open, arms.stamp_ns)
        joined = self.states.join(arms)
        if joined is None:
            silent = ", ".join(self.states.missing(arms.stamp_ns))
            self.health.fault("grippers", f"no recent finger state of {silent}: does the gripper's driver run?")
            return
        self.health.clear("grippers")
        self.health.event("joint states")
        if self.active:
            self._joined.publish(joint_state_to_message(joined))

    def _on_trajectory(self, message: JointTrajectoryMsg) -> None:
        try:
            trajectory = trajectory_from_message(message)
            for arm, joint in zip(self.cell.arm_names, self.cell.finger_joint_names, strict=True):
                if joint in trajectory.names:
                    self.followers[arm].want(float(trajectory.positions[-1, trajectory.names.index(joint)]) / self.cell.finger_travel)
        except ValueError as error:  # StageError is one
            self.health.fault("trajectory", str(error))
            return
        self.health.clear("trajectory")

    # ---- out -------------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        for arm, follower in self.followers.items():
            step = follower.step(time.monotonic())
            if step is Step.SEND:
                self._send(arm, follower)
            elif step is Step.CANCEL and (handle := self._handles.get(arm)) is not None:
                handle.cancel_goal_async()
            if follower.fault:
                self.health.fault(f"gripper of {arm}", follower.fault)
            else:
                self.health.clear(f"gripper of {arm}")

    def _send(self, arm: str, follower: Follower) -> None:
        assert follower.wanted is not None
        command = command_for(self.cell.gripper, follower.wanted)
        client = self._actions[arm, command.suffix]
        if not client.server_is_ready():
            follower.ended(follower.goal, False, f"its driver does not serve {client._action_name}")
            return
        self.health.event("goals")
        self._handles.pop(arm, None)
        sent = client.send_goal_async(goal_of(action_type(command.package, command.kind), command.fields))
        sent.add_done_callback(partial(self._answered, arm, follower.goal))

    def _answered(self, arm: str, goal: int, future: Any) -> None:
        handle, follower = future.result(), self.followers[arm]
        if not handle.accepted:
            follower.ended(goal, False, "its driver refused the goal")
            return
        if goal != follower.goal:  # given up before it was accepted
            handle.cancel_goal_async()
            return
        self._handles[arm] = handle
        if follower.cancelling:
            handle.cancel_goal_async()
        handle.get_result_async().add_done_callback(partial(self._ended, arm, goal))

    def _ended(self, arm: str, goal: int, future: Any) -> None:
        answer = future.result()
        ok = answer.status == GoalStatus.STATUS_SUCCEEDED and succeeded(answer.result)
        self.followers[arm].ended(goal, ok, getattr(answer.result, "error", "") or f"goal status {answer.status}")


def main() -> None:
    """Run the node."""
    run(GripperNode)


if __name__ == "__main__":
    main()
