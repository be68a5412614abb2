"""What a motion derives from was seen a short while ago."""

from __future__ import annotations

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict


class FreshnessLimit(Limit):
    """For what is about to be published from an expert: the age of the observation, not of the message."""

    for_plans = False

    def __init__(self, context: Context) -> None:
        self._limit_s = max(context.settings.chunk_max_age_s, context.settings.reactive_max_age_s)

    def check(self, motion: Motion) -> Verdict:
        """Refuse what derives from an old observation."""
        if motion.source is None or motion.source.age_s <= self._limit_s:
            return Verdict()
        text = f"it derives from an observation {motion.source.age_s:.2f} s ago, limit {self._limit_s:.2f} s"
        return Verdict.refused(Reason.CHUNK_STALE, motion.source.age_s, self._limit_s, text)
