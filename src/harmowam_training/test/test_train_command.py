"""`harmowam train` from nothing to weights, in miniature."""

from __future__ import annotations

from pathlib import Path

import yaml

from harmowam_training.config import load_training_config
from harmowam_training.policies import load_policy
from harmowam_training.train import train


def test_from_nothing_to_weights(tmp_path: Path) -> None:
    recipe = load_training_config().model_dump()
    recipe["collect"] |= {"play": 2, "demonstrations": 2, "recovery": 3}
    for stage in ("autoencoder", "grounding", "world_model", "experts", "gate"):
        recipe[stage] |= {"steps": 2, "batch": 4}
    recipe["experts"] |= {"play_frames": 8, "task_stride": 16}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    train(only=None, recipe=tmp_path / "recipe.yaml", out=tmp_path, seed=0, workers=2, install=False)

    curves = {path.stem for path in (tmp_path / "models").glob("*.csv")}
    assert curves == {"autoencoder", "grounding", "world_model", "experts", "gate"}
    load_policy("harmowam", "compact", tmp_path / "models")  # refuses what is missing or does not fit
