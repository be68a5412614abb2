"""Presets: one validated YAML file fixes image sizes, network sizes, horizon, encoders and weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harmowam_core.cell import Cell, load_cell

PRESETS_DIR = Path(__file__).parent / "config" / "presets"
WEIGHTS_DIR = Path(__file__).parent / "weights"


class PresetError(ValueError):
    """A preset is unknown or invalid; the message names the file and the field."""


class Strict(BaseModel):
    """Unknown fields are errors; nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InstructionEncoderConfig(Strict):
    """A sentence encoder shipped inside a Python package."""

    package: str
    tokens: int = Field(gt=0, description="tokens kept of an instruction")
    dim: int = Field(gt=0, description="width of a token")


class AutoencoderConfig(Strict):
    """Strided convolutions, three halvings."""

    channels: tuple[int, int, int]
    latent: int = Field(gt=0)


class GroundingConfig(Strict):
    """U-Net modulated by the instruction."""

    channels: tuple[int, int, int, int]
    text: int = Field(gt=0)
    confidence_threshold: float = Field(ge=0, le=1)


class TransformerConfig(Strict):
    """Flow-matching diffusion transformer over the spatial tokens."""

    dim: int = Field(gt=0)
    depth: int = Field(gt=0)
    heads: int = Field(gt=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> TransformerConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self


class PredictiveConfig(TransformerConfig):
    """Action flow transformer."""

    denoising_steps: int = Field(gt=0)
    start_noise: float = Field(gt=0, le=1)


class ReactiveConfig(Strict):
    """Inverse dynamics decoder."""

    channels: int = Field(gt=0)
    hidden: int = Field(gt=0)


class GateConfig(Strict):
    """Gate MLP."""

    channels: int = Field(gt=0)
    hidden: int = Field(gt=0)


class Preset(Strict):
    """What presets of every family have."""

    name: str
    cell: str
    scene_size: tuple[int, int]
    wrist_size: tuple[int, int]
    frame_period_s: float = Field(gt=0)
    frames: int = Field(gt=1)
    horizon: int = Field(gt=0)
    denoising_steps: int = Field(gt=0)

    @model_validator(mode="after")
    def _horizon_fits(self) -> Self:
        if self.horizon != self.frames - 1:
            raise ValueError(f"horizon {self.horizon} must be frames - 1 = {self.frames - 1}")
        return self

    def load_cell(self) -> Cell:
        """The cell this preset is for."""
        return load_cell(self.cell)

    def weights_dir(self) -> Path:
        """Where weights are looked for unless a folder is named."""
        return WEIGHTS_DIR / self.name


class CompactPreset(Preset):
    """The CPU preset; see config/presets/compact.yaml."""

    family: Literal["compact"]
    instruction_encoder: InstructionEncoderConfig
    autoencoder: AutoencoderConfig
    grounding: GroundingConfig
    transformer: TransformerConfig
    predictive: PredictiveConfig
    reactive: ReactiveConfig
    gate: GateConfig

    @model_validator(mode="after")
    def _sizes_fit(self) -> CompactPreset:
        for size in (self.scene_size, self.wrist_size):
            if any(n % 8 for n in size):
                raise ValueError(f"image size {size} must be a multiple of 8")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Spatial tokens, rows and columns."""
        return self.scene_size[0] // 8, self.scene_size[1] // 8

    @property
    def tokens(self) -> int:
        """Spatial tokens of one latent frame."""
        return self.grid[0] * self.grid[1]

    def fingerprint(self) -> str:
        """Hash of everything that shapes the weights; stored with them and compared on loading."""
        return hashlib.sha256(json.dumps(self.model_dump(exclude={"name"}), sort_keys=True).encode()).hexdigest()[:16]


def preset_path(name_or_path: str | Path) -> Path:
    """The preset's file; PresetError names the known ones."""
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = PRESETS_DIR / f"{name_or_path}.yaml"
    if not path.is_file():
        raise PresetError(f"no preset '{name_or_path}'; known: {sorted(p.stem for p in PRESETS_DIR.glob('*.yaml'))}")
    return path


def load_preset(name_or_path: str | Path = "compact") -> CompactPreset:
    """Read and validate a compact preset; PresetError names the file and field."""
    path = preset_path(name_or_path)
    try:
        return CompactPreset.model_validate(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise PresetError(f"preset {path}: {error}") from error
