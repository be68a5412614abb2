"""The gate: an MLP on the visual tokens of the current images scores whether the hand is interacting (1) or in transit (0)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from harmowam_core.backends import compile_module, host_device
from harmowam_core.checkpoints import load_checkpoint
from harmowam_core.presets import CompactPreset
from harmowam_core.stages import Observation
from harmowam_core.wan_preset import WanPreset, load_any_preset

GATE_FILE = "gate.safetensors"


def _tokens(channels: int) -> nn.Sequential:
    """Images to visual tokens of an eighth of their size."""
    layers: list[nn.Module] = []
    for inputs in (3, channels, channels):
        layers += [nn.Conv2d(inputs, channels, 3, 2, 1), nn.GroupNorm(8, channels), nn.SiLU()]
    return nn.Sequential(*layers)


class GateNetwork(nn.Module):
    """Scene image and wrist images to a logit; > 0 means interaction."""

    def __init__(self, preset: CompactPreset) -> None:
        super().__init__()
        config = preset.gate
        self.scene = _tokens(config.channels)
        self.wrist = _tokens(config.channels)
        scene, wrist = (config.channels * (h // 8) * (w // 8) for h, w in (preset.scene_size, preset.wrist_size))
        self.mlp = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(scene + 2 * wrist, config.hidden), nn.SiLU(),
            nn.Dropout(0.1), nn.Linear(config.hidden, config.hidden), nn.SiLU(),
            nn.Linear(config.hidden, 1),
        )  # fmt: skip

    def forward(self, scene: Tensor, wrists: Tensor) -> Tensor:
        """scene: (B, 3, H, W), wrists: (B, A, 3, h, w), both in [0, 1]; returns logits (B,)."""
        hands = self.wrist(wrists.flatten(0, 1) * 2 - 1).reshape(len(scene), -1)
        return self.mlp(torch.cat([self.scene(scene * 2 - 1).flatten(1), hands], 1))[:, 0]


class GatePolicy:
    """Scores observations; deterministic. Backends other than ``torch`` and ``torch_bf16`` take one observation at a time.

    ``compiled`` holds its one network. Raises BackendError where the backend cannot serve it.
    """

    def __init__(self, preset: CompactPreset, network: GateNetwork, *, device: str = "cpu", backend: str = "torch") -> None:
        self.preset = preset
        self.device = host_device(device, backend)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.wrists = tuple(f"wrist_{arm}" for arm in preset.load_cell().arm_names)
        generator = torch.Generator().manual_seed(0)
        shapes = ((1, 3, *preset.scene_size), (1, len(self.wrists), 3, *preset.wrist_size))
        example = tuple(torch.rand(shape, generator=generator).to(self.device) for shape in shapes)
        self.compiled = {"gate": compile_module(self.network, example, backend, name="gate")}

    @torch.inference_mode()
    def score(self, observations: Sequence[Observation]) -> list[float]:
        """Probability of interaction, one an observation."""
        scene = _to_unit(np.stack([o.image("scene") for o in observations]))
        wrists = _to_unit(np.stack([[o.image(name) for name in self.wrists] for o in observations]))
        [logits] = self.compiled["gate"].outputs(scene.to(self.device), wrists.to(self.device))
        scores: list[float] = torch.sigmoid(logits).tolist()
        return scores


def _to_unit(images: np.ndarray) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3))).float() / 255


class Gate(Protocol):
    """What every gate offers."""

    def score(self, observations: Sequence[Observation]) -> list[float]:
        """Probability of interaction, one an observation."""
        ...


def load_gate(preset: str = "compact", *, device: str = "cpu", backend: str = "torch", weights: Path | None = None) -> Gate:
    """A ready gate; raises PresetError, CheckpointError or BackendError that say what is wrong and what to do."""
    config = load_any_preset(preset)
    if isinstance(config, WanPreset):
        from harmowam_core.pretrained import require_torch
        from harmowam_gate.siglip_gate import load_siglip_gate

        require_torch("gate", backend)
        return load_siglip_gate(config, device=device, weights=weights)
    network = GateNetwork(config)
    load_checkpoint((weights or config.weights_dir()) / GATE_FILE, network, config)
    return GatePolicy(config, network, device=device, backend=backend)
