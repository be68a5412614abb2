"""Grippers: what changes them, and how the fingers get there; and what they tell about the task."""

from __future__ import annotations

import numpy as np
import pytest

from harmowam_core.stages import Phase
from harmowam_gate.gripper import Grippers
from harmowam_gate.joint_spline import JointMotion
from harmowam_gate.settings import ArbiterSettings
from harmowam_gate.task_progress import TaskProgress

S = 1_000_000_000
OPEN = np.array([1.0, 1.0])


@pytest.fixture
def grippers(cell):
    return Grippers(cell, ArbiterSettings())


def test_says_nothing_until_asked(grippers):
    assert grippers.advance(S, OPEN) is None


def test_whenever_they_turn_back_fingers_arrive_soon(grippers):
    """Turned back at random moments, in mid-acceleration, too: all the way takes half a second, and turning round a little more."""
    random, now_ns = np.random.default_rng(0), S
    grippers.want([1.0, 1.0])
    for _ in range(1500):
        if random.random() < 0.2:
            grippers.want(random.choice([0.0, 1.0], 2))
        motion = grippers.advance(now_ns, OPEN)
        assert motion is None or (motion.end_ns - now_ns) * 1e-9 <= 0.6
        now_ns += S // 50


@pytest.mark.parametrize("later_s", [0.1, 2.0], ids=["on the way", "arrived"])
def test_a_new_task_takes_fingers_on_from_where_they_are(grippers, cell, later_s):
    grippers.want([0.0, 1.0])
    before = grippers.advance(S, OPEN)
    now_ns = S + round(later_s * 1e9)
    grippers.forget(now_ns)
    assert grippers.advance(now_ns, OPEN) is None
    grippers.want([1.0, 1.0])
    measured = np.array([0.3, 1.0])  # an object may have stopped a finger
    motion = grippers.advance(now_ns, measured)
    begins = before.motion(now_ns) if now_ns < before.end_ns else JointMotion.resting(measured * cell.finger_travel)
    assert motion.motion(now_ns).positions == pytest.approx(begins.positions)
    assert motion.motion(now_ns).velocities == pytest.approx(begins.velocities)


def test_wavering_wishes_change_nothing(grippers):
    grippers.want([1.0, 1.0])
    for wish in (0.55, 0.45, 0.41, 0.59):
        grippers.want([wish, 1.0])
    assert grippers.commanded.tolist() == [1.0, 1.0]
    grippers.want([0.39, 1.0])
    assert grippers.commanded.tolist() == [0.0, 1.0]
    grippers.want([0.59, 1.0])
    assert grippers.commanded.tolist() == [0.0, 1.0]


def test_the_first_wish_takes_the_nearer_end(grippers):
    grippers.want([0.55, 0.45])
    assert grippers.commanded.tolist() == [1.0, 0.0]


