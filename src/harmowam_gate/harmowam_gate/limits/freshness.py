"""What a motion derives from was seen a short while ago."""

from __future__ import annotations

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict
from harmowam_gate.settings import max_age_s


class FreshnessLimit(Limit):
    """For what is about to be published from an expert: the age of the observation, not of the message."""

    for_plans = False

    def __init__(self, context: Context) -> None:
        self._settings = context.settings

    def check(self, motion: Motion) -> Verdict:
        """Refuse what derives from an old observation."""
        if motion.source is None:
            return Verdict()
        age_s, limit_s = motion.source.age_s, max_age_s(self._settings, motion.source.expert)
        if age_s <= limit_s:
            return Verdict()
        text = f"it derives from an observation {age_s:.2f} s ago, limit {limit_s:.2f} s"
        return Verdict.refused(Reason.CHUNK_STALE, age_s, limit_s, text)
