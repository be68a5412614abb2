"""Whether the arbiter gets to work when it should: missed ticks slow the arm, then hold it. Times ns of a steady clock."""

from __future__ import annotations

from collections import deque

WINDOW_NS = 500_000_000


class Deadlines:
    """Counts the ticks that did not come, of the last half second and of all time."""

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self._last_ns: int | None = None
        self._missed: deque[tuple[int, int]] = deque()
        self.total_missed = 0
        self.total = 0
        self.late_s = 0.0
        """By how much the last tick came after the one before it plus a period, where that is a missed tick or more."""

    def tick(self, now_ns: int) -> float:
        """Note a tick; returns the time since the last one, s (0 at the first)."""
        gap_ns = 0 if self._last_ns is None else now_ns - self._last_ns
        missed = max(round(gap_ns / self._period_ns) - 1, 0)
        self.total += 1 + missed
        self.late_s = (gap_ns - self._period_ns) * 1e-9 if missed else 0.0
        if missed:
            self.total_missed += missed
            self._missed.append((now_ns, missed))
        while self._missed and self._missed[0][0] < now_ns - WINDOW_NS:
            self._missed.popleft()
        self._last_ns = now_ns
        return gap_ns * 1e-9

    def overdue(self, now_ns: int) -> bool:
        """Whether a tick is missing by now: what the last one knew is old."""
        return self._last_ns is not None and now_ns - self._last_ns >= 2 * self._period_ns

    @property
    def recently_missed(self) -> int:
        """Ticks that were due in the last half second and did not come."""
        return sum(count for _, count in self._missed)
