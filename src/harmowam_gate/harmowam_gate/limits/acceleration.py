"""Joint accelerations, along the whole spline."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict, judge_joints


class AccelerationLimit(Limit):
    """The profile's acceleration of each joint, rad/s^2."""

    def __init__(self, context: Context) -> None:
        cell = context.cell
        self._limit = np.tile(cell.limits.acceleration, len(cell.arms))

    def check(self, motion: Motion) -> Verdict:
        """Ask for more time where a joint would exceed it."""
        return judge_joints(Reason.ACCELERATION_LIMIT, motion.names, motion.spline.peak_accelerations(), self._limit, 2, "rad/s^2")
