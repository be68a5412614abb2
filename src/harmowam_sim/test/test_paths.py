"""Paths keep the hand clear of what stands in between, start and end where they should, and have no corners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmowam_sim.objects import KINDS
from harmowam_sim.paths import (
    HAND,
    TRANSIT_CLEARANCE_M,
    Post,
    Section,
    carrying,
    hand_gap,
    horizontal_gap,
    length,
    straight,
    transit_path,
)


def test_horizontal_gap_is_the_distance_to_a_turned_box() -> None:
    section, post = Section(0.03, 0.10, 0.0), Post(0.2, 0.0, 0.02, 0.2, 0.05)
    here = np.zeros((1, 2))
    assert horizontal_gap(section, here, 0.0, post)[0] == pytest.approx(0.2 - 0.03 - 0.02)
    assert horizontal_gap(section, here, np.pi / 2, post)[0] == pytest.approx(0.2 - 0.10 - 0.02)
    assert horizontal_gap(section, np.array([[0.2, 0.0]]), 0.3, post)[0] < 0


def test_gap_counts_height_above() -> None:
    post = Post(0.0, 0.0, 0.03, 0.20, 0.05)
    assert hand_gap(HAND, np.array([[0.0, 0.0, 0.30]]), 0.0, post)[0] == pytest.approx(0.30 - 0.010 - 0.20)


def test_free_path_is_nearly_straight() -> None:
    start, end = np.array([0.4, 0.1, 0.3]), np.array([0.5, 0.3, 0.15])
    path = transit_path(start, end, HAND, 0.0, ())
    assert length(path) == pytest.approx(np.linalg.norm(end - start), rel=0.01)


@pytest.mark.parametrize("aside", [-0.03, -0.01, 0.01, 0.03])
def test_ways_lead_over(aside: float) -> None:
    start, end = np.array([0.5, -0.08, 0.12]), np.array([0.5, 0.38, 0.13])
    path = transit_path(start, end, HAND, 0.0, [Post(0.5 + aside, 0.15, 0.03, 0.20, TRANSIT_CLEARANCE_M)])
    assert np.abs(path[:, 0] - 0.5).max() < 0.01
    assert path[:, 2].max() == pytest.approx(0.20 + TRANSIT_CLEARANCE_M + 0.010, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(0.40, 0.62),
    along=st.floats(0.35, 0.65),
    height=st.floats(0.16, 0.24),
    sway=st.floats(-0.03, 0.03),
    arc=st.floats(0.0, 0.03),
    held=st.booleans(),
)
def test_paths_go_over_with_clearance(x: float, along: float, height: float, sway: float, arc: float, held: bool) -> None:
    start, end = np.array([x, -0.08, 0.12]), np.array([x + 0.04, 0.38, 0.13])
    middle = start + along * (end - start)
    post = Post(middle[0], middle[1], 0.03, height, TRANSIT_CLEARANCE_M)
    hand = carrying(HAND, KINDS["red apple"]) if held else HAND
    path = transit_path(start, end, hand, 0.0, [post], sway_m=sway, arc_m=arc)
    assert hand_gap(hand, straight(start, end), 0.0, post).min() < 0
    ends = hand_gap(hand, path[[0, -1]], 0.0, post).min()
    assert hand_gap(hand, path, 0.0, post).min() > min(TRANSIT_CLEARANCE_M, ends) - 0.015
    np.testing.assert_allclose(path[[0, -1]], [start, end], atol=1e-9)
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert steps.max() < 0.02
    assert length(path) < 2.5 * np.linalg.norm(end - start)
