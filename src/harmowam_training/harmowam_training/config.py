"""The training recipe: one validated YAML file."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

CONFIG_DIR = Path(__file__).parent / "config"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CollectConfig(_Strict):
    """How many rollouts of each kind."""

    play: int = Field(gt=0)
    demonstrations: int = Field(gt=0, description="a task")
    recovery: int = Field(ge=0, description="a task")
    validation_share: float = Field(gt=0, lt=0.5)


class StageConfig(_Strict):
    """One optimisation."""

    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    learning_rate: float = Field(gt=0)


class WorldModelConfig(StageConfig):
    """finetune_share: the last part of the steps, in which half of each batch comes from the demonstrations."""

    finetune_share: float = Field(ge=0, le=1)


class LossWeights(_Strict):
    """Weights of the joint second stage (paper: 1, 0.1, 0.05)."""

    predictive: float
    reactive: float
    gate: float


class FeaturesConfig(StageConfig):
    """The world model is frozen, its outputs are computed once for a subset of the frames."""

    play_frames: int = Field(gt=0)
    task_stride: int = Field(gt=0, description="every n-th frame of demonstrations and recoveries")


class ExpertsConfig(FeaturesConfig):
    """Second stage: both experts and the gate, jointly."""

    loss_weights: LossWeights


class TrainingConfig(_Strict):
    """See config/compact.yaml."""

    preset: str
    collect: CollectConfig
    autoencoder: StageConfig
    grounding: StageConfig
    world_model: WorldModelConfig
    experts: ExpertsConfig
    reactive: FeaturesConfig
    gate: StageConfig


def load_training_config(path: Path | None = None) -> TrainingConfig:
    """Read a recipe; errors name the file and the field."""
    path = path or CONFIG_DIR / "compact.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"no training recipe at {path}")
    try:
        return TrainingConfig.model_validate(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"training recipe {path}: {error}") from error
