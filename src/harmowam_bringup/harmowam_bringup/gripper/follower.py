"""When a gripper is told what: one goal at a time, the newest wish wins, a goal that does not end is given up and tried again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

RETRY_S = 1.0
GRACE_S = 1.0
"""What a driver may take to end a cancelled goal; after that it is taken for dead."""
SLACK = 0.01  # of an opening beyond its stops, by rounding and blending


class Step(Enum):
    """What to do now."""

    NOTHING = "nothing"
    SEND = "send"
    CANCEL = "cancel"


@dataclass
class Follower:
    """One gripper. ``wanted`` is its newest wish, an opening in [0, 1]; ``goal`` numbers what was sent; times from any steady clock, s."""

    timeout_s: float
    wanted: float | None = None
    fault: str = ""
    cancelling: bool = False
    goal: int = 0
    _sent: float | None = None
    _sent_s: float = 0.0
    _busy: bool = False

    def want(self, opening: float) -> None:
        """A new wish; ValueError if it is no opening."""
        if not -SLACK <= opening <= 1 + SLACK:  # also refuses NaN
            raise ValueError(f"opening is {opening}, expected a number in [0, 1]")
        self.wanted = min(max(opening, 0.0), 1.0)

    def step(self, now_s: float) -> Step:
        """Called often; whoever gets SEND sends ``wanted`` and later calls ``ended`` with this ``goal``, unless the driver dies."""
        if self._busy:
            late = now_s - self._sent_s > self.timeout_s
            if late:
                self.fault = f"the gripper has not got to {self._sent:.2f} in {self.timeout_s:.1f} s"
            if (late or self.wanted != self._sent) and not self.cancelling:
                self.cancelling = True
                return Step.CANCEL
            if now_s - self._sent_s <= self.timeout_s + GRACE_S:
                return Step.NOTHING
            self._busy = False
        again = bool(self.fault) and now_s - self._sent_s >= RETRY_S
        if self.wanted is None or (self.wanted == self._sent and not again):
            return Step.NOTHING
        self._sent, self._sent_s, self._busy, self.cancelling = self.wanted, now_s, True, False
        self.goal += 1
        return Step.SEND

    def ended(self, goal: int, ok: bool, why: str = "") -> None:
        """A goal has ended, or was refused; the driver is free for the next one. What was given up before may end unheard."""
        if goal != self.goal or not self._busy:
            return
        superseded = self.wanted != self._sent
        if ok:
            self.fault = ""
        elif not superseded and not self.cancelling:
            self.fault = f"the gripper did not get to {self._sent:.2f}: {why or 'its driver does not say why'}"
        self._busy = False