def test_fingers_travel_smoothly_and_once(grippers, cell):
    grippers.want([0.0, 1.0])
    motion = grippers.advance(S, OPEN)
    dense = motion.dense()
    assert motion.positions[0].tolist() == [cell.finger_travel, cell.finger_travel]
    assert motion.positions[-1] == pytest.approx([0.0, cell.finger_travel])
    assert not motion.velocities[-1].any()
    assert np.abs(dense.velocities).max() <= 0.1 * 1.02 and (dense.positions >= -1e-4).all()
    again = grippers.advance(S + S // 10, OPEN)  # under way: the rest of the same motion
    assert again.positions[0] == pytest.approx(motion.motion(S + S // 10).positions)
    assert again.velocities[0] == pytest.approx(motion.motion(S + S // 10).velocities)
    assert grippers.advance(motion.end_ns + S, OPEN) is None


def test_reopening_half_way_is_continuous(grippers):
    grippers.want([0.0, 0.0])
    closing = grippers.advance(S, OPEN)
    grippers.want([1.0, 1.0])
    opening = grippers.advance(S + S // 5, OPEN)
    for name in ("positions", "velocities", "accelerations"):
        assert getattr(opening, name)[0] == pytest.approx(getattr(closing.motion(S + S // 5), name))
    assert opening.positions[-1] == pytest.approx([0.04, 0.04])


def watch(progress, script, phase=Phase.TRANSIT, start_s=0.0):
    """Script: (told, opening, seconds) of the left arm; the right one stays open. Returns whether it is done at the end."""
    now_s, done = start_s, False
    for told, opening, seconds in script:
        for _ in range(round(seconds * 20)):
            done = progress.update(round(now_s * S), np.array([told, np.nan]), np.array([opening, 1.0]), phase)
            now_s += 0.05
    return done


CLOSING = [(0.0, opening, 0.05) for opening in np.linspace(1, 0.5, 9)]
OPENING = [(1.0, opening, 0.05) for opening in np.linspace(0.5, 1, 9)]


def test_a_task_is_done_when_what_was_held_is_released_and_the_hand_left():
    progress = TaskProgress(2.0)
    assert not watch(progress, [(1.0, 1.0, 1.0), *CLOSING, (0.0, 0.5, 0.5)])
    assert progress.sub_stage == "holding"
    assert not watch(progress, [(0.0, 0.5, 5.0)], start_s=10)
    assert not watch(progress, [*OPENING, (1.0, 1.0, 1.0)], start_s=20)
    assert progress.sub_stage == "released"
    assert watch(progress, [(1.0, 1.0, 2.5)], start_s=21.5)


def test_near_its_object_the_hand_has_not_left():
    progress = TaskProgress(2.0)
    watch(progress, [*CLOSING, (0.0, 0.5, 0.5)])
    assert not watch(progress, [*OPENING, (1.0, 1.0, 5.0)], Phase.INTERACTION, start_s=10)


def test_closing_on_nothing_holds_nothing():
    progress = TaskProgress(0.1)
    watch(progress, [(0.0, opening, 0.05) for opening in np.linspace(1, 0, 9)] + [(0.0, 0.01, 2.0)])
    assert progress.sub_stage == "approach"
    assert not watch(progress, [(1.0, 1.0, 3.0)], start_s=10)


def test_what_slips_out_is_to_be_grasped_again():
    progress = TaskProgress(0.1)
    watch(progress, [*CLOSING, (0.0, 0.5, 0.5), (0.0, 0.0, 0.5)])
    assert progress.sub_stage == "approach"
    assert not watch(progress, [(1.0, 1.0, 3.0)], start_s=10)


def test_a_second_grasp_is_not_done_before_its_own_release():
    progress = TaskProgress(2.0)
    watch(progress, [*CLOSING, (0.0, 0.5, 0.5), *OPENING, (1.0, 1.0, 1.0), *CLOSING, (0.0, 0.5, 0.5)])
    assert progress.sub_stage == "holding"
    assert not watch(progress, [(0.0, 0.5, 4.0)], start_s=20)


@pytest.mark.parametrize(
    ("name", "value", "what"), [("positions", 0.05, "0.0500 m"), ("velocities", 0.3, "0.300 m/s"), ("accelerations", np.nan, "the fingers")]
)
def test_no_motion_beyond_travel_or_speed_leaves(grippers, name, value, what):
    """Were the solver ever wrong."""
    grippers.want([0.0, 1.0])
    motion = grippers.advance(S, OPEN)
    getattr(motion, name)[3] = value
    with pytest.raises(RuntimeError, match=what):
        grippers._check(motion)


def test_a_motion_of_no_length_is_not_over_when_it_arrives(grippers):
    """Fuzzing found one that was sent in time, 26 ms after it began, and had ended 6 ms before."""
    grippers.want([1.0, 1.0])
    motion = grippers.advance(S, OPEN)
    assert motion.end_ns - S >= 0.1 * S and np.ptp(motion.positions) < 1e-9
