"""Between the clock that stamps messages, which may be set back or forth, and the steady clock, by which all ages and deadlines go.

Plain Python; times ns.
"""

from __future__ import annotations

from collections import deque

JUMP_NS = 20_000_000
"""The clocks part by less than this between two readings, unless somebody sets the stamping one."""
TOLD_JUMP_NS = 150_000_000
"""The same for a clock that is told by messages (/clock), which come late."""
NOTICED_NS = 500_000_000
"""A jump is noticed at latest so long after it."""
SLACK_NS = 50_000_000
"""So much may the clocks of two computers differ."""
KEPT_NS = 3_000_000_000
"""So long after a jump there may still be stamps of before."""
SLEW_NS = 10_000
"""Followed a reading: 0.05 % at 50 Hz, the fastest that NTP slews. Trajectories are stamped with it, so it must not step."""
PROMPT_NS = 500_000
"""A pair of readings further apart than this was interrupted and says nothing small."""
LONGEST_ON_ITS_WAY_NS = 1_000_000_000
"""A message that seems to have been on its way for longer was stamped by another clock."""


class StampClock:
    """Maps stamps once, when they come in; a jump of the stamping clock leaves what was mapped before untouched."""

    def __init__(self, stamp_ns: int, steady_ns: int, jump_ns: int = JUMP_NS) -> None:
        """Both clocks, read at once; those that part by ``jump_ns`` between two readings have jumped."""
        self._jump_ns = jump_ns
        self.slack_ns = SLACK_NS + (jump_ns if jump_ns > JUMP_NS else 0)
        """How far in the future a stamp may seem to lie."""
        self._offset_ns = stamp_ns - steady_ns
        self._former: deque[tuple[int, int, int]] = deque()  # until when, the offset before a jump, and the stamp at it

    def read(self, stamp_ns: int, before_ns: int, after_ns: int, slew: bool = True) -> bool:
        """The stamping clock, and the steady one just before and after; True if the stamping clock has jumped.

        ``slew``: small differences are followed, too; ask for that at a steady rate.
        """
        while self._former and after_ns > self._former[0][0]:
            self._former.popleft()
        parted_ns = stamp_ns - (before_ns + after_ns) // 2 - self._offset_ns
        if abs(parted_ns) - (after_ns - before_ns) > self._jump_ns:
            self._former.append((after_ns + KEPT_NS, self._offset_ns, stamp_ns))
            self._offset_ns += parted_ns
            return True
        if slew and after_ns - before_ns <= PROMPT_NS:
            self._offset_ns += max(-SLEW_NS, min(SLEW_NS, parted_ns))
        return False

    def to_steady(self, stamp_ns: int, now_ns: int) -> int:
        """When ``stamp_ns`` was by the steady clock. Shortly after a jump forth, what lies before it is of before; after one back, stamps
        can be of both, and the younger reading counts.
        """
        offset_ns = self._offset_ns
        for _, before_ns, jumped_ns in reversed(self._former):
            if before_ns < offset_ns:
                older = stamp_ns < jumped_ns - min((offset_ns - before_ns) // 2, NOTICED_NS)
            else:
                older = abs(now_ns - stamp_ns + before_ns) < abs(now_ns - stamp_ns + offset_ns)
            if not older:
                break
            offset_ns = before_ns
        return stamp_ns - offset_ns

    def to_stamp(self, steady_ns: int) -> int:
        """What the stamping clock shows at ``steady_ns``."""
        return steady_ns + self._offset_ns


def published_ns(sent_ns: int, received_ns: int) -> int:
    """When a message was published, by the receiver's clock: what its sender says, or, where that seems to be of another clock,
    when it was received.
    """
    return sent_ns if 0 <= received_ns - sent_ns <= LONGEST_ON_ITS_WAY_NS else received_ns
