"""Splines, smoothed joint paths, joining motions and brakes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.interpolate import BPoly

from harmowam_gate.brake import Brake
from harmowam_gate.joint_path import JointPath
from harmowam_gate.joint_spline import GRID_NS, SHORTEST_NS, JointMotion, JointSpline, on_grid
from harmowam_gate.planner import Pace, follow

S = 1_000_000_000
START_NS = 1_700_000_000 * S


def random_motion(seed, speed=2.0, acceleration=7.0):
    random = np.random.default_rng(seed)
    return JointMotion(random.uniform(-1, 1, 14), random.uniform(-speed, speed, 14), random.uniform(-acceleration, acceleration, 14))


def random_spline(seed, points=8):
    return JointSpline.through([START_NS + k * GRID_NS for k in range(points)], [random_motion(seed + k) for k in range(points)])


def waves(times_s):
    """(T, 14) smooth joint positions."""
    return np.sin(np.asarray(times_s)[:, None] * np.linspace(0.5, 3, 14)) * 0.3


@given(st.integers(0, 10**6), st.integers(0, 7 * GRID_NS))
@settings(max_examples=25, deadline=None)
def test_a_spline_is_the_quintic_through_its_points(seed, at_ns):
    spline = random_spline(seed)
    seconds = (spline.times_ns - START_NS) * 1e-9
    reference = BPoly.from_derivatives(seconds, np.stack([spline.positions, spline.velocities, spline.accelerations], axis=1))
    sample = spline.sample(np.array([START_NS + at_ns]))
    for nu, values in enumerate((sample.positions, sample.velocities, sample.accelerations)):
        assert values[0] == pytest.approx(reference(at_ns * 1e-9, nu), abs=1e-5 * 100**nu)


@given(st.integers(0, 10**6), st.integers(1, 5 * GRID_NS))
@settings(max_examples=25, deadline=None)
def test_a_part_of_a_spline_is_the_same_curve(seed, from_ns):
    assume(not 0 < -from_ns % GRID_NS <= SHORTEST_NS)  # a point that follows at once is left out
    spline = random_spline(seed)
    part = spline.between(START_NS + from_ns, spline.end_ns).then(
        JointSpline.through([spline.end_ns], [JointMotion(spline.positions[-1], spline.velocities[-1], spline.accelerations[-1])])
    )
    times_ns = np.linspace(START_NS + from_ns, spline.end_ns - 1, 50).astype(np.int64)
    assert part.sample(times_ns).positions == pytest.approx(spline.sample(times_ns).positions, abs=1e-8)


def test_before_and_after_a_spline_the_arm_rests():
    spline = random_spline(1)
    after = spline.motion(spline.end_ns + 1)
    assert after.at_rest and np.array_equal(after.positions, spline.positions[-1])


def test_grid():
    assert (on_grid(0), on_grid(1), on_grid(GRID_NS)) == (0, GRID_NS, GRID_NS)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_brake_begins_exactly_ends_at_rest_and_keeps_to_the_limits(cell, seed):
    start = random_motion(seed)
    spline = Brake(cell).plan(start, START_NS)
    assert np.array_equal(spline.positions[0], start.positions) and np.array_equal(spline.velocities[0], start.velocities)
    assert not spline.velocities[-1].any() and not spline.accelerations[-1].any()
    assert spline.end_ns - START_NS <= 0.6 * S
    dense, limits = spline.sample(np.linspace(spline.start_ns, spline.end_ns, 5000).astype(np.int64)), cell.limits
    for values, limit in (
        (dense.velocities, limits.velocity),
        (dense.accelerations, limits.acceleration),
        (dense.jerks, limits.jerk),
    ):
        assert (np.abs(values).max(axis=0) <= np.tile(limit, 2) * 1.02).all()


def test_a_resting_arm_needs_no_brake(cell):
    assert len(Brake(cell).plan(JointMotion.resting(np.ones(14)), START_NS).times_ns) == 1


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.3, 0.6]), st.sampled_from([1.0, 1.7]))
@settings(max_examples=25, deadline=None)
def test_following_begins_exactly_and_ends_on_the_path(seed, blend_s, slow_down):
    times_s = np.arange(13) * 0.1
    path = JointPath(START_NS + np.round(times_s * S).astype(np.int64), waves(times_s), 5.0)
    start = random_motion(seed)
    spline = follow(start, START_NS, path, blend_s, Pace(START_NS, 1 / slow_down, 1 / slow_down))
    for name in ("positions", "velocities", "accelerations"):
        assert np.array_equal(getattr(spline, name)[0], getattr(start, name))
    late_ns = spline.times_ns[(spline.times_ns - START_NS) * 1e-9 >= blend_s]
    wanted = path.at(START_NS + np.round((late_ns - START_NS) / slow_down).astype(np.int64))[0]
    assert spline.sample(late_ns).positions == pytest.approx(wanted, abs=1e-9)
    assert abs(spline.end_ns - START_NS - 1.2 * slow_down * S) <= GRID_NS


def test_a_path_at_its_end_cannot_be_followed():
    path = JointPath(START_NS + np.arange(5) * S // 10, waves(np.arange(5) * 0.1), 2.0)
    assert follow(random_motion(0), START_NS + S, path, 0.3, Pace(START_NS + S)) is None


def test_smoothing_keeps_slow_motion_and_halves_noise_at_its_frequency():
    times_s = np.arange(60) * 0.1
    times_ns = START_NS + np.round(times_s * S).astype(np.int64)
    for hertz, kept in ((0.2, 1.0), (2.0, 0.5), (4.5, 0.05)):
        wave = np.sin(2 * np.pi * hertz * times_s)[:, None]
        smooth = JointPath(times_ns, wave, 2.0).at(times_ns)[0][10:-10]
        gain = float((smooth * wave[10:-10]).sum() / (wave[10:-10] ** 2).sum())
        assert gain == pytest.approx(kept, abs=0.08), hertz


def test_dense_samples_and_single_moments_are_those_of_the_spline():
    random = np.random.default_rng(0)
    times_ns = START_NS + np.cumsum(random.integers(3_000, 20_000, 12) * 1000)
    spline = JointSpline(times_ns, *random.normal(size=(3, 12, 14)))
    dense = spline.dense()
    inner = (times_ns[:-1, None] + np.diff(times_ns)[:, None] * np.arange(4) // 4).ravel()
    wanted = spline.sample(np.append(inner, times_ns[-1]))
    for name in ("times_s", "positions", "velocities", "accelerations", "jerks"):
        assert getattr(dense, name) == pytest.approx(getattr(wanted, name), rel=1e-6, abs=1e-6), name
    for row, time_ns in enumerate(inner):
        motion = spline.motion(int(time_ns))
        for name in ("positions", "velocities", "accelerations"):
            assert getattr(motion, name) == pytest.approx(getattr(wanted, name)[row], rel=1e-9, abs=1e-6), name
    assert len(JointSpline.through([START_NS], [JointMotion.resting(np.zeros(14))]).dense().times_s) == 1


def test_peaks_are_exact():
    """Against a thousand samples of each piece, among them pieces whose acceleration is straight or constant."""
    random = np.random.default_rng(0)
    times_ns = START_NS + np.cumsum(random.integers(3_000, 20_000, 12) * 1000)
    wild = JointSpline(times_ns, *random.normal(size=(3, 12, 14)))
    seconds = (times_ns - times_ns[0])[:, None] * 1e-9
    flat = np.ones((1, 14))
    even = JointSpline(times_ns, seconds**2 / 2 * flat, seconds * flat, np.ones((12, 14)))
    ramp = JointSpline(times_ns, seconds**3 / 6 * flat, seconds**2 / 2 * flat, seconds * flat)
    still = JointSpline(times_ns, np.ones((12, 14)), np.zeros((12, 14)), np.zeros((12, 14)))
    for spline in (wild, even, ramp, still):
        inner = [np.linspace(a, b, 1001)[:-1].astype(np.int64) for a, b in zip(times_ns[:-1], times_ns[1:], strict=True)]
        sampled = np.abs(spline.sample(np.concatenate(inner)).accelerations).reshape(11, 1000, 14).max(axis=1)
        ends = np.abs(spline.accelerations)
        assert np.maximum(spline.peak_accelerations()[:-1], ends[1:]) == pytest.approx(np.maximum(sampled, ends[1:]), rel=2e-5, abs=1e-6)
        assert spline.peak_accelerations().max(axis=0) == pytest.approx(np.maximum(sampled.max(axis=0), ends[-1]), rel=2e-5, abs=1e-6)
    resting = JointSpline.through([START_NS], [JointMotion.resting(np.zeros(14))])
    assert not resting.peak_accelerations().any()
