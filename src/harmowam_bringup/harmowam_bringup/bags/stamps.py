"""Watches the times of one topic's messages: gaps, stamps that go back or stand still."""

from __future__ import annotations

from collections import deque
from enum import Enum
from statistics import median
from typing import Any

from harmowam_bringup.bags.problems import Problems, Trouble

PERIODIC_FROM = 10
"""Intervals that must be known before a longer one counts as a gap."""
SENSED = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/JointState")
"""Types whose stamps are moments of their own; others carry that of the observation they derive from, and may repeat it."""
PLAUSIBLE_MS = 10_000.0
"""A message that came so long after its stamp, or before it, has a stamp of another clock."""
GAP_PERIODS, GAP_S = 3.0, 0.2
"""A gap is longer than both: so many usual intervals, and so many seconds."""


def stamp_of(message: Any) -> int | None:
    """The header's stamp, ns; None without one, or where it was left at 0."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return None if stamp is None else (int(stamp.sec) * 10**9 + int(stamp.nanosec)) or None


JUMP_NS = 10**9
"""A stamp that lies this far behind the last one, or this much further ahead than the recorder's clock went on, is of no use by itself."""


class Jump(Enum):
    """How a stamp lies to the last one that was used."""

    NONE = "none"
    ALONE = "alone"  # a bad stamp, as far as is known
    SET = "set"  # the second in a row, and later than the first: the clock was set, and the new time is the one to go by


class JumpWatch:
    """Tells bad stamps from a clock that was set."""

    def __init__(self) -> None:
        self._alone_ns: int | None = None

    def see(self, stamp_ns: int, time_ns: int, last_stamp_ns: int, last_time_ns: int) -> Jump:
        """The next stamp and when it was recorded, and both of the last one that was used; ns."""
        ahead_ns = stamp_ns - last_stamp_ns
        alone_ns, self._alone_ns = self._alone_ns, None
        if ahead_ns >= -JUMP_NS and ahead_ns - (time_ns - last_time_ns) <= JUMP_NS:
            return Jump.NONE
        if alone_ns is not None and stamp_ns > alone_ns:
            return Jump.SET
        self._alone_ns = stamp_ns
        return Jump.ALONE


class StampWatch:
    """Reports what is odd about the times of a topic, message by message."""

    def __init__(self, topic: str, problems: Problems) -> None:
        self._topic, self._problems = topic, problems
        self._last: tuple[int, int] | None = None  # stamp, received
        self._jumps = JumpWatch()
        self._intervals_s: deque[float] = deque(maxlen=30)

    def see(self, stamp_ns: int | None, received_ns: int) -> None:
        """The next message: its stamp (None: none, so that only gaps are looked for), and when it was recorded."""
        time_ns = received_ns if stamp_ns is None else stamp_ns
        last, self._last = self._last, (time_ns, received_ns)
        if last is None:
            return
        interval_s = (time_ns - last[0]) / 1e9
        jump = self._jumps.see(time_ns, received_ns, *last)
        if jump is Jump.SET:
            return
        if jump is Jump.ALONE:
            self._problems.add(Trouble.OUT_OF_ORDER, self._topic, f"the stamp jumps by {interval_s:+.3f} s", received_ns)
            self._last = last
            return
        if interval_s <= 0:
            if stamp_ns is not None and interval_s < 0:
                words = f"the stamp goes back by {-interval_s:.3f} s"
                self._problems.add(Trouble.OUT_OF_ORDER, self._topic, words, received_ns)
                self._last = last  # or the return to order would look like a gap
            elif stamp_ns is not None:
                self._problems.add(Trouble.EQUAL_STAMPS, self._topic, "two messages have the same stamp", received_ns)
            return
        if len(self._intervals_s) >= PERIODIC_FROM:
            usual_s = median(self._intervals_s)
            if interval_s > max(GAP_PERIODS * usual_s, GAP_S):
                words = f"{interval_s:.2f} s without a message, usually {usual_s:.3f} s"
                self._problems.add(Trouble.GAP, self._topic, words, received_ns)
                return
        self._intervals_s.append(interval_s)
