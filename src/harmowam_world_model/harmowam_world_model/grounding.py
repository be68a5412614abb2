"""Grounding: where in the scene image the instruction's target and goal lie, and at which height.

A U-Net modulated by the instruction (FiLM); its last features are matched against one query a part of the instruction.
Trained on hindsight labels: the projected tool centre point where the gripper closed on, and released, something.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmowam_core.presets import GroundingConfig
from harmowam_core.scene_view import SceneView
from harmowam_core.stages import GroundedPoint

PARTS = ("target", "goal")
STRIDE = 2  # image pixels a heat-map cell
WINDOW = 2  # cells around the peak that the read-out averages


class GroundingOutput(NamedTuple):
    """logits (B, 2, H/2, W/2); height_m (B, 2): of the tool centre point at the event."""

    logits: Tensor
    height_m: Tensor


class _ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, condition: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norm2 = nn.GroupNorm(8, outputs, affine=False)
        self.film = nn.Linear(condition, 2 * outputs)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = F.silu(self.norm1(self.conv1(x)))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        return F.silu(self.norm2(self.conv2(x)) * (1 + scale) + shift)


class InstructionReader(nn.Module):
    """One learned query a part attends to the instruction's tokens."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(PARTS), dim) * 0.3)
        self.key = nn.Linear(text_dim, dim)
        self.value = nn.Linear(text_dim, dim)

    def forward(self, text: Tensor) -> Tensor:
        """(B, L + 1, text_dim) with the mean first, zeros as padding, to (B, 3, dim): mean, target, goal."""
        tokens = text[:, 1:]
        score = torch.einsum("pd,bld->bpl", self.queries, self.key(tokens))
        score = score.masked_fill((tokens == 0).all(-1)[:, None], -1e9).softmax(-1)
        return torch.cat([self.value(text[:, :1]), score @ self.value(tokens)], 1)


class Grounding(nn.Module):
    """Scene image and instruction to a heat map and a height for the target and the goal."""

    def __init__(self, config: GroundingConfig, text_dim: int) -> None:
        super().__init__()
        a, b, c, d = config.channels
        self.reader = InstructionReader(text_dim, config.text)
        condition = 3 * config.text
        self.down = nn.ModuleList(
            [_ConvBlock(5, a, 2, condition), _ConvBlock(a, b, 2, condition), _ConvBlock(b, c, 2, condition), _ConvBlock(c, d, 2, condition)]
        )
        self.up = nn.ModuleList(
            [_ConvBlock(d + c, c, 1, condition), _ConvBlock(c + b, b, 1, condition), _ConvBlock(b + a, b, 1, condition)]
        )
        self.match = nn.Linear(condition, len(PARTS) * 2 * b)  # a part: one query for the map, one for reading the features there
        self.height = nn.Sequential(nn.Linear(2 * b + config.text, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, images: Tensor, text: Tensor) -> GroundingOutput:
        """images: (B, 3, H, W) in [0, 1]; text: (B, L + 1, D) from the instruction encoder."""
        words = self.reader(text)  # (B, 3, T)
        condition = words.flatten(1)
        x = torch.cat([images * 2 - 1, _coordinates(images)], 1)
        skips = []
        for block in self.down:
            x = block(x, condition)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([F.interpolate(x, size=skip.shape[-2:], mode="bilinear"), skip], 1), condition)
        map_query, read_query = self.match(condition).unflatten(1, (len(PARTS), -1)).chunk(2, -1)  # (B, 2, b)
        logits = torch.einsum("bpc,bchw->bphw", map_query, x) / x.shape[1] ** 0.5
        attention = logits.flatten(2).softmax(-1)
        seen = torch.einsum("bpn,bcn->bpc", attention, x.flatten(2))
        height = self.height(torch.cat([seen, read_query * seen, words[:, 1:]], -1))[..., 0] * 0.1
        return GroundingOutput(logits, height)


def _coordinates(images: Tensor) -> Tensor:
    """Pixel coordinates in [-1, 1] as two channels."""
    v = torch.linspace(-1, 1, images.shape[2], device=images.device)
    u = torch.linspace(-1, 1, images.shape[3], device=images.device)
    return torch.stack(torch.meshgrid(v, u, indexing="ij"))[None].expand(len(images), -1, -1, -1)


def read_heat_maps(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Heat maps (B, P, h, w) to image pixels (B, P, 2) as (u, v), and the share of the mass around the peak (B, P)."""
    rows, columns = logits.shape[-2:]
    mass = logits.flatten(2).softmax(-1)
    peak = mass.argmax(-1)
    row, column = peak // columns, peak % columns
    rows_of = torch.arange(rows, device=logits.device).repeat_interleave(columns)
    columns_of = torch.arange(columns, device=logits.device).repeat(rows)
    near = ((rows_of - row[..., None]).abs() <= WINDOW) & ((columns_of - column[..., None]).abs() <= WINDOW)
    local = mass * near
    confidence = local.sum(-1)
    u = (local * (columns_of + 0.5)).sum(-1) / confidence
    v = (local * (rows_of + 0.5)).sum(-1) / confidence
    return torch.stack([u, v], -1) * STRIDE, confidence


def grounding_loss(output: GroundingOutput, pixels: Tensor, heights_m: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy to a Gaussian around the labelled pixel plus the height's L1.

    pixels: (B, 2, 2) image (u, v); heights_m: (B, 2); known: (B, 2) bool, parts without a label do not count.
    """
    _, _, rows, columns = output.logits.shape
    v = (torch.arange(rows, device=pixels.device) + 0.5) * STRIDE
    u = (torch.arange(columns, device=pixels.device) + 0.5) * STRIDE
    squared = (u[None, None, None] - pixels[..., 0, None, None]) ** 2 + (v[None, None, :, None] - pixels[..., 1, None, None]) ** 2
    wanted = (-squared / (2 * (0.8 * STRIDE) ** 2)).flatten(2).softmax(-1)
    entropy = -(wanted * output.logits.flatten(2).log_softmax(-1)).sum(-1)
    height = (output.height_m - heights_m).abs() * 20
    weight = known.float()
    return ((entropy + height) * weight).sum() / weight.sum().clamp(min=1)


def grounded_points(view: SceneView, pixels: Tensor, heights_m: Tensor, confidence: Tensor) -> list[tuple[GroundedPoint, ...]]:
    """Read-outs of a batch, (B, 2, 2), (B, 2) and (B, 2), to grounded points."""
    uv, z, sure = pixels.double().numpy(), heights_m.double().numpy(), confidence.numpy()
    xyz = view.unproject(uv, z)
    return [
        tuple(
            GroundedPoint(part, uv[b, p].astype(np.float32), xyz[b, p].astype(np.float32), float(min(sure[b, p], 1.0)))
            for p, part in enumerate(PARTS)
        )
        for b in range(len(uv))
    ]
