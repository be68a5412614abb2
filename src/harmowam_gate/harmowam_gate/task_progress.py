"""How far a task has come, as far as the robot itself can tell: something was held, then released, and the hand went away."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.stages import Phase

Float64 = NDArray[np.float64]
CLOSED, OPEN = 0.04, 0.96  # a hand told to close whose fingers rest in between has something between them
STILL, HELD_S = 0.02, 0.3
RELEASED = 0.08  # opened this much further than what was held is wide


class TaskProgress:
    """Watches the grippers of one task. Times ns, openings (A,) in [0, 1]."""

    def __init__(self, done_transit_s: float) -> None:
        self.sub_stage = "approach"
        self._done_ns = round(done_transit_s * 1e9)
        self._still: dict[int, tuple[float, int]] = {}  # arm -> opening, since when the fingers have been there
        self._held: dict[int, float] = {}  # arm -> opening around what it holds
        self._away_since_ns: int | None = None

    def update(self, now_ns: int, commanded: Float64, measured: Float64, phase: Phase) -> bool:
        """Take one moment; ``commanded`` is 0, 1 or NaN an arm. True once the task is done."""
        for arm, (told, opening) in enumerate(zip(commanded, measured, strict=True)):
            self._watch(arm, now_ns, bool(told == 0), float(opening))
        if self.sub_stage != "released" or phase is not Phase.TRANSIT:
            self._away_since_ns = None
            return False
        if self._away_since_ns is None:
            self._away_since_ns = now_ns
        return now_ns - self._away_since_ns >= self._done_ns

    def _watch(self, arm: int, now_ns: int, told_to_close: bool, opening: float) -> None:
        if arm not in self._still or abs(opening - self._still[arm][0]) > STILL:
            self._still[arm] = (opening, now_ns)
        if arm in self._held:
            if told_to_close and opening <= CLOSED:  # it slipped out
                self._let_go(arm, "approach")
            elif not told_to_close and opening > min(self._held[arm] + RELEASED, OPEN):
                self._let_go(arm, "released")
        elif told_to_close and CLOSED < opening < OPEN and now_ns - self._still[arm][1] >= HELD_S * 1e9:
            self._held[arm] = opening
            self.sub_stage = "holding"

    def _let_go(self, arm: int, sub_stage: str) -> None:
        del self._held[arm]
        if not self._held:
            self.sub_stage = sub_stage
