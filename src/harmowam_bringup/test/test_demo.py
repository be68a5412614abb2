"""What the demo prints while it runs, and when it stops early."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from harmowam_bringup.demo import AFTER_END_S, DemoOptions, Watcher
from harmowam_core.stages import Expert, Phase
from harmowam_core.status import GateState, Reason, Status

STATE = GateState(0, Status.EXECUTING, "executing", score=0.07, expert=Expert.REACTIVE)


class Clock:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120, soft_wrap=True, highlight=False)


def lines(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_nothing_is_printed_before_the_start(clock: Clock, console: Console) -> None:
    Watcher(console, clock).on_gate(STATE)
    assert lines(console) == []


def test_changes_are_printed_and_repetitions_only_now_and_then(clock: Clock, console: Console) -> None:
    watcher = Watcher(console, clock)
    watcher.start()
    for _ in range(10):
        watcher.on_gate(STATE)
        clock.now_s += 0.05
    watcher.on_gate(replace(STATE, expert=Expert.PREDICTIVE, phase=Phase.INTERACTION, score=0.9))
    watcher.on_score({"sub_stage": "grasping the lime", "score": 0.25})
    watcher.on_gate(replace(STATE, expert=Expert.PREDICTIVE, phase=Phase.INTERACTION, score=math.nan))
    header, first, second, third = lines(console)
    assert "sub-stage" in header
    assert first.split() == ["0.0", "s", "reactive", "0.07", "executing", "0.00"]
    assert second.split() == ["0.5", "s", "predictive", "0.90", "executing", "0.00"]
    assert third.split() == ["0.5", "s", "predictive", "–", "executing", "0.25", "grasping", "the", "lime"]
    clock.now_s += 2.0
    watcher.on_gate(replace(STATE, expert=Expert.PREDICTIVE, phase=Phase.INTERACTION))
    assert len(lines(console)) == 5


def test_flickering_holds_do_not_flood_the_log(clock: Clock, console: Console) -> None:
    watcher = Watcher(console, clock)
    watcher.start()
    for tick in range(200):  # 10 s at 20 Hz, another reason on every tick
        reason = (Reason.CHUNK_STALE, Reason.OBSERVATION_STALE)[tick % 2]
        watcher.on_gate(replace(STATE, status=Status.HOLDING, expert=None, reason=reason, text=f"holding: {reason.name}"))
        clock.now_s += 0.025
        watcher.on_gate(STATE)
        clock.now_s += 0.025
    assert 8 <= len(lines(console)) - 1 <= 11
    assert "(holding: CHUNK_STALE)" in lines(console)[1]
    watcher.on_gate(replace(STATE, status=Status.LATCHED, text="latched"))  # but a latch is said at once
    assert "latched" in lines(console)[-1]


@pytest.mark.parametrize("end", [{"success": True}, {"success": False, "failure": "knocked over the bottle"}])
def test_it_is_over_a_moment_after_the_simulator_saw_the_end(clock: Clock, console: Console, end: dict[str, object]) -> None:
    watcher = Watcher(console, clock)
    watcher.on_score({"success": False, "failure": None})
    assert not watcher.is_over()
    watcher.on_score(end)
    assert not watcher.is_over()
    clock.now_s += AFTER_END_S
    assert watcher.is_over()


def test_seeds_are_evaluation_seeds() -> None:
    assert DemoOptions(seed=7).episode_seed == 1_000_007
