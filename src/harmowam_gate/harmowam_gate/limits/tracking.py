"""The arm is where its set-point is: a motion that begins elsewhere would be a step for the driver to chase."""

from __future__ import annotations

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict


class TrackingLimit(Limit):
    """For what is about to be published from an expert; a brake begins wherever the arm is."""

    for_plans = False

    def __init__(self, context: Context) -> None:
        self._limit = context.settings.tracking_rad

    def check(self, motion: Motion) -> Verdict:
        """Refuse to move an arm on that does not follow."""
        if motion.source is None or motion.source.off_rad <= self._limit:
            return Verdict()
        text = f"a joint is {motion.source.off_rad:.3f} rad from its set-point, limit {self._limit:.3f}"
        return Verdict.refused(Reason.TRACKING_ERROR, motion.source.off_rad, self._limit, text)
