"""The arbiter's state machine: from what is known at a tick to what it does. Pure, so that every combination can be tested.

Severity grows from IDLE over EXECUTING, SLOWED and HOLDING to LATCHED, and the most severe wins. A latched decision is
kept by the caller and given back on the next tick; it ends by ``why_not_reset`` saying nothing, and by nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from harmowam_core.status import Reason, Status


@dataclass(frozen=True)
class Decision:
    """What to do, and why; measured and limit are the value behind the reason and what it had to keep to."""

    status: Status
    reason: Reason
    text: str
    measured: float = float("nan")
    limit: float = float("nan")


@dataclass(frozen=True)
class Condition:
    """Something that has to hold, or else the arm is slowed, held or latched. Ages in s; infinity where nothing came yet."""

    reason: Reason
    what: str
    value: float
    limit: float
    otherwise: Status = Status.HOLDING

    @property
    def met(self) -> bool:
        """Written so that NaN fails."""
        return self.value <= self.limit

    @property
    def decision(self) -> Decision:
        """What follows where it is not met."""
        verb = {Status.SLOWED: "slowed", Status.HOLDING: "holding"}.get(self.otherwise, "held until /harmowam/reset")
        if self.value == float("inf"):
            text = f"{verb}: no {self.what} yet"
        elif self.value != self.value:
            text = f"{verb}: {self.what} cannot be used"
        else:
            text = f"{verb}: {self.what} at {self.value:.3f}, limit {self.limit:.3f}"
        return Decision(self.otherwise, self.reason, text, self.value, self.limit)


def decide(busy: bool, latched: Decision | None, conditions: tuple[Condition, ...]) -> Decision:
    """The most severe of what is latched and what isn't met; of equals the first. ``busy``: there is something to execute."""
    if latched is not None:
        return latched
    unmet = [condition for condition in conditions if not condition.met]
    if not busy:
        unmet = [condition for condition in unmet if condition.otherwise is Status.LATCHED]
    if unmet:
        return max(unmet, key=lambda condition: condition.otherwise).decision
    if not busy:
        return Decision(Status.IDLE, Reason.NO_TASK, "no task")
    return Decision(Status.EXECUTING, Reason.NONE, "executing")


def why_not_reset(conditions: tuple[Condition, ...]) -> str:
    """Why a latched arm must stay so: what would latch it again at once, or keeps it from being re-synchronised; empty if nothing."""
    return "; ".join(f"{c.what} at {c.value:.3f}, limit {c.limit:.3f}" for c in conditions if not c.met)
