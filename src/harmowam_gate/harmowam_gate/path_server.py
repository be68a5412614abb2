"""The action /harmowam/follow_path: way-points that a planner found, one path at a time and never beside a task."""

from __future__ import annotations

from typing import Any

from harmowam_msgs.action import FollowPath

from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.lifecycle import ManagedNode
from harmowam_gate.arbiter import Arbiter, ArbiterOutput
from harmowam_gate.goal_server import GoalServer
from harmowam_gate.path_follower import PathRefused, waypoints_of


class PathServer(GoalServer):
    """Starts and ends the arbiter's paths."""

    action, what, refusal = FollowPath, "path", PathRefused

    def __init__(self, node: ManagedNode, arbiter: Arbiter, cell: Cell) -> None:
        super().__init__(node, arbiter, topics.FOLLOW_PATH)
        self._cell = cell

    def _start(self, request: Any, now_ns: int) -> str:
        waypoints = waypoints_of(self._cell, request.joint_names, request.positions)
        takes_s = self._arbiter.start_path(waypoints, request.speed_scale, now_ns)
        return f"follows a path of {len(waypoints)} way-points for {takes_s:.1f} s"

    def _halt(self) -> None:
        self._arbiter.stop_path()

    def _ended(self) -> None:
        """Nobody but the caller has to know."""

    def _feedback(self, output: ArbiterOutput, now_ns: int) -> FollowPath.Feedback:
        return FollowPath.Feedback(progress=self._arbiter.follower.progress(now_ns))
