"""Joint jerks, along the whole spline."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict, judge_joints


class JerkLimit(Limit):
    """The profile's jerk of each joint, rad/s^3."""

    def __init__(self, context: Context) -> None:
        cell = context.cell
        self._limit = np.tile(cell.limits.jerk, len(cell.arms))

    def check(self, motion: Motion) -> Verdict:
        """Ask for more time where a joint would exceed it."""
        if len(motion.spline.times_ns) < 2:
            return Verdict()
        return judge_joints(Reason.JERK_LIMIT, motion.names, motion.spline.peak_jerks(), self._limit, 3, "rad/s^3")
