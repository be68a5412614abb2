"""The trajectory driver behaves as joint_trajectory_controller documents."""

from __future__ import annotations

from types import SimpleNamespace as Namespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmowam_core.stages import JointTrajectory
from harmowam_sim.driver import Refusal, TrajectoryDriver, TrajectoryRefused

NAMES = ("a", "b")


def message(times, positions, velocities=(), accelerations=(), names=NAMES, stamp_s=0.0):
    """Shaped like a trajectory_msgs/JointTrajectory."""
    points = [
        Namespace(
            positions=list(position),
            velocities=list(velocities[k]) if len(velocities) else [],
            accelerations=list(accelerations[k]) if len(accelerations) else [],
            time_from_start=Namespace(sec=int(time // 1), nanosec=round(time % 1 * 1e9)),
        )
        for k, (time, position) in enumerate(zip(times, positions, strict=True))
    ]
    stamp = Namespace(sec=int(stamp_s // 1), nanosec=round(stamp_s % 1 * 1e9))
    return Namespace(header=Namespace(stamp=stamp), joint_names=list(names), points=points)


def driver():
    return TrajectoryDriver(NAMES, [0.0, 1.0])


def test_rests_at_the_start():
    positions, velocities = driver().sample(5.0)
    assert positions.tolist() == [0.0, 1.0] and velocities.tolist() == [0.0, 0.0]


def test_positions_only_are_joined_by_lines():
    follower = driver()
    follower.accept(message([1.0, 2.0], [[1.0, 1.0], [1.0, 3.0]]), 10.0)
    positions, velocities = follower.sample(10.25)
    assert positions == pytest.approx([0.25, 1.0]) and velocities == pytest.approx([1.0, 0.0])
    positions, velocities = follower.sample(11.5)
    assert positions == pytest.approx([1.0, 2.0]) and velocities == pytest.approx([0.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_splines_pass_through_the_points_with_their_derivatives(seed, quintic):
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.2, 0.5, 4))
    positions, velocities, accelerations = random.normal(size=(3, 4, 2))
    velocities[-1] = 0.0
    follower = driver()
    follower.accept(message(times, positions, velocities, accelerations if quintic else ()), 100.0)
    for k, time in enumerate(times):
        for shift in (-1e-7, 1e-7):
            position, velocity = follower.sample(100.0 + time + shift)
            assert position == pytest.approx(positions[k], abs=1e-5)
            assert velocity == pytest.approx(velocities[k], abs=1e-3)
        if quintic and k + 1 < len(times):
            before, after = follower.sample(100.0 + time - 1e-6)[1], follower.sample(100.0 + time + 1e-6)[1]
            assert (after - before) / 2e-6 == pytest.approx(accelerations[k], abs=0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.39))
def test_a_new_trajectory_replaces_the_old_without_a_jump(seed, moment):
    random = np.random.default_rng(seed)
    positions, velocities, accelerations = random.normal(size=(3, 2, 2))
    velocities[-1] = 0.0
    follower = driver()
    follower.accept(message([0.2, 0.4], positions, velocities, accelerations), 1.0)
    position, velocity = follower.sample(1.0 + moment)
    follower.accept(message([0.3], [[0.5, 0.5]], [[0.0, 0.0]], [[0.0, 0.0]]), 1.0 + moment)
    again, velocity_again = follower.sample(1.0 + moment)
    assert again == pytest.approx(position) and velocity_again == pytest.approx(velocity)
    assert follower.sample(5.0)[0] == pytest.approx([0.5, 0.5])  # not where the old one ended


def test_holds_the_last_point_at_rest():
    follower = driver()
    follower.accept(message([1.0], [[2.0, 2.0]]), 0.0)
    positions, velocities = follower.sample(50.0)
    assert positions.tolist() == [2.0, 2.0] and velocities.tolist() == [0.0, 0.0]


def test_joints_in_another_order_are_mapped():
    follower = driver()
    follower.accept(message([1.0], [[7.0, 8.0]], names=("b", "a")), 0.0)
    assert follower.sample(1.0)[0].tolist() == [8.0, 7.0]


def test_a_stamp_in_the_future_is_approached_until_its_first_point():
    follower = driver()
    follower.accept(message([0.0, 1.0], [[1.0, 1.0], [2.0, 1.0]], stamp_s=12.0), 10.0)
    assert follower.sample(11.0)[0] == pytest.approx([0.5, 1.0])
    assert follower.sample(12.5)[0] == pytest.approx([1.5, 1.0])


def test_a_stage_is_followed_like_its_message():
    times, values = np.array([0.5, 1.0]), np.array([[0.1, 0.2], [0.3, 0.4]])
    zeros = np.zeros((2, 2))
    one, other = driver(), driver()
    one.accept(JointTrajectory(3_000_000_000, NAMES, times, values, zeros, zeros), 3.0)
    other.accept(message(times, values, zeros, zeros, stamp_s=3.0), 3.0)
    for now in np.linspace(3.0, 4.2, 13):
        assert one.sample(now)[0] == pytest.approx(other.sample(now)[0])


REFUSED = [
    (Refusal.JOINTS, message([1.0], [[1.0, 1.0]], names=("a", "c"))),
    (Refusal.JOINTS, message([1.0], [[1.0]], names=("a",))),
    (Refusal.JOINTS, message([1.0], [[1.0, 1.0]], names=("a", "a"))),
    (Refusal.JOINTS, message([1.0], [[1.0, 1.0, 1.0]], names=("a", "b", "b"))),
    (Refusal.EMPTY, message([], [])),
    (Refusal.SIZE, message([1.0], [[1.0]])),
    (Refusal.SIZE, message([1.0], [[1.0, 1.0]], [[0.0]])),
    (Refusal.SIZE, message([1.0], [[1.0, 1.0]], [[0.0, 0.0]], [[0.0] * 3])),
    (Refusal.NOT_FINITE, message([1.0], [[np.nan, 1.0]])),
    (Refusal.NOT_FINITE, message([1.0], [[1.0, 1.0]], [[0.0, np.inf]])),
    (Refusal.NOT_FINITE, message([1.0], [[1.0, 1.0]], [[0.0, 0.0]], [[np.nan, 0.0]])),
    (Refusal.TIMES, message([1.0, 1.0], [[1.0, 1.0]] * 2)),
    (Refusal.TIMES, message([1.0, 0.5], [[1.0, 1.0]] * 2)),
    (Refusal.PAST, message([1.0], [[1.0, 1.0]], stamp_s=90.0)),
    (Refusal.MOVING_END, message([1.0], [[1.0, 1.0]], [[0.1, 0.0]])),
]


@pytest.mark.parametrize(("reason", "trajectory"), REFUSED)
def test_malformed_trajectories_are_refused_and_the_old_one_goes_on(reason, trajectory):
    follower = driver()
    follower.accept(message([4.0], [[4.0, 1.0]]), 98.0)
    with pytest.raises(TrajectoryRefused) as refused:
        follower.accept(trajectory, 100.0)
    assert refused.value.reason is reason
    assert follower.sample(101.0)[0] == pytest.approx([3.0, 1.0])
