"""A trajectory as the arm driver wants it: all joints in order, times that grow, at rest and soon over at the end."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict


class StructureLimit(Limit):
    """For what is about to be published. A dead arbiter means an arm at rest ``rest_s`` later."""

    for_plans = False

    def __init__(self, context: Context) -> None:
        self._names, self._longest_s = context.cell.arm_joint_names, context.settings.rest_s

    def check(self, motion: Motion) -> Verdict:
        """Refuse what the driver would refuse or never stop."""
        spline = motion.spline
        if motion.names != self._names:
            return Verdict.refused(Reason.MALFORMED, len(motion.names), len(self._names), f"joints {motion.names}, expected {self._names}")
        if spline.positions.shape != (len(spline.times_ns), len(self._names)):
            text = f"positions have shape {spline.positions.shape}, expected ({len(spline.times_ns)}, {len(self._names)})"
            return Verdict.refused(Reason.MALFORMED, spline.positions.size, np.nan, text)
        if not (np.diff(spline.times_ns) > 0).all():
            return Verdict.refused(Reason.MALFORMED, float(np.diff(spline.times_ns).min() * 1e-9), 0.0, "times do not grow")
        end = max(np.abs(spline.velocities[-1]).max(), np.abs(spline.accelerations[-1]).max())
        if not end <= 0:
            return Verdict.refused(Reason.NOT_STOPPABLE, float(end), 0.0, "the last point is not at rest")
        duration_s = (spline.end_ns - spline.start_ns) * 1e-9
        if not duration_s <= self._longest_s:
            return Verdict.refused(Reason.NOT_STOPPABLE, duration_s, self._longest_s, f"comes to rest after {duration_s:.2f} s only")
        return Verdict()
