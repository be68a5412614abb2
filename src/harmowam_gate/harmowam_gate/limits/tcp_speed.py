"""The tools' speed."""

from __future__ import annotations

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict, judge_speeds


class TcpSpeedLimit(Limit):
    """Fastest that a tool centre point may move."""

    def __init__(self, context: Context) -> None:
        self._arms, self._limit = context.cell.arm_names, context.cell.safety.tcp_speed

    def check(self, motion: Motion) -> Verdict:
        """Ask for more time where a tool would be faster."""
        return judge_speeds(Reason.TCP_SPEED, "tool", self._arms, motion.places.tool_speeds, self._limit)
