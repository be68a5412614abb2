"""The paper-scale reactive expert: inverse dynamics that reads the arms' pose and gripper from an imagined frame.

DINOv2 patch tokens of the frame stand beside the world model's hidden tokens of its latent frame; a multi-scale convolutional
decoder, after AnyPos, looks at both grids in several orientations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from harmowam_core.checkpoints import load_checkpoint
from harmowam_core.pretrained import VisualTokens, images_to_tensor, latent_frame_of, require_torch
from harmowam_core.stages import ActionChunk, Expert, Imagination, Observation
from harmowam_core.wan_preset import OrientationDecoderConfig, WanPreset
from harmowam_experts import REACTIVE_FILE
from harmowam_experts.euler_actions import ActionStatistics, EulerActions

BETA = 0.1  # of the smooth L1 loss


class OrientationDecoder(nn.Module):
    """A token grid of any size to features that know in which direction things lie."""

    def __init__(self, config: OrientationDecoderConfig, width: int) -> None:
        super().__init__()
        part = config.channels // len(config.dilations)
        self.scales = nn.ModuleList(nn.Conv2d(width, part, 3, padding=d, dilation=d) for d in config.dilations)
        self.mix = nn.Sequential(
            nn.GroupNorm(1, config.channels), nn.GELU(), nn.Conv2d(config.channels, config.channels, 3, padding=1), nn.GELU()
        )
        self.orientations = config.orientations

    def forward(self, grid: Tensor) -> Tensor:
        """(B, D, H, W) to (B, orientations * 2 * channels)."""
        x = self.mix(torch.cat([scale(grid) for scale in self.scales], 1))
        profiles = []
        for k in range(self.orientations):
            angle = math.pi * k / self.orientations
            turn = x.new_tensor([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]).expand(len(x), 2, 3)
            seen = nn.functional.grid_sample(x, nn.functional.affine_grid(turn, list(x.shape), align_corners=False), align_corners=False)
            profile = seen.mean(-1)  # what lies at each place along the turned axis, (B, C, H)
            along = torch.linspace(-1, 1, profile.shape[-1], device=x.device, dtype=x.dtype)
            centre = (profile.softmax(-1) * along).sum(-1)  # where along the axis a feature is strongest
            profiles += [centre, profile.mean(-1)]
        return torch.cat(profiles, 1)


class AnyPosNetwork(nn.Module):
    """(DINOv2 tokens of a frame, hidden tokens of its latent frame) to the action at that frame."""

    def __init__(self, preset: WanPreset, actions: int, width: int) -> None:
        super().__init__()
        config = preset.reactive
        self.latent_grid, self.width = preset.grid, width
        self.statistics = ActionStatistics(actions)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.decoder = OrientationDecoder(config, width)
        features = 2 * config.orientations * 2 * config.channels  # both grids
        self.head = nn.Sequential(nn.Linear(features, config.hidden), nn.GELU(), nn.Linear(config.hidden, actions))

    def forward(self, patches: Tensor, hidden: Tensor) -> Tensor:
        """patches (B, G * G, width), hidden (B, 80, D) with D a multiple of ``width``; returns normalised actions (B, actions)."""
        pooled = nn.functional.adaptive_avg_pool1d(hidden, self.width)  # 3072 -> 768
        side = math.isqrt(patches.shape[1])
        grids = zip((patches, pooled), ((side, side), self.latent_grid), self.norms, strict=True)
        # One decoder slides over both grids: the pooled hidden tokens live in the width of the patch tokens.
        features = [self.decoder(norm(tokens).transpose(1, 2).unflatten(2, shape)) for tokens, shape, norm in grids]
        actions: Tensor = self.head(torch.cat(features, 1))
        return actions


def pose_loss(network: AnyPosNetwork, patches: Tensor, hidden: Tensor, actions: Tensor) -> Tensor:
    """Smooth L1, beta 0.1, on normalised actions; ``actions`` (B, actions) in m, rad and openings."""
    return nn.functional.smooth_l1_loss(network(patches, hidden), network.statistics.normalise(actions), beta=BETA)


class WanReactiveExpert:
    """Implements the ActionExpert protocol on imaginations of the paper-scale world model."""

    source = Expert.REACTIVE

    def __init__(self, preset: WanPreset, network: AnyPosNetwork, visual: VisualTokens, *, device: str = "cpu") -> None:
        self.preset, self.device = preset, device
        self.network = network.to(device).eval().requires_grad_(False)
        self._visual = visual
        self._codec = EulerActions(preset.load_cell())

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> list[ActionChunk]:
        """One chunk a pair; see the protocol."""
        return [self._read(o, i) for o, i in zip(observations, imaginations, strict=True)]

    def _read(self, observation: Observation, imagination: Imagination) -> ActionChunk:
        patches = self._visual(images_to_tensor(imagination.frames[1:]))  # (12, G * G, width)
        hidden = torch.from_numpy(imagination.hidden).unflatten(1, (self.preset.latent_frames, -1))  # (N, L, D)
        latent_frames = [latent_frame_of(frame) for frame in range(1, self.preset.frames)]
        numbers = self.network(patches.to(self.device), hidden.transpose(0, 1)[latent_frames].to(self.device))
        actions = self.network.statistics.restore(numbers).cpu().numpy()
        targets = self._codec.decode(actions)
        return ActionChunk(
            observation.stamp_ns, imagination.imagination_id, self.source, imagination.frame_period_s, self._codec.arms, *targets
        )


def load_wan_reactive_expert(
    preset: WanPreset, *, device: str = "cpu", backend: str = "torch", weights: Path | None = None
) -> WanReactiveExpert:
    """DINOv2 from ``weights`` or the hub, the decoder from ``weights``/reactive_expert.safetensors."""
    require_torch("reactive expert", backend)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    weights = weights or preset.weights_dir()
    visual = VisualTokens.dinov2(preset.sources.dinov2, weights, device, dtype)
    network = AnyPosNetwork(preset, EulerActions(preset.load_cell()).size, visual.dim)
    load_checkpoint(weights / REACTIVE_FILE, network, preset)
    return WanReactiveExpert(preset, network, visual, device=device)
