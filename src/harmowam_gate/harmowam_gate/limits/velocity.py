"""Joint velocities, along the whole spline."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict, judge_joints


class VelocityLimit(Limit):
    """The profile's velocity of each joint, rad/s."""

    def __init__(self, context: Context) -> None:
        cell = context.cell
        self._limit = np.tile(cell.limits.velocity, len(cell.arms))

    def check(self, motion: Motion) -> Verdict:
        """Ask for more time where a joint would exceed it."""
        return judge_joints(Reason.VELOCITY_LIMIT, motion.names, motion.dense.velocities, self._limit, 1, "rad/s")
