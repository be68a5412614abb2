"""Stamps of a clock that is set, on the steady one."""

from __future__ import annotations

import pytest

from harmowam_core.stamp_clock import SLEW_NS, StampClock

MS = 1_000_000
HOUR = 3_600_000 * MS
WALL = 1_700_000_000_000 * MS


def run(clock, wall, steady, ticks, slew_ns=0):
    """Ticks of 20 ms; the wall clock runs off by ``slew_ns`` on each."""
    for _ in range(ticks):
        wall, steady = wall + 20 * MS + slew_ns, steady + 20 * MS
        clock.read(wall, steady, steady)
    return wall, steady


def test_there_and_back():
    clock = StampClock(WALL, 5 * MS)
    assert clock.to_steady(WALL + 3 * MS, 9 * MS) == 8 * MS
    assert clock.to_stamp(clock.to_steady(WALL + 7, 9 * MS)) == WALL + 7


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_jump_changes_no_age(jump):
    """Stamps of before that come after the jump, and new ones, have the ages they have."""
    clock = StampClock(WALL, 0)
    wall, steady = run(clock, WALL, 0, 10)
    sent_before = wall
    assert clock.read(wall + jump + 20 * MS, steady + 20 * MS, steady + 20 * MS)
    wall, steady = wall + jump + 20 * MS, steady + 20 * MS
    assert clock.to_steady(wall - 30 * MS, steady) == steady - 30 * MS
    assert clock.to_steady(sent_before, steady) == steady - 20 * MS
    assert clock.to_stamp(steady + 100 * MS) == wall + 100 * MS
    wall, steady = run(clock, wall, steady, 200)
    assert clock.to_steady(wall, steady) == steady


def test_a_slewing_clock_is_followed_in_small_steps():
    clock = StampClock(WALL, 0)
    wall, steady = WALL, 0
    for _ in range(500):
        before = clock.to_stamp(steady)
        wall, steady = run(clock, wall, steady, 1, slew_ns=8_000)
        assert abs(clock.to_stamp(steady) - before - 20 * MS) <= SLEW_NS
    assert abs(clock.to_stamp(steady) - wall) <= 8_000


def test_an_interrupted_reading_moves_nothing():
    clock = StampClock(WALL, 0)
    assert not clock.read(WALL + 300 * MS, 0, 300 * MS)
    assert clock.to_stamp(0) == WALL


def test_what_is_read_beside_the_ticks_finds_jumps_and_follows_nothing():
    clock = StampClock(WALL, 0)
    for _ in range(100):
        assert not clock.read(WALL + 1 * MS, 0, 0, slew=False)
    assert clock.to_stamp(0) == WALL
    assert clock.read(WALL + HOUR, 0, 0, slew=False) and clock.to_stamp(0) == WALL + HOUR


@pytest.mark.parametrize("step_ms", [100, 300, 400, 2000])
def test_after_a_small_step_forth_what_was_stamped_before_keeps_its_age(step_ms):
    """A chunk of half a second ago was stamped by the clock of before, though the other reading would be nearer to now."""
    clock = StampClock(WALL, 0)
    wall, steady = run(clock, WALL, 0, 100)
    old = wall - 450 * MS
    assert clock.read(wall + (step_ms + 20) * MS, steady + 20 * MS, steady + 20 * MS)
    wall, steady = wall + (step_ms + 20) * MS, steady + 20 * MS
    assert clock.to_steady(old, steady) == steady - 470 * MS
    assert clock.to_steady(wall - 10 * MS, steady) == steady - 10 * MS
    wall, steady = run(clock, wall, steady, 20)
    assert clock.to_steady(wall - 10 * MS, steady) == steady - 10 * MS
