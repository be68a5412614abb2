"""Cameras that stopped, and cameras that show an old picture."""

from __future__ import annotations

import numpy as np
import pytest

from harmowam_gate.image_watch import ImageWatch

PERIOD = 100_000_000
MOVED_M = 0.005


@pytest.fixture
def watch(cell):
    return ImageWatch(cell)


def show(watch, camera, digests, step_m=0.01, arm=0):
    """Pictures every 100 ms while a tool moves by ``step_m`` in between; returns the time."""
    tools, now = np.zeros((2, 3)), 0
    for digest in digests:
        tools = tools.copy()
        tools[arm, 0] += step_m
        now += PERIOD
        watch.on_image(camera, now, digest)
        watch.on_tools(now, tools, MOVED_M)
    return now


def test_pictures_that_change_are_not_frozen(watch):
    show(watch, "scene", range(10))
    assert watch.frozen_s() == {"scene": 0.0}


def test_the_same_picture_while_the_arm_moves_is_frozen(watch):
    show(watch, "scene", [1, 2, 3, 3, 3, 3, 3])
    assert watch.frozen_s()["scene"] == pytest.approx(0.3)  # since the second of them, when the tool had moved
    watch.on_image("scene", 8 * PERIOD, 4)
    assert watch.frozen_s()["scene"] == 0.0


def test_the_same_picture_of_an_arm_at_rest_is_fine(watch):
    show(watch, "scene", [3] * 10, step_m=0.0)
    assert watch.frozen_s()["scene"] == 0.0


@pytest.mark.parametrize("lost", [1, 20], ids=["a moment", "two seconds"])
def test_an_arm_that_came_to_rest_while_its_joint_states_were_lost_is_not_held_for_ever(watch, lost):
    """What is known of the arm is older than the last picture, and no other picture follows."""
    now = show(watch, "scene", [1, 2])
    stale = now + PERIOD // 2
    for _ in range(lost):
        now += PERIOD
        watch.on_image("scene", now, 3)
        watch.on_tools(stale, np.ones((2, 3)) * 0.1, MOVED_M)  # by every tick again
    rest = np.ones((2, 3))
    for _ in range(20):
        now += PERIOD
        watch.on_image("scene", now, 3)
        watch.on_tools(now, rest, MOVED_M)
    assert watch.frozen_s()["scene"] == 0.0


def test_the_last_picture_of_an_arm_at_rest_says_nothing_of_its_setting_out(watch):
    """Only pictures that were taken after the motion could show it."""
    now = show(watch, "scene", [3] * 30, step_m=0.0)
    left_ns = now + PERIOD // 2
    watch.on_tools(left_ns, np.full((2, 3), 0.01), MOVED_M)
    assert watch.frozen_s()["scene"] == 0.0
    for _ in range(4):
        now += PERIOD
        watch.on_image("scene", now, 3)
        watch.on_tools(now, np.full((2, 3), 0.02), MOVED_M)
    assert watch.frozen_s()["scene"] == pytest.approx((now - left_ns) * 1e-9)
    watch.on_tools(now, np.zeros((2, 3)), MOVED_M)  # back where the picture was taken
    assert watch.frozen_s()["scene"] == 0.0


@pytest.mark.parametrize(("camera", "frozen"), [("wrist_left", True), ("wrist_right", False), ("scene", True)])
def test_a_camera_on_a_waiting_arm_may_see_the_same(watch, camera, frozen):
    show(watch, camera, [3] * 10, arm=0)
    assert (watch.frozen_s()[camera] > 0.25) == frozen


def test_a_camera_that_is_off_is_late_and_not_frozen(watch):
    now = show(watch, "scene", [1, 2, 3])
    watch.on_tools(now + 8 * PERIOD, np.ones((2, 3)), MOVED_M)
    assert watch.ages_s(now + 8 * PERIOD)["scene"] == pytest.approx(0.8)
    assert watch.frozen_s()["scene"] == 0.0


def test_an_unknown_camera_is_refused(watch):
    with pytest.raises(KeyError, match="cellar"):
        watch.on_image("cellar", 0, 1)
