"""Cameras that stopped, and cameras that show an old picture."""

from __future__ import annotations

import numpy as np
import pytest

from harmowam_gate.image_watch import ImageWatch

PERIOD = 100_000_000


@pytest.fixture
def watch(cell):
    return ImageWatch(cell)


def show(watch, camera, digests, step_m=0.01, arm=0):
    """Pictures every 100 ms while a tool moves by ``step_m`` in between; returns the time."""
    tools, now = np.zeros((2, 3)), 0
    for digest in digests:
        tools = tools.copy()
        tools[arm, 0] += step_m
        watch.on_tools(tools)
        now += PERIOD
        watch.on_image(camera, now, digest)
    return now


def test_pictures_that_change_are_not_frozen(watch):
    show(watch, "scene", range(10))
    assert watch.frozen_s(0.005) == {"scene": 0.0}


def test_the_same_picture_while_the_arm_moves_is_frozen(watch):
    show(watch, "scene", [1, 2, 3, 3, 3, 3])
    assert watch.frozen_s(0.005)["scene"] == pytest.approx(0.3)
    watch.on_image("scene", 8 * PERIOD, 4)
    assert watch.frozen_s(0.005)["scene"] == 0.0


def test_the_same_picture_of_an_arm_at_rest_is_fine(watch):
    show(watch, "scene", [3] * 10, step_m=0.0)
    assert watch.frozen_s(0.005)["scene"] == 0.0


def test_a_picture_that_came_before_the_news_of_the_tools_holds_no_arm_for_ever(watch):
    """The arm has come to rest: what is measured of it comes a moment after the picture, and no other picture follows."""
    show(watch, "scene", [1, 2, 3])
    watch.on_tools(np.ones((2, 3)))
    for number in range(4, 20):
        watch.on_image("scene", number * PERIOD, 3)
    assert watch.frozen_s(0.005)["scene"] == 0.0
    watch.on_tools(np.ones((2, 3)) + 0.01)
    assert watch.frozen_s(0.005)["scene"] > 1.0


@pytest.mark.parametrize(("camera", "frozen"), [("wrist_left", True), ("wrist_right", False), ("scene", True)])
def test_a_camera_on_a_waiting_arm_may_see_the_same(watch, camera, frozen):
    show(watch, camera, [3] * 10, arm=0)
    assert (watch.frozen_s(0.005)[camera] > 0.25) == frozen


def test_a_camera_that_is_off_is_late_and_not_frozen(watch):
    now = show(watch, "scene", [1, 2, 3])
    watch.on_tools(np.ones((2, 3)))
    assert watch.ages_s(now + 8 * PERIOD)["scene"] == pytest.approx(0.8)
    assert watch.frozen_s(0.005)["scene"] == 0.0


def test_after_a_stall_a_picture_counts_for_where_the_tools_are_now(watch):
    """The arm came to rest meanwhile; of what waited, the picture of that came before the joint states."""
    now = show(watch, "scene", [1, 2])
    watch.on_image("scene", now + 20 * PERIOD, 3)
    watch.on_tools(np.ones((2, 3)))
    watch.forget_ways()
    for count in range(21, 40):
        watch.on_image("scene", now + count * PERIOD, 3)
    assert watch.frozen_s(0.005)["scene"] == 0.0
    watch.on_tools(np.zeros((2, 3)))
    assert watch.frozen_s(0.005)["scene"] > 1.0


def test_an_unknown_camera_is_refused(watch):
    with pytest.raises(KeyError, match="cellar"):
        watch.on_image("cellar", 0, 1)
