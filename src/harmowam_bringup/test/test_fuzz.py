"""Fuzzing: the same seed gives the same, what fails is found, made small, and plays again; runs resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from harmowam_bringup.cli import app
from harmowam_bringup.fuzz import command
from harmowam_bringup.fuzz.episode import Player
from harmowam_bringup.fuzz.events import CHUNK_KINDS, SLOW_KINDS, Event, chunk_message, draw
from harmowam_core.cell import load_cell
from harmowam_gate.limits import MotionFilter, Verdict

CELL = load_cell()
run = CliRunner().invoke


@pytest.fixture(scope="module")
def player() -> Player:
    return Player(CELL)


def a_chunk(how: str = "sound", where: float = 0.5) -> Event:
    middle = [0.05, 0.0, 0.0, 0.03, 0.03, 0.0]
    return Event(0, "chunk", how, (1.0, where, 0.1, *middle, *[0.0] * 6, 0.3, 0.0, 1.0))


def test_the_seed_decides_everything() -> None:
    assert repr(draw(3, 7)) == repr(draw(3, 7)) and repr(draw(3, 7)) != repr(draw(3, 8)) != repr(draw(4, 8))
    kinds = {event.how for index in range(20) for event in draw(0, index) if event.what == "chunk"}
    assert kinds == set(CHUNK_KINDS)


@pytest.mark.parametrize("how", sorted(set(CHUNK_KINDS) - {"sound"}))
def test_every_kind_differs_from_a_sound_chunk(how: str) -> None:
    sound, other = (chunk_message(CELL, a_chunk(kind, 0.3), 10**12, 5) for kind in ("sound", how))
    assert repr(sound) != repr(other)


def test_sound_chunks_move_the_arm_and_hostile_ones_are_let_through_by_nobody(player: Player) -> None:
    events = [Event(0, "operator", "start"), Event(1, "score", "", (0.1,))]
    for tick in range(1, 60, 5):
        events += [Event(tick, what="chunk", how="sound", numbers=a_chunk().numbers), Event(tick, "score", "", (0.1,))]
    played = player.play(events, ticks=60)
    assert played.chunks == 12 and played.accepted >= 11 and played.trajectories > 10 and not played.violations
    for how in ("nan", "infinite_turn", "nan_period", "swapped_arms", "unknown_arm", "cut", "wide_gripper", "no_quaternion"):
        assert player.play([Event(0, "operator", "start"), a_chunk(how)], ticks=3).accepted == 0, how


def test_paths_are_followed_and_cancelled(player: Player) -> None:
    steps = np.zeros((2, 14))
    steps[1, 0] = 0.3
    path = Event(30, "path", "", (1.0, *steps.ravel().tolist()))
    whole, cut = player.play([path]), player.play([path, Event(45, "operator", "stop_path")])
    assert whole.trajectories > cut.trajectories > 3 and not whole.violations + cut.violations
    outside = Event(30, "path", "", (1.0, *(20 * steps).ravel().tolist()))
    assert player.play([outside]).trajectories == 0
    assert {"path", "slow"} <= {event.what for index in range(20) for event in draw(0, index)}


@pytest.mark.parametrize("how", SLOW_KINDS)
def test_what_a_slow_tick_made_does_not_leave(player: Player, how: str) -> None:
    events = [Event(0, "operator", "start")]
    for tick in range(1, 60, 5):
        events += [Event(tick, what="chunk", how="sound", numbers=a_chunk().numbers), Event(tick, "score", "", (0.1,))]
    slow = [Event(tick, "slow", how, (60.0,)) for tick in range(30, 40)]
    on_time, late = player.play(events, ticks=60), player.play([*events, *slow], ticks=60)
    assert late.trajectories < on_time.trajectories and not late.violations


def test_some_episodes(player: Player) -> None:
    for index in range(6):
        played = player.play(draw(99, index))
        assert played.violations == () and played.chunks > 50, index


def test_a_failure_is_made_small_and_plays_again(player: Player, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An arbiter whose limits let everything through is found out, and its case is told from a mended one's."""
    with monkeypatch.context() as patch:
        patch.setattr(MotionFilter, "check", lambda self, motion: Verdict())
        index = next(index for index in range(40) if player.play(draw(0, index)).violations)
        events = draw(0, index)
        small = command.shrunk(player, events)
        assert 0 < len(small) < len(events) / 4
        command.keep(tmp_path / "case.json", 0, index, small, player)
        assert player.play(command.read_case(tmp_path / "case.json")).violations
        assert run(app, ["fuzz", "--replay", str(tmp_path / "case.json")]).exit_code == 1
    assert run(app, ["fuzz", "--replay", str(tmp_path / "case.json")]).exit_code == 0


def test_nan_survives_a_case_file(player: Player, tmp_path: Path) -> None:
    command.keep(tmp_path / "case.json", 0, 0, [Event(0, "score", "", (np.nan, 1.0))], player)
    [event] = command.read_case(tmp_path / "case.json")
    assert np.isnan(event.numbers[0]) and event.numbers[1] == 1.0
    (tmp_path / "other.json").write_text("{}")
    result = run(app, ["fuzz", "--replay", str(tmp_path / "other.json")])
    assert result.exit_code == 2 and "no case" in result.output


def test_a_run_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    words = ["fuzz", "--workers", "1", "--out", str(tmp_path), "--json", str(tmp_path / "result.json")]
    assert run(app, [*words, "--chunks", "1000"]).exit_code == 0
    first = json.loads((tmp_path / "result.json").read_text())
    [journal] = tmp_path.glob("*.jsonl")
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines) + '\n{"seed": 0, "fir')  # torn
    assert run(app, [*words, "--chunks", str(first["chunks"])]).exit_code == 0
    again = json.loads((tmp_path / "result.json").read_text())
    assert again["chunks"] == first["chunks"] >= 1000 and again["failed"] == []
