"""Collecting rollouts: a seed that yields nothing is remembered, a machine that fails is not held against the seed."""

from pathlib import Path

import pytest

from harmowam_sim import demonstrators, environments
from harmowam_sim.servo import UnreachableError
from harmowam_training.collect import Job, Tally, collect, failed_marker, jobs, perform
from harmowam_training.config import CollectConfig

RECIPE = CollectConfig(play=1, demonstrations=1, recovery=0, validation_share=0.1)


def fails_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def rollout(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(demonstrators, "rollout", rollout)


@pytest.mark.parametrize("error", [environments.UnusableSeedError("no room"), UnreachableError("cannot reach")])
def test_a_seed_that_yields_nothing_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fails_with(monkeypatch, error)
    job = Job("demonstration", "pick_fruit", 0, tmp_path / "000000.safetensors")
    assert not perform(job)
    assert failed_marker(job).read_text() == f"{error}\n"


def test_a_machine_that_fails_marks_no_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with(monkeypatch, RuntimeError("Cannot create an EGL context"))
    job = Job("demonstration", "pick_fruit", 0, tmp_path / "000000.safetensors")
    with pytest.raises(RuntimeError, match="EGL"):
        perform(job)
    assert not failed_marker(job).exists()


def test_what_failed_is_not_counted_as_there(tmp_path: Path) -> None:
    stored, *failed = jobs(RECIPE, tmp_path)
    for path in (stored.path, *map(failed_marker, failed)):
        path.parent.mkdir(parents=True)
        path.touch()
    assert collect(RECIPE, tmp_path, workers=1) == Tally(stored=1, failed=2, wanted=3)
