"""The arbiter's state machine, over all combinations."""

from __future__ import annotations

import itertools
import math

import pytest

from harmowam_core.status import Reason, Status
from harmowam_gate.decision import Condition, Decision, decide

LATCHED = Decision(Status.LATCHED, Reason.OPERATOR, "held")
REASONS = (Reason.JOINT_STATES_LOST, Reason.TRACKING_ERROR, Reason.OBSERVATION_STALE, Reason.CHUNK_STALE)


@pytest.mark.parametrize("latched", [None, LATCHED])
@pytest.mark.parametrize("task", [False, True])
def test_every_combination(task, latched):
    for values in itertools.product((0.1, 2.0, math.nan, math.inf), repeat=len(REASONS)):
        conditions = tuple(Condition(reason, reason.name, value, 1.0) for reason, value in zip(REASONS, values, strict=True))
        decision = decide(task, latched, conditions)
        unmet = [reason for reason, value in zip(REASONS, values, strict=True) if not value <= 1.0]
        if latched:
            assert decision is LATCHED
        elif not task:
            assert (decision.status, decision.reason) == (Status.IDLE, Reason.NO_TASK)
        elif unmet:
            assert (decision.status, decision.reason) == (Status.HOLDING, unmet[0])
            assert unmet[0].name in decision.text
        else:
            assert (decision.status, decision.reason) == (Status.EXECUTING, Reason.NONE)
