"""Flow-matching diffusion transformer over the 80 spatial tokens; the 12 future frames are stacked in channels.

It denoises the *residual* of the future latents to the current one and predicts the clean residual (x-prediction).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmowam_core.attention import attention
from harmowam_core.hands import HANDS
from harmowam_core.presets import CompactPreset

GOAL_CHANNELS = 6


class Conditions(NamedTuple):
    """What the transformer sees beside the noisy residual.

    latent: (B, C, h, w) of the current frame; goals: (B, 6, h, w); text: (B, D) mean instruction embedding;
    hands: (B, 24), see ``harmowam_core.hands``.
    """

    latent: Tensor
    goals: Tensor
    text: Tensor
    hands: Tensor


class Block(nn.Module):
    """Self-attention and MLP, modulated by the condition (adaLN)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.modulation = nn.Linear(dim, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        with torch.no_grad():  # gates start at 0.3: deep blocks learn at once, yet start near the identity
            self.modulation.bias.copy_(torch.cat([torch.zeros(2 * dim), torch.full((dim,), 0.3)] * 2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x: (B, N, D); condition: (B, D)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, -1)
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(self.norm1(x) * (1 + scale1) + shift1).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = attention(q, k, v).transpose(1, 2).reshape(batch, tokens, dim)
        x = x + gate1 * self.out(attended)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Flow times (B,) in [0, 1] to sinusoids (B, dim)."""
    frequency = torch.exp(torch.arange(dim // 2, device=t.device) * (-math.log(1000.0) / (dim // 2)))
    angle = 1000 * t[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


class VideoTransformer(nn.Module):
    """(noisy residual, flow time, conditions) to (clean residual, hidden tokens)."""

    def __init__(self, preset: CompactPreset) -> None:
        super().__init__()
        dim, latent = preset.transformer.dim, preset.autoencoder.latent
        self.future = (preset.frames - 1) * latent
        self.inputs = nn.Linear(self.future + latent + GOAL_CHANNELS, dim)
        self.position = nn.Parameter(torch.randn(1, preset.tokens, dim) * 0.02)
        self.time = nn.Sequential(nn.Linear(128, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.text = nn.Linear(preset.instruction_encoder.dim, dim)
        self.hands = nn.Sequential(nn.Linear(HANDS, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.blocks = nn.ModuleList(Block(dim, preset.transformer.heads) for _ in range(preset.transformer.depth))
        self.norm = nn.LayerNorm(dim)
        self.outputs = nn.Linear(dim, self.future)
        nn.init.zeros_(self.outputs.weight)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, noisy: Tensor, t: Tensor, latent: Tensor, goals: Tensor, text: Tensor, hands: Tensor) -> tuple[Tensor, Tensor]:
        """noisy: (B, 12 C, h, w), t: (B,), then the fields of Conditions; returns (B, 12 C, h, w) and (B, h w, D)."""
        x = torch.cat([noisy, latent, goals], 1).flatten(2).transpose(1, 2)  # (B, N, channels)
        x = self.inputs(x) + self.position
        condition = F.silu(self.time(timestep_embedding(t, 128).to(x.dtype)) + self.text(text) + self.hands(hands))
        for block in self.blocks:
            x = block(x, condition)
        hidden = self.norm(x)
        return self.outputs(hidden).transpose(1, 2).reshape(noisy.shape), hidden


def goal_channels(pixels: Tensor, grid: tuple[int, int], image_size: tuple[int, int]) -> Tensor:
    """Grounded pixels (B, 2, 2) to dense channels (B, 6, h, w): offset to, and a Gaussian at, the target and the goal."""
    rows, columns = grid
    v = (torch.arange(rows, device=pixels.device) + 0.5) * (image_size[0] / rows)
    u = (torch.arange(columns, device=pixels.device) + 0.5) * (image_size[1] / columns)
    du = (pixels[..., 0, None, None] - u).expand(-1, -1, rows, -1)  # (B, 2, h, w)
    dv = (pixels[..., 1, None, None] - v[:, None]).expand(-1, -1, -1, columns)
    return torch.cat([du / 20, dv / 20, 2 * torch.exp(-(du**2 + dv**2) / 72)], 1)


def flow_matching_loss(model: VideoTransformer, residual: Tensor, conditions: Conditions) -> Tensor:
    """Weighted squared error of the predicted clean residual (B, 12 C, h, w) at a random flow time."""
    t = torch.sigmoid(1.2 * torch.randn(len(residual), device=residual.device) - 0.4)
    noise = torch.randn_like(residual)
    mix = t[:, None, None, None]
    predicted, _ = model((1 - mix) * noise + mix * residual, t, *conditions)
    batch, _, rows, columns = residual.shape
    frames = residual.reshape(batch, -1, conditions.latent.shape[1], rows, columns)  # (B, 12, C, h, w)
    moving = (frames.square().mean(2) > 0.1).float()  # (B, 12, h, w)
    weight = 1 + 4 * F.max_pool2d(moving, 3, 1, 1)
    error = (predicted.float() - residual).reshape(frames.shape).square().mean(2)
    return (error * weight / (1 - mix).clamp(min=0.3)).mean()


def sample_residual(
    model: Callable[..., tuple[Tensor, Tensor]], noise: Tensor, conditions: Conditions, steps: int
) -> tuple[Tensor, Tensor]:
    """Integrate from noise (B, 12 C, h, w) to the clean residual in Euler steps; also the last step's hidden tokens (B, h w, D).

    model: a VideoTransformer or a compiled one.
    """
    x, hidden = noise, None
    times = torch.linspace(0, 1, steps + 1, device=noise.device)
    for start, end in zip(times[:-1], times[1:], strict=True):
        predicted, hidden = model(x, start.expand(len(x)), *conditions)
        x = x + (end - start) * (predicted - x) / (1 - start)
    assert hidden is not None
    return x, hidden
