"""The paper-scale gate: an MLP on the SigLIP tokens of the current images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harmowam_core.checkpoints import load_checkpoint
from harmowam_core.pretrained import VisualTokens, images_to_tensor
from harmowam_core.stages import Observation
from harmowam_core.wan_preset import WanPreset
from harmowam_gate.gate_network import GATE_FILE


class SiglipGate(nn.Module):
    """Visual tokens of every camera to a logit; > 0 means interaction."""

    def __init__(self, preset: WanPreset, cameras: int, width: int) -> None:
        super().__init__()
        hidden = preset.gate.hidden
        self.token = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.SiLU())
        self.head = nn.Sequential(nn.Linear(2 * cameras * hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, visual: Tensor) -> Tensor:
        """(B, cameras, P, width) to logits (B,)."""
        tokens = self.token(visual)
        # The mean tells what the picture is of; the strongest token, that one small place (a grasp) matters.
        pooled = torch.cat([tokens.mean(2), tokens.amax(2)], -1)  # (B, cameras, 2 hidden)
        logits: Tensor = self.head(pooled.flatten(1))[:, 0]
        return logits


class SiglipGatePolicy:
    """Scores observations as the compact ``GatePolicy`` does; deterministic."""

    def __init__(self, preset: WanPreset, network: SiglipGate, visual: VisualTokens, *, device: str = "cpu") -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self._visual, self._device = visual, device
        self._cameras = tuple(camera.name for camera in preset.load_cell().cameras)

    @torch.inference_mode()
    def score(self, observations: Sequence[Observation]) -> list[float]:
        """Probability of interaction, one an observation."""
        visual = [self._visual(images_to_tensor(np.stack([o.image(name) for o in observations]))) for name in self._cameras]
        scores: list[float] = torch.sigmoid(self.network(torch.stack(visual, 1).to(self._device))).tolist()
        return scores


def load_siglip_gate(preset: WanPreset, *, device: str = "cpu", weights: Path | None = None) -> SiglipGatePolicy:
    """SigLIP from ``weights`` or the hub, the MLP from ``weights``/gate.safetensors."""
    weights = weights or preset.weights_dir()
    visual = VisualTokens.siglip(preset.sources.siglip, weights, device, torch.bfloat16 if device.startswith("cuda") else torch.float32)
    network = SiglipGate(preset, len(preset.load_cell().cameras), visual.dim)
    load_checkpoint(weights / GATE_FILE, network, preset)
    return SiglipGatePolicy(preset, network, visual, device=device)
