"""The phase changes with the score, and never chatters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmowam_core.stages import Phase
from harmowam_gate.gate_state import GateState

FRAME_NS = 100_000_000


def phases(scores, **settings):
    gate = GateState(**settings)
    return [gate.update(score, frame * FRAME_NS) for frame, score in enumerate(scores)]


def test_the_first_score_passes_the_bare_threshold():
    assert phases([0.51]) == [Phase.INTERACTION]
    assert phases([0.5]) == [Phase.TRANSIT]


def test_scores_around_the_threshold_change_nothing():
    assert set(phases([0.4] + [0.58, 0.42] * 50)) == {Phase.TRANSIT}
    assert set(phases([0.7] + [0.58, 0.42] * 50)) == {Phase.INTERACTION}


def test_beyond_the_hysteresis_the_phase_changes_both_ways():
    assert phases([0.1] * 4 + [0.61] * 4 + [0.39] * 4)[3::4] == [Phase.TRANSIT, Phase.INTERACTION, Phase.TRANSIT]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=100), st.sampled_from([0.0, 0.25, 0.3, 1.0]))
def test_two_changes_are_never_closer_than_the_dwell(scores, dwell_s):
    seen = phases(scores, dwell_s=dwell_s)
    changes = [frame for frame in range(1, len(seen)) if seen[frame] is not seen[frame - 1]]
    assert all((b - a) * 0.1 >= dwell_s - 1e-9 for a, b in zip([0, *changes], changes, strict=False))


def test_a_dwell_delays_a_lasting_change_only_so_long():
    assert phases([0.0, 1.0, 1.0, 1.0], dwell_s=0.3) == [Phase.TRANSIT] * 3 + [Phase.INTERACTION]


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.1, 1.1])
def test_what_is_no_score_is_refused_and_changes_nothing(score):
    gate = GateState()
    gate.update(0.9, 0)
    with pytest.raises(ValueError, match="gate score is"):
        gate.update(score, 10 * FRAME_NS)
    assert gate.phase is Phase.INTERACTION


def test_a_hysteresis_that_no_score_can_pass_is_refused():
    with pytest.raises(ValueError, match="no score could"):
        GateState(threshold=0.9, hysteresis=0.2)
