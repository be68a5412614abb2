"""The task an operator gave, and what the arbiter does about it and why; each one message of the same name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from harmowam_core.stages import Expert, Phase, StageError


class Status(IntEnum):
    """What the arbiter does; values as STATUS_* of GateState.msg."""

    IDLE = 0
    """No task, the arm rests."""
    EXECUTING = 1
    SLOWED = 2
    """Executing, scaled down."""
    HOLDING = 3
    """Braked; goes on by itself once the reason is gone."""
    LATCHED = 4
    """Braked until an operator resets."""


class Reason(IntEnum):
    """Why the status is what it is, or why the last input was refused; values as REASON_* of GateState.msg."""

    NONE = 0
    NO_TASK = 1
    OPERATOR = 2
    OBSERVATION_STALE = 10
    IMAGE_FROZEN = 11
    CHUNK_STALE = 13
    JOINT_STATES_LOST = 14
    DRIFT = 15
    NOT_FINITE = 20
    MALFORMED = 21
    OUT_OF_ORDER = 22
    JUMP = 23
    POSITION_LIMIT = 30
    VELOCITY_LIMIT = 31
    ACCELERATION_LIMIT = 32
    JERK_LIMIT = 33
    TCP_SPEED = 34
    WORKSPACE = 35
    TOOL_TILT = 36
    CLEARANCE = 37
    SINGULARITY = 38
    UNREACHABLE = 39
    NOT_STOPPABLE = 40
    TRACKING_ERROR = 50
    SECOND_PUBLISHER = 51
    DRIVER_RESTARTED = 52
    DEADLINE_MISSED = 53
    INTERNAL_ERROR = 54


class Outcome(IntEnum):
    """How a task ended; values as in ExecuteTask.action."""

    SUCCEEDED = 1
    TIME_LIMIT = 2
    CANCELLED = 3
    REFUSED = 4
    FAULT = 5


@dataclass(frozen=True)
class Task:
    """What the operator asked for; ``task_id`` grows with every task, and 0 with no words means: no task, rest."""

    stamp_ns: int
    task_id: int
    instruction: str

    def __post_init__(self) -> None:
        if self.task_id < 0:
            raise StageError(f"task_id is {self.task_id}, expected >= 0")
        if (self.task_id == 0) != (not self.instruction.strip()):
            raise StageError(f"task {self.task_id} has instruction '{self.instruction}'; expected words, and none for task 0 alone")


@dataclass(frozen=True)
class GateState:
    """What the arbiter does on this tick; NaN where a number is not known yet, id 0 where nothing came yet.

    score: of the gate in [0, 1] (above the threshold: interaction); expert: whose actions the arm follows, if any;
    measured, limit: the value behind ``reason`` and what it had to keep to, in that limit's unit;
    ages: s since the observation that each input derives from.
    """

    stamp_ns: int
    status: Status
    text: str
    task_id: int = 0
    instruction: str = ""
    score: float = math.nan
    phase: Phase = Phase.TRANSIT
    expert: Expert | None = None
    reason: Reason = Reason.NONE
    measured: float = math.nan
    limit: float = math.nan
    sub_stage: str = ""
    observation_age_s: float = math.nan
    imagination_age_s: float = math.nan
    predictive_chunk_age_s: float = math.nan
    reactive_chunk_age_s: float = math.nan
    imagination_id: int = 0
    predictive_chunk_id: int = 0
    reactive_chunk_id: int = 0
    trajectory_id: int = 0

    def __post_init__(self) -> None:
        if not (math.isnan(self.score) or 0 <= self.score <= 1):
            raise StageError(f"score is {self.score}, expected [0, 1] or NaN")
