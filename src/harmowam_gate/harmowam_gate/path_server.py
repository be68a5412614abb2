"""The action /harmowam/follow_path: way-points that a planner found, one path at a time and never beside a task."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from harmowam_msgs.action import FollowPath
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Future

from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.lifecycle import ManagedNode
from harmowam_core.status import Outcome
from harmowam_gate.arbiter import Arbiter, ArbiterOutput
from harmowam_gate.path_follower import PathRefused, waypoints_of


@dataclass
class _Goal:
    """A caller's goal and where its outcome goes: (outcome, why, duration_s)."""

    handle: ServerGoalHandle
    done: Future
    started_ns: int = 0


class PathServer:
    """Starts and ends the arbiter's paths; ``attend`` and ``report`` are called from the arbiter's own tick, with its steady time, ns."""

    def __init__(self, node: ManagedNode, arbiter: Arbiter, cell: Cell) -> None:
        self._node, self._arbiter, self._cell = node, arbiter, cell
        self._running: _Goal | None = None
        self._queue: deque[_Goal] = deque()
        ActionServer(node, FollowPath, topics.FOLLOW_PATH, self._execute, cancel_callback=lambda _: CancelResponse.ACCEPT)

    def attend(self, now_ns: int) -> None:
        """Cancel the path if its caller wants that, and start the next one."""
        if self._running is not None and self._running.handle.is_cancel_requested:
            self.stop(Outcome.CANCELLED, "cancelled by the caller", now_ns)
        while self._queue:
            goal = self._queue.popleft()
            request = goal.handle.request
            try:
                waypoints = waypoints_of(self._cell, request.joint_names, request.positions)
                takes_s = self._arbiter.start_path(waypoints, request.speed_scale, now_ns)
            except PathRefused as error:
                self._node.get_logger().warning(f"path refused: {error}")
                goal.done.set_result((Outcome.REFUSED, str(error), 0.0))
                continue
            self._node.get_logger().info(f"follows a path of {len(waypoints)} way-points for {takes_s:.1f} s")
            goal.started_ns, self._running = now_ns, goal

    def report(self, output: ArbiterOutput, now_ns: int) -> None:
        """Tell the caller how it goes, or how it ended."""
        if output.outcome is not None:
            self._end(output.outcome, output.why, now_ns)
        elif self._running is not None:
            self._running.handle.publish_feedback(FollowPath.Feedback(progress=self._arbiter.follower.progress(now_ns)))

    def stop(self, outcome: Outcome, why: str, now_ns: int) -> None:
        """End the running path, if any: the arm brakes to rest."""
        self._arbiter.stop_path()
        self._end(outcome, why, now_ns)

    def _end(self, outcome: Outcome, why: str, now_ns: int) -> None:
        if self._running is None:
            return
        duration_s = (now_ns - self._running.started_ns) * 1e-9
        self._node.get_logger().info(f"path ended after {duration_s:.1f} s: {outcome.name}: {why}")
        self._running.done.set_result((outcome, why, duration_s))
        self._running = None

    async def _execute(self, handle: ServerGoalHandle) -> FollowPath.Result:
        goal = _Goal(handle, Future())
        self._queue.append(goal)
        outcome, why, duration_s = await goal.done
        if outcome is Outcome.SUCCEEDED:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return FollowPath.Result(outcome=int(outcome), why=why, duration_s=duration_s)
