"""`harmowam train` from nothing to weights, in miniature."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from harmowam_core import presets
from harmowam_core.checkpoints import CheckpointError
from harmowam_training.config import load_training_config
from harmowam_training.policies import load_policy
from harmowam_training.train import OPTIMISED, Run, Stage, train


def test_from_nothing_to_weights(tmp_path: Path) -> None:
    recipe = load_training_config().model_dump()
    recipe["collect"] |= {"play": 2, "demonstrations": 2, "recovery": 3}
    for stage in ("autoencoder", "grounding", "world_model", "experts", "reactive", "gate"):
        recipe[stage] |= {"steps": 2, "batch": 4}
    for stage in ("experts", "reactive"):
        recipe[stage] |= {"play_frames": 8, "task_stride": 16}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    train(only=None, recipe=tmp_path / "recipe.yaml", out=tmp_path, seed=0, workers=2, install=False)

    curves = {path.stem for path in (tmp_path / "models").glob("*.csv")}
    assert curves == {"autoencoder", "grounding", "world_model", "experts", "reactive", "gate"}
    load_policy("harmowam", "compact", tmp_path / "models")  # refuses what is missing or does not fit


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run whose stages are all done; its preset looks for weights in ``tmp_path``/weights/compact."""
    run = Run(load_training_config(), tmp_path / "data", 0, 1)
    shutil.copytree(run.preset.weights_dir(), run.models)
    for stage in OPTIMISED:
        step = torch.tensor(getattr(run.config, stage.value).steps)
        save_file({"step": step}, run.models / f"{stage.value}.checkpoint.safetensors")
    monkeypatch.setattr(presets, "WEIGHTS_DIR", tmp_path / "weights")
    return run


def test_weights_are_installed_together(finished: Run) -> None:
    finished.install()
    target = finished.preset.weights_dir()
    assert {path.stem for path in target.iterdir()} == {"world_model", "predictive_expert", "reactive_expert", "gate"}
    assert all(path.read_bytes() == (finished.models / path.name).read_bytes() for path in target.iterdir())


def unfinish_experts(models: Path) -> None:
    save_file({"step": torch.tensor(7)}, models / "experts.checkpoint.safetensors")


def tear_gate(models: Path) -> None:
    (models / "gate.safetensors").write_bytes((models / "gate.safetensors").read_bytes()[:-9])


def lose_reactive_expert(models: Path) -> None:
    (models / "reactive_expert.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(unfinish_experts, "experts .* 7 of 2000"), (tear_gate, "gate.safetensors"), (lose_reactive_expert, "reactive_expert.safetensors")],
)
def test_nothing_is_installed_of_an_incomplete_run(finished: Run, spoil, named: str) -> None:
    spoil(finished.models)
    with pytest.raises(CheckpointError, match=named):
        finished.install()
    assert not finished.preset.weights_dir().exists()


def test_a_stage_that_was_done_keeps_its_facts(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Stage] = []
    monkeypatch.setattr("harmowam_training.parallel.run_parallel", lambda _, __, ___, stage: begun.append(stage))
    save_file({"step": torch.tensor(3)}, finished.models / "gate.checkpoint.safetensors")
    (finished.folder / "training.json").write_text(json.dumps({"experts": {"seed": 7}, "gate": {"seed": 7, "hours": 1.5}}))
    train(only=[Stage.EXPERTS, Stage.GATE], recipe=None, out=finished.folder, seed=0, workers=1, install=False)
    facts = finished.facts()
    assert begun == [Stage.EXPERTS, Stage.GATE] and facts["experts"] == {"seed": 7}
    assert facts["gate"]["seed"] == 0 and facts["gate"]["hours"] == 1.5
    assert facts["gate"]["recipe"] == finished.config.gate.model_dump()


def test_damaged_facts_are_named_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"seed": 0, "ho')
    with pytest.raises(ValueError, match=r"training\.json is damaged"):
        train(only=[Stage.GATE], recipe=None, out=tmp_path, seed=0, workers=1, install=False)
