"""Tool paths: interpolation, means, quaternions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from harmowam_gate.joint_path import joint_path
from harmowam_gate.pose_path import PosePath, blend_quaternions, mean_path

S = 1_000_000_000


def path(start_s, offset=0.0, turn_rad=0.0, count=12, grip=1.0):
    times_ns = round(start_s * S) + np.arange(1, count + 1) * S // 10
    positions = np.zeros((count, 2, 3))
    positions[:, :, 0] = (times_ns / S)[:, None] + offset
    orientations = np.tile(Rotation.from_euler("z", turn_rad).as_quat(), (count, 2, 1))
    return PosePath(times_ns, positions, orientations, np.full((count, 2), grip))


def test_between_targets_it_is_straight():
    here = path(0.0).at(np.array([S // 4, S]))
    assert here.positions[:, 0, 0] == pytest.approx([0.25, 1.0])


def test_since_keeps_three_past_targets():
    assert path(0.0).since(S // 2).times_ns[0] == 3 * S // 10
    assert len(path(0.0).since(0).times_ns) == 12


def test_a_path_followed_in_part_is_the_same_curve_there(kinematics):
    """All targets tell noise from motion, also those that drift says not to go to."""
    start = kinematics.home()
    positions, orientations = (np.tile(part, (12, 1, 1)) for part in kinematics.forward(start))
    positions[:, :, 0] += np.random.default_rng(0).normal(0, 0.005, (12, 2)) + 0.01 * np.arange(12)[:, None]
    whole = PosePath(np.arange(1, 13) * S // 10, positions, orientations, np.ones((12, 2)))
    part = whole.until(S // 2)
    assert whole.until(S // 10) is None
    assert part.since(S // 4).end_ns == part.until(S).end_ns == part.at(np.array([S // 4])).end_ns == S // 2
    assert mean_path(whole, part).end_ns == mean_path(part, whole).end_ns == S // 2
    all_of_it, beginning = (joint_path(path, kinematics, start, 2.0) for path in (whole, part))
    assert (all_of_it.end_ns, beginning.end_ns) == (12 * S // 10, S // 2)
    times_ns = np.arange(S // 10, S // 2, S // 100)
    assert np.array_equal(np.array(all_of_it.at(times_ns)), np.array(beginning.at(times_ns)))


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.booleans())
def test_the_mean_turn_is_half_way_whatever_the_signs(a_rad, b_rad, flip):
    a, b = Rotation.from_euler("z", a_rad).as_quat(), Rotation.from_euler("z", b_rad).as_quat()
    mean = blend_quaternions(a, -b if flip else b, 0.5)
    assert Rotation.from_quat(mean).as_euler("xyz")[2] == pytest.approx((a_rad + b_rad) / 2, abs=1e-9)
    assert np.linalg.norm(mean) == pytest.approx(1.0)


def test_the_mean_of_two_paths_covers_what_both_cover():
    mean = mean_path(path(0.0, 0.1, 0.2, grip=1.0), path(0.33, -0.3, 0.4, grip=0.0))
    assert mean.times_ns[0] >= round(0.43 * S) and mean.times_ns[-1] == round(1.2 * S)
    assert mean.positions[:, 1, 0] == pytest.approx(mean.times_ns / S - 0.1)
    assert Rotation.from_quat(mean.orientations[3, 0]).as_euler("xyz")[2] == pytest.approx(0.3)
    assert mean.grippers == pytest.approx(0.5)


def test_paths_of_different_times_have_no_mean():
    assert mean_path(path(0.0), path(5.0)) is None


def test_the_opening_is_that_of_the_next_target():
    one = path(0.0)
    one.grippers[3:] = 0.0
    assert [one.opening(round(t * S))[0] for t in (0.0, 0.3, 0.31, 9.0)] == [1.0, 1.0, 0.0, 0.0]
