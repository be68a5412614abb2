"""The arbiter's state machine, over all combinations."""

from __future__ import annotations

import itertools
import math

import pytest

from harmowam_core.status import Reason, Status
from harmowam_gate.decision import Condition, Decision, decide, why_not_reset

LATCHED = Decision(Status.LATCHED, Reason.OPERATOR, "held")
FLAGS = (
    (Reason.SECOND_PUBLISHER, Status.LATCHED),
    (Reason.JOINT_STATES_LOST, Status.LATCHED),
    (Reason.TRACKING_ERROR, Status.LATCHED),
    (Reason.IMAGE_FROZEN, Status.HOLDING),
    (Reason.CHUNK_STALE, Status.HOLDING),
    (Reason.DEADLINE_MISSED, Status.SLOWED),
    (Reason.DRIFT, Status.SLOWED),
)
VALUES = (0.1, 2.0, math.nan, math.inf)


def conditions(values):
    return tuple(Condition(reason, reason.name, value, 1.0, status) for (reason, status), value in zip(FLAGS, values, strict=True))


def every_combination():
    for values in itertools.product(VALUES, repeat=len(FLAGS)):
        yield values, conditions(values)


@pytest.mark.parametrize("busy", [False, True])
def test_the_most_severe_wins_and_of_equals_the_first(busy):
    for values, flags in every_combination():
        decision = decide(busy, None, flags)
        unmet = [flag for flag, value in zip(FLAGS, values, strict=True) if not value <= 1.0]
        if not busy:
            unmet = [flag for flag in unmet if flag[1] is Status.LATCHED]
        if unmet:
            worst = max(status for _, status in unmet)
            assert decision.status is worst
            assert decision.reason is next(reason for reason, status in unmet if status is worst)
            assert decision.reason.name in decision.text
        elif busy:
            assert (decision.status, decision.reason) == (Status.EXECUTING, Reason.NONE)
        else:
            assert (decision.status, decision.reason) == (Status.IDLE, Reason.NO_TASK)


@pytest.mark.parametrize("busy", [False, True])
def test_latched_stays_latched_whatever_else_is_or_is_not(busy):
    for _, flags in every_combination():
        assert decide(busy, LATCHED, flags) is LATCHED


def test_one_more_fault_never_makes_it_better():
    for values in itertools.product((0.1, 2.0), repeat=len(FLAGS)):
        status = decide(True, None, conditions(values)).status
        for index in range(len(FLAGS)):
            worse = (*values[:index], 2.0, *values[index + 1 :])
            assert decide(True, None, conditions(worse)).status >= status


def test_a_reset_waits_for_every_condition():
    for values, flags in every_combination():
        said = why_not_reset(flags)
        assert (said == "") == all(value <= 1.0 for value in values)
        for (reason, _), value in zip(FLAGS, values, strict=True):
            assert (reason.name in said) == (not value <= 1.0)
