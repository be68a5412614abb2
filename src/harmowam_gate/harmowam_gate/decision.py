"""The arbiter's state machine: from what is known at a tick to what it does. Pure, so that every combination can be tested."""

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
    """Something that has to hold before the arm may follow the experts. Ages in s; infinity where nothing came yet."""

    reason: Reason
    what: str
    value: float
    limit: float

    @property
    def met(self) -> bool:
        """Written so that NaN fails."""
        return self.value <= self.limit


def decide(task: bool, latched: Decision | None, conditions: tuple[Condition, ...]) -> Decision:
    """Latched wins over all; without a task the arm rests; then the first condition that isn't met holds it."""
    if latched is not None:
        return latched
    if not task:
        return Decision(Status.IDLE, Reason.NO_TASK, "no task")
    for condition in conditions:
        if not condition.met:
            return Decision(Status.HOLDING, condition.reason, _describe(condition), condition.value, condition.limit)
    return Decision(Status.EXECUTING, Reason.NONE, "executing")


def _describe(condition: Condition) -> str:
    if condition.value == float("inf"):
        return f"holding: no {condition.what} yet"
    return f"holding: {condition.what} at {condition.value:.3f}, limit {condition.limit:.3f}"
