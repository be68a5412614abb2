"""The elbows' speed: the redundant joint can swing an elbow while the tool stands still."""

from __future__ import annotations

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict, judge_speeds


class ElbowSpeedLimit(Limit):
    """Fastest that an elbow may move."""

    def __init__(self, context: Context) -> None:
        self._arms, self._limit = context.cell.arm_names, context.cell.safety.elbow_speed

    def check(self, motion: Motion) -> Verdict:
        """Ask for more time where an elbow would be faster."""
        return judge_speeds(Reason.TCP_SPEED, "elbow", self._arms, motion.places.elbow_speeds, self._limit)
