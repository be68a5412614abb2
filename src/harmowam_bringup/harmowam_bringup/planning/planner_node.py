"""Planner node: a pose of all arms in, a planned, collision-free move out, handed to the arbiter. Idle until it is asked."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from harmowam_msgs.action import FollowPath, MoveTo
from numpy.typing import NDArray
from rclpy.action import ActionClient, ActionServer, CancelResponse
from rclpy.action.client import ClientGoalHandle
from rclpy.action.server import ServerGoalHandle
from rclpy.executors import SingleThreadedExecutor
from rclpy.task import Future
from sensor_msgs.msg import JointState as JointStateMsg

from harmowam_core import topics
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.messages import joint_state_from_message
from harmowam_core.qos import SENSOR
from harmowam_core.stages import StageError
from harmowam_core.status import Outcome
from harmowam_core.wan_preset import load_any_preset

JOINT_STATES_S, ARBITER_S = 2.0, 5.0
WATCH_S = 0.05
RESTING_RAD_S = 0.005


class _Ended(Exception):
    """A move is over before its time: outcome, why."""


class PlannerNode(ManagedNode):
    """Serves MoveTo. Joint states are subscribed to, and the planner loaded, when somebody asks."""

    def __init__(self) -> None:
        super().__init__("planner")

    def declare(self) -> None:
        """Parameters."""
        self.parameter("preset", "compact", "Preset by name or path: its cell has the arms, the table and home.", read_only=True)
        self.parameter("planner", "embedded", "Which planner.", choices=("embedded", "moveit"), read_only=True)
        self.parameter("moveit_config", "", "File of MoveIt's parameters, for the planner moveit (docs/planning.md).", read_only=True)
        self.parameter("speed_scale", 0.6, "Share of the velocity limits used for moves.", lower=0.05, upper=1.0)
        self.parameter("time_limit_s", 5.0, "Longest that planning may take.", lower=0.5, upper=120.0, read_only=True)

    def configure(self) -> None:
        """Read the cell, and see whether MoveIt could be loaded if it is wanted; nothing else yet."""
        self.cell = load_any_preset(self.get_parameter("preset").value).load_cell()
        if self.get_parameter("planner").value == "moveit":
            from harmowam_bringup.planning.moveit import checked_configuration

            self._moveit_config = checked_configuration(self.get_parameter("moveit_config").value)
        self._planning: Any = None
        self._busy = False

    def activate(self) -> None:
        """Take goals."""
        self._follow = ActionClient(self, FollowPath, topics.FOLLOW_PATH)
        ActionServer(self, MoveTo, topics.MOVE_TO, self._execute, cancel_callback=lambda _: CancelResponse.ACCEPT)

    async def _execute(self, handle: ServerGoalHandle) -> MoveTo.Result:
        result = MoveTo.Result()
        if self._busy:
            result.outcome, result.why = int(Outcome.REFUSED), "another move is under way; cancel it first"
            handle.abort()
            return result
        self._busy, began_s = True, time.monotonic()
        try:
            path = await self._plan(handle)
            result.planning_s = time.monotonic() - began_s
            moved = await self._move(handle, path)
            result.outcome, result.why, result.duration_s = moved.outcome, moved.why, moved.duration_s
        except _Ended as ended:
            outcome, result.why = ended.args
            result.outcome = int(outcome)
        finally:
            self._busy = False
        self.get_logger().info(f"move ended: {Outcome(result.outcome).name}: {result.why}")
        if result.outcome == MoveTo.Result.SUCCEEDED:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return result

    # ---- planning ------------------------------------------------------------------------------------------------------

    async def _plan(self, handle: ServerGoalHandle) -> NDArray[np.float64]:
        handle.publish_feedback(MoveTo.Feedback(stage="planning", progress=0.0))
        start = await self._measured()
        done = Future(executor=self.executor)
        threading.Thread(target=self._search, args=(handle, start, done), daemon=True).start()
        plan, why = await done
        if plan is None:
            cancelled = handle.is_cancel_requested
            raise _Ended(Outcome.CANCELLED if cancelled else Outcome.REFUSED, why)
        text = f"planned in {plan.planning_s:.2f} s, {len(plan.path)} way-points: {plan.method}"
        (self.get_logger().warning if plan.fallbacks[1:] else self.get_logger().info)(text)
        self.health.latency("planning", plan.planning_s)
        path: NDArray[np.float64] = plan.path
        return path

    def _search(self, handle: ServerGoalHandle, start: NDArray[np.float64], done: Future) -> None:
        """In a thread of its own, so that a cancellation is heard."""
        from harmowam_bringup.planning.moves import plan_move
        from harmowam_bringup.planning.protocol import PlanningError

        goal = handle.request
        try:
            kinematics, scene, planner = self._load()
            plan = plan_move(
                planner, kinematics, scene, goal.target, goal.joint_names, goal.positions, start, lambda: handle.is_cancel_requested
            )
        except (PlanningError, RuntimeError, FileNotFoundError) as error:
            done.set_result((None, str(error)))
        except Exception as error:  # whatever it is, the caller must not wait for ever
            self.health.fault("planner", f"{type(error).__name__}: {error}")
            done.set_result((None, f"the planner failed: {type(error).__name__}: {error}"))
        else:
            done.set_result((plan, ""))

    def _load(self) -> Any:
        if self._planning is None:
            from harmowam_bringup.planning.embedded import EmbeddedPlanner
            from harmowam_bringup.planning.moveit import MoveItPyPlanner
            from harmowam_bringup.planning.protocol import PlanningScene
            from harmowam_core.kinematics import Kinematics

            kinematics, scene = Kinematics(self.cell), PlanningScene.of(self.cell)
            if self.get_parameter("planner").value == "moveit":
                self._planning = kinematics, scene, MoveItPyPlanner(scene, self._moveit_config)
            else:
                time_limit_s = self.get_parameter("time_limit_s").value
                self._planning = kinematics, scene, EmbeddedPlanner(scene, kinematics, time_limit_s=time_limit_s)
        return self._planning

    async def _measured(self) -> NDArray[np.float64]:
        """(A*J,) where the arms rest."""
        heard = Future(executor=self.executor)
        seen = []

        def receive(message: JointStateMsg) -> None:
            try:
                state = joint_state_from_message(message, self.cell.arm_joint_names)
            except StageError as error:
                self.get_logger().warning(str(error), throttle_duration_sec=5.0)
                return
            seen.append(state)
            if np.abs(state.velocities).max() <= RESTING_RAD_S:
                heard.set_result(np.asarray(state.positions))

        subscription = self.create_subscription(JointStateMsg, topics.JOINT_STATES, receive, SENSOR)
        late = self.create_timer(JOINT_STATES_S, lambda: heard.set_result(None))
        joints = await heard
        self.destroy_timer(late)
        self.destroy_subscription(subscription)
        if joints is None:
            if seen:
                raise _Ended(Outcome.REFUSED, "the arms still move; try again once they rest")
            why = f"no usable joint states on {topics.JOINT_STATES} within {JOINT_STATES_S:.0f} s; is the arm driver running?"
            raise _Ended(Outcome.REFUSED, why)
        return joints

    # ---- moving --------------------------------------------------------------------------------------------------------

    async def _move(self, handle: ServerGoalHandle, path: NDArray[np.float64]) -> FollowPath.Result:
        if handle.is_cancel_requested:
            raise _Ended(Outcome.CANCELLED, "cancelled before the arms moved")
        if not self._follow.server_is_ready():
            raise _Ended(Outcome.REFUSED, f"nobody serves {topics.FOLLOW_PATH}; is the arbiter active?")
        names, scale = list(self.cell.arm_joint_names), self.get_parameter("speed_scale").value
        goal = FollowPath.Goal(joint_names=names, positions=path.ravel().tolist(), speed_scale=scale)
        sent = self._follow.send_goal_async(goal, feedback_callback=lambda message: self._tell(handle, message.feedback.progress))
        moving: ClientGoalHandle = await sent
        if not moving.accepted:
            raise _Ended(Outcome.REFUSED, "the arbiter did not take the path")
        watch = self.create_timer(WATCH_S, lambda: moving.cancel_goal_async() if handle.is_cancel_requested else None)
        try:
            answer = await moving.get_result_async()
        finally:
            self.destroy_timer(watch)
        return answer.result

    @staticmethod
    def _tell(handle: ServerGoalHandle, progress: float) -> None:
        if handle.is_active:
            handle.publish_feedback(MoveTo.Feedback(stage="moving", progress=progress))


def main() -> None:
    """Run the node."""
    run(PlannerNode, executor_class=SingleThreadedExecutor)  # its actions wait in coroutines


if __name__ == "__main__":
    main()
