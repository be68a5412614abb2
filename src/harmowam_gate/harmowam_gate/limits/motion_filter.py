"""All limits at once; the severest answer wins."""

from __future__ import annotations

from collections.abc import Sequence

from harmowam_gate.limits.limit import Limit, Motion, Verdict


class MotionFilter:
    """Asks every limit in order; the first that refuses decides, else the one that asks for the most time."""

    def __init__(self, limits: Sequence[Limit]) -> None:
        self.limits = tuple(limits)

    def check(self, motion: Motion) -> Verdict:
        """The verdict on a motion."""
        slowest = Verdict()
        for limit in self.limits:
            verdict = limit.check(motion)
            if not (verdict.ok or verdict.can_slow_down):
                return verdict
            if verdict.slow_down > slowest.slow_down:
                slowest = verdict
        return slowest
