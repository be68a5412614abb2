"""Rounded corners: exact ends, smooth, never far from the way-points' lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmowam_gate.rounded_path import DEVIATION_RAD, RoundedPath


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(2, 8), size=st.floats(0.01, 2.0))
def test_it_is_smooth_and_near_its_way_points(seed: int, count: int, size: float) -> None:
    waypoints = np.random.default_rng(seed).uniform(-size, size, (count, 14))
    path = RoundedPath(waypoints)
    s = np.linspace(0, path.length, 4001)
    q, tangent, bend = path.at(s)
    np.testing.assert_array_equal(q[[0, -1]], waypoints[[0, -1]])
    for waypoint in waypoints:
        assert np.linalg.norm(q - waypoint, axis=1).min() <= DEVIATION_RAD + path.length / 4000
    assert np.linalg.norm(tangent, axis=1).max() <= 1 + 1e-9
    step = s[1]
    np.testing.assert_allclose(q[0] + np.cumsum((tangent[1:] + tangent[:-1]) / 2 * step, axis=0), q[1:], atol=2e-3 * size + 1e-6)
    np.testing.assert_allclose(tangent[-1] - tangent[0], ((bend[1:] + bend[:-1]) / 2 * step).sum(axis=0), atol=0.05)


def test_chords_follow_it_closely() -> None:
    path = RoundedPath(np.random.default_rng(3).uniform(-1, 1, (5, 14)))
    chords = path.chords()
    q = path.at(np.linspace(0, path.length, 5001))[0]
    a, b = chords[:-1, None], chords[1:, None]
    way = b - a
    share = np.clip(((q - a) * way).sum(-1) / np.maximum((way**2).sum(-1), 1e-18), 0, 1)
    off = np.linalg.norm(a + share[..., None] * way - q, axis=-1).min(axis=0)
    assert off.max() <= DEVIATION_RAD / 20


@pytest.mark.parametrize("count", [2, 3])
def test_standing_still_and_repeated_way_points(count: int) -> None:
    assert RoundedPath(np.ones((count, 14))).length == 0
    twice = RoundedPath(np.array([[0.0] * 14, [0.0] * 14, [0.1] * 14]))
    np.testing.assert_allclose(twice.at(np.array([twice.length / 2]))[0][0], 0.05)
