"""The paper-scale preset: sizes of Wan 2.2 TI2V 5B and of the experts and the gate around it, and where their weights come from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, TypeAdapter, model_validator

from harmowam_core.presets import CompactPreset, Preset, PresetError, Strict, preset_path

Positive = Annotated[int, Field(gt=0)]


class Sources(Strict):
    """Hub repositories of the pretrained parts, used where the weights folder has no part of that name."""

    wan: str
    siglip: str
    dinov2: str


class VideoConfig(Strict):
    """Sampling of the video transformer."""

    flow_shift: float = Field(gt=0, description="moves the flow times towards noise; 1 leaves them evenly spaced")
    tap_block: int = Field(ge=0, description="block whose output tokens the predictive and reactive experts read")
    hidden_dim: int = Field(gt=0, description="width of those tokens")
    text_tokens: int = Field(gt=0, description="length that the transformer was trained with; shorter instructions are padded with zeros")


class ActionDiTConfig(Strict):
    """Action diffusion transformer."""

    dim: Positive
    depth: Positive
    heads: Positive
    train_timesteps: Positive
    denoising_steps: Positive

    @model_validator(mode="after")
    def _heads_divide(self) -> ActionDiTConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self


class OrientationDecoderConfig(Strict):
    """Multi-scale convolutional decoder of the reactive expert."""

    channels: Positive
    dilations: tuple[Positive, ...] = Field(min_length=1)
    orientations: Positive
    hidden: Positive

    @model_validator(mode="after")
    def _scales_divide(self) -> OrientationDecoderConfig:
        if self.channels % len(self.dilations):
            raise ValueError(f"channels {self.channels} is not a multiple of the {len(self.dilations)} dilations")
        return self


class SiglipGateConfig(Strict):
    """Gate MLP on SigLIP tokens."""

    hidden: Positive


class WanPreset(Preset):
    """The paper's preset; see config/presets/wan2_2_5b.yaml."""

    family: Literal["wan"]
    sources: Sources
    video: VideoConfig
    predictive: ActionDiTConfig
    reactive: OrientationDecoderConfig
    gate: SiglipGateConfig

    @model_validator(mode="after")
    def _sizes_fit(self) -> WanPreset:
        if any(n % 32 for n in self.scene_size):
            raise ValueError(f"scene_size {self.scene_size} must be a multiple of 32 (VAE 16, patches of 2)")
        if (self.frames - 1) % 4:
            raise ValueError(f"frames {self.frames} must be 1 more than a multiple of 4 (the VAE joins 4 frames in time)")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Spatial tokens, rows and columns."""
        return self.scene_size[0] // 32, self.scene_size[1] // 32

    @property
    def tokens(self) -> int:
        """Spatial tokens of one latent frame."""
        return self.grid[0] * self.grid[1]

    @property
    def latent_frames(self) -> int:
        """Latent frames of one imagination: the current one and one for every 4 frames to come."""
        return 1 + (self.frames - 1) // 4

    def fingerprint(self) -> str:
        """Hash of everything that shapes the weights trained here; stored with them and compared on loading."""
        shaping = self.model_dump(exclude={"name", "denoising_steps", "sources"})
        return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]


AnyPreset = Annotated[CompactPreset | WanPreset, Field(discriminator="family")]


def load_any_preset(name_or_path: str | Path) -> CompactPreset | WanPreset:
    """Read and validate a preset of whichever family; PresetError names the file and the field."""
    path = preset_path(name_or_path)
    try:
        preset: CompactPreset | WanPreset = TypeAdapter(AnyPreset).validate_python(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise PresetError(f"preset {path}: {error}") from error
    return preset
