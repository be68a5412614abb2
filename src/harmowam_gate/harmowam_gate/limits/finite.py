"""Every number is finite; asked first, because no comparison holds for NaN."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict


class FiniteLimit(Limit):
    """Positions, velocities and accelerations of all points."""

    def __init__(self, _: Context) -> None:
        """Nothing to know."""

    def check(self, motion: Motion) -> Verdict:
        """Refuse the first number that isn't finite."""
        for name in ("positions", "velocities", "accelerations"):
            values = getattr(motion.spline, name)
            if not np.isfinite(values).all():
                point, joint = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
                bad = float(values[point, joint])
                return Verdict.refused(Reason.NOT_FINITE, bad, np.inf, f"{name} of {motion.names[joint]} is {bad} at point {point}")
        return Verdict()
