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


def curve(spline):
    """The same quintics by SciPy, over seconds since the start."""
    seconds = (spline.times_ns - spline.start_ns) * 1e-9
    return BPoly.from_derivatives(seconds, np.stack([spline.positions, spline.velocities, spline.accelerations], axis=1))


@given(st.integers(0, 10**6), st.integers(0, 7 * GRID_NS))
@settings(max_examples=25, deadline=None)
def test_a_spline_is_the_quintic_through_its_points(seed, at_ns):
    spline = random_spline(seed)
    reference = curve(spline)
    motion = spline.motion(START_NS + at_ns)
    for nu, values in enumerate((motion.positions, motion.velocities, motion.accelerations)):
        assert values == pytest.approx(reference(at_ns * 1e-9, nu), abs=1e-5 * 100**nu)


@given(st.integers(0, 10**6), st.integers(1, 5 * GRID_NS))
@settings(max_examples=25, deadline=None)
def test_a_part_of_a_spline_is_the_same_curve(seed, from_ns):
    assume(not 0 < -from_ns % GRID_NS <= SHORTEST_NS)  # a point that follows at once is left out
    spline = random_spline(seed)
    part = spline.between(START_NS + from_ns, spline.end_ns).then(
        JointSpline.through([spline.end_ns], [JointMotion(spline.positions[-1], spline.velocities[-1], spline.accelerations[-1])])
    )
    times_ns = START_NS + np.linspace(from_ns, spline.end_ns - START_NS - 1, 50).astype(np.int64)
    for time_ns in times_ns:
        assert part.motion(int(time_ns)).positions == pytest.approx(spline.motion(int(time_ns)).positions, abs=1e-8)


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
    times_s, limits = np.linspace(0, (spline.end_ns - START_NS) * 1e-9, 5000), cell.limits
    for nu, limit in enumerate((limits.velocity, limits.acceleration, limits.jerk), start=1):
        assert (np.abs(curve(spline)(times_s, nu)).max(axis=0) <= np.tile(limit, 2) * 1.02).all()


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
    assert [spline.motion(int(time_ns)).positions for time_ns in late_ns] == pytest.approx(wanted, abs=1e-9)
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


def wild_spline():
    random = np.random.default_rng(0)
    return JointSpline(START_NS + np.cumsum(random.integers(3_000, 20_000, 12) * 1000), *random.normal(size=(3, 12, 14)))


def test_dense_samples_and_single_moments_are_those_of_the_spline():
    spline = wild_spline()
    dense, reference = spline.dense(), curve(spline)
    times_ns = np.append((spline.times_ns[:-1, None] + np.diff(spline.times_ns)[:, None] * np.arange(4) // 4).ravel(), spline.end_ns)
    for row, time_ns in enumerate(times_ns):
        motion, seconds = spline.motion(int(time_ns)), (time_ns - spline.start_ns) * 1e-9
        for nu, name in enumerate(("positions", "velocities", "accelerations")):
            assert getattr(motion, name) == pytest.approx(reference(seconds, nu), rel=1e-6, abs=1e-5), name
        assert dense.positions[row] == pytest.approx(motion.positions, rel=1e-6, abs=1e-6)
        assert dense.velocities[row] == pytest.approx(motion.velocities, rel=1e-6, abs=1e-6)
    assert len(JointSpline.through([START_NS], [JointMotion.resting(np.zeros(14))]).dense().positions) == 1


def test_peaks_of_acceleration_are_exact():
    """Against a thousand samples of each piece, among them pieces whose acceleration is straight or constant."""
    wild = wild_spline()
    times_ns, seconds, ones = wild.times_ns, (wild.times_ns - wild.start_ns)[:, None] * 1e-9, np.ones((12, 14))
    even = JointSpline(times_ns, seconds**2 / 2 * ones, seconds * ones, ones)
    ramp = JointSpline(times_ns, seconds**3 / 6 * ones, seconds**2 / 2 * ones, seconds * ones)
    for spline in (wild, even, ramp, JointSpline(times_ns, ones, 0 * ones, 0 * ones)):
        samples = [np.linspace(a, b, 1001) for a, b in zip(seconds[:-1, 0], seconds[1:, 0], strict=True)]
        sampled = np.abs(curve(spline)(np.concatenate(samples), 2)).reshape(11, 1001, 14).max(axis=1)
        peaks = spline.peak_accelerations()
        assert np.maximum(peaks[:-1], np.abs(spline.accelerations[1:])) == pytest.approx(sampled, rel=2e-5, abs=1e-5)
        assert peaks[-1] == pytest.approx(np.abs(spline.accelerations[-1]))
    assert not JointSpline.through([START_NS], [JointMotion.resting(np.zeros(14))]).peak_accelerations().any()
