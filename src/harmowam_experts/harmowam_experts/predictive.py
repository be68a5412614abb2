"""Predictive expert: a flow transformer denoises a chunk of end-effector deltas, reading the world model's latents by cross-attention.

Everything it sees is relative to the hand (wrist images, world-model tokens around the hand, offsets to the grounded target and goal),
so what it learned holds wherever the arm is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from harmowam_core.attention import attention
from harmowam_core.backends import Backend, compile_module, host_device
from harmowam_core.instructions import InstructionEncoder
from harmowam_core.presets import CompactPreset
from harmowam_core.scene_view import SceneView
from harmowam_core.stages import HELD_OPENING, ActionChunk, Expert, Imagination, Observation
from harmowam_experts.poses import decode_deltas

SCENE_DROPOUT = 0.4  # while training: near what it handles, the hand must find its way by itself
WINDOW = 7  # world-model tokens around the hand, a side
STATE = 2 * (6 + 2 * 3) + 2  # per arm: height, yaw (2), tilt (2), opening, the offset to the next point at two scales; then two more


class PredictiveInputs(NamedTuple):
    """wrists (B, A, 3, h, w) in [0, 1]; hidden (B, 80, D); latent (B, 80, C); hand (B, A, 2) in [-1, 1] image coordinates;
    state (B, STATE); text (B, T)."""

    wrists: Tensor
    hidden: Tensor
    latent: Tensor
    hand: Tensor
    state: Tensor
    text: Tensor


class WristEncoder(nn.Module):
    """A wrist image and the instruction to 6x6 tokens and the places of 32 features (spatial softmax)."""

    def __init__(self, dim: int, text_dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1), nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 64, 3, 1, 1), nn.GroupNorm(8, 64), nn.SiLU()
        )
        self.film = nn.Linear(text_dim, 128)
        self.keypoints = nn.Conv2d(64, 32, 1)
        self.deep = nn.Sequential(nn.Conv2d(64, 96, 3, 2, 1), nn.GroupNorm(8, 96), nn.SiLU(), nn.Conv2d(96, dim, 3, 2, 1))
        self.places = nn.Linear(64, dim)

    def forward(self, images: Tensor, text: Tensor) -> Tensor:
        """(B, 3, 48, 48) and (B, T) to (B, 37, dim)."""
        x = self.stem(images * 2 - 1)
        scale, shift = self.film(text)[:, :, None, None].chunk(2, 1)
        x = F.silu(x * (1 + scale) + shift)
        weight = self.keypoints(x).flatten(2).float().softmax(-1)
        side = torch.linspace(-1, 1, x.shape[-1], device=x.device)
        v, u = torch.meshgrid(side, side, indexing="ij")
        places = torch.cat([weight @ u.flatten(), weight @ v.flatten()], -1)  # (B, 64)
        return torch.cat([self.places(places)[:, None], self.deep(x).flatten(2).transpose(1, 2)], 1)


class ActionBlock(nn.Module):
    """Self-attention over the chunk, cross-attention to the context, MLP; modulated by flow time and state."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(dim, elementwise_affine=False) for _ in range(3))
        self.modulation = nn.Linear(dim, 9 * dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.self_out = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.cross_out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        split = [x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v)]
        return attention(*split).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor, context: Tensor, condition: Tensor) -> Tensor:
        """x: (B, K, D); context: (B, M, D); condition: (B, D)."""
        parts = self.modulation(condition)[:, None].chunk(9, -1)

        def modulated(i: int) -> Tensor:
            return self.norms[i](x) * (1 + parts[3 * i]) + parts[3 * i + 1]

        x = x + (1 + parts[2]) * self.self_out(self._attend(*self.qkv(modulated(0)).chunk(3, -1)))
        x = x + (1 + parts[5]) * self.cross_out(self._attend(self.query(modulated(1)), *self.key_value(context).chunk(2, -1)))
        return x + (1 + parts[8]) * self.mlp(modulated(2))


class PredictiveNetwork(nn.Module):
    """(noisy chunk, flow time, context) to the clean chunk."""

    def __init__(self, preset: CompactPreset) -> None:
        super().__init__()
        config, text_dim = preset.predictive, preset.instruction_encoder.dim
        dim = config.dim
        self.grid = preset.grid
        self.arms = 2
        self.actions = 7 * self.arms
        self.wrist = WristEncoder(dim, text_dim)
        self.hidden = nn.Linear(preset.transformer.dim, dim)
        self.latent = nn.Linear(preset.autoencoder.latent, dim)
        self.state = nn.Sequential(nn.Linear(STATE, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.text = nn.Linear(text_dim, dim)
        self.place = nn.Parameter(torch.randn(1, self.arms * (37 + WINDOW**2) + 2, dim) * 0.02)
        self.time = nn.Sequential(nn.Linear(64, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.inputs = nn.Linear(self.actions, dim)
        self.step = nn.Parameter(torch.randn(1, preset.horizon, dim) * 0.02)
        self.blocks = nn.ModuleList(ActionBlock(dim, config.heads) for _ in range(config.depth))
        self.outputs = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, self.actions))

    def context(self, inputs: PredictiveInputs, keep_scene: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens to attend to (B, M, D) and the state's summary (B, D). ``keep_scene`` (B,) in {0, 1} drops world-model tokens."""
        batch = len(inputs.state)
        wrists = self.wrist(inputs.wrists.flatten(0, 1), inputs.text.repeat_interleave(self.arms, 0)).reshape(
            batch, -1, self.place.shape[-1]
        )
        scene = self.hidden(inputs.hidden) + self.latent(inputs.latent)  # (B, 80, D)
        scene = scene.transpose(1, 2).unflatten(2, self.grid)
        reach = torch.arange(WINDOW, device=scene.device) - WINDOW // 2
        v, u = torch.meshgrid(reach * 2 / self.grid[0], reach * 2 / self.grid[1], indexing="ij")
        around = inputs.hand[:, :, None, None] + torch.stack([u, v], -1)  # (B, A, W, W, 2)
        windows = F.grid_sample(scene.float(), around.flatten(1, 2).float(), align_corners=False)  # (B, D, A W, W)
        windows = windows.flatten(2).transpose(1, 2)
        if keep_scene is not None:
            windows = windows * keep_scene[:, None, None]
        state = self.state(inputs.state)
        tokens = torch.cat([wrists, windows, state[:, None], self.text(inputs.text)[:, None]], 1)
        return tokens + self.place, state

    def forward(self, noisy: Tensor, t: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """noisy: (B, K, 14), t: (B,), context and state from ``context``; returns the clean chunk (B, K, 14)."""
        angle = t[:, None] * torch.exp(torch.linspace(0, 5, 32, device=t.device))
        condition = F.silu(self.time(torch.cat([angle.cos(), angle.sin()], -1)) + state)
        x = self.inputs(noisy) + self.step
        for block in self.blocks:
            x = block(x, context, condition)
        return self.outputs(x)

    def sample(self, inputs: PredictiveInputs, noise: Tensor, steps: int) -> Tensor:
        """Euler integration of the flow from noise (B, K, 14) to a chunk."""
        context, state = self.context(inputs)
        x = noise
        for i in range(steps):
            t = i / steps
            predicted = self(x, torch.full((len(x),), t, device=x.device), context, state)
            x = x + (predicted - x) / (steps * (1 - t))
        return x


def predictive_loss(network: PredictiveNetwork, inputs: PredictiveInputs, chunk: Tensor, weight: Tensor) -> Tensor:
    """Flow matching with x-prediction; chunk: (B, K, 14); weight: (B, K), 0 where a target is unknown."""
    t = torch.rand(len(chunk), device=chunk.device)
    mix = t[:, None, None]
    keep_scene = (torch.rand(len(chunk), device=chunk.device) > SCENE_DROPOUT).float()
    context, state = network.context(inputs, keep_scene)
    predicted = network((1 - mix) * torch.randn_like(chunk) + mix * chunk, t, context, state)
    error = (predicted.float() - chunk).square().mean(-1) / (1 - mix[..., 0]).clamp(min=0.1)
    return (error * weight).sum() / weight.sum().clamp(min=1e-6)


def state_vector(
    position: NDArray[np.float32],
    orientation: NDArray[np.float32],
    opening: NDArray[np.float32],
    points: NDArray[np.float32],
    confidence: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What the hand feels, relative to itself: (B, A, 3) m, (B, A, 4), (B, A), grounded (B, 2, 3) m, (B, 2) to (B, STATE).

    Only the offset to the *next* point is told, and only to the hand nearest to it: the target, or the goal once a hand holds something.
    Where goal and target lie to each other, and to the other hand, is a habit of the demonstrated region, and no business of a grasp.
    Offsets saturate (tanh at 2 and at 6 cm): far away only the direction is left. Two more numbers: the confidence in that point, and how
    near the target is to the goal (tanh at 6 cm), or an open hand above it could not tell whether it comes or has just let go.
    """
    x, y, z, w = np.moveaxis(orientation, -1, 0)
    own = np.stack(
        [
            np.tanh((position[..., 2] - 0.12) / 0.12),
            2 * (x * y + z * w),
            1 - 2 * (y * y + z * z),
            2 * (x * z + y * w),
            2 * (y * z - x * w),
            opening * 2 - 1,
        ],
        -1,
    )  # (B, A, 6)
    rows = np.arange(len(position))
    holding = ((opening > HELD_OPENING[0]) & (opening < HELD_OPENING[1])).any(1)
    following = holding.astype(np.int64)  # 0: target, 1: goal
    offset = points[rows, following][:, None] - position  # (B, A, 3)
    nearest = np.linalg.norm(offset, axis=-1).argmin(1)
    mine = np.zeros_like(opening)
    mine[rows, nearest] = 1
    told = offset * mine[..., None]
    numbers = np.concatenate([own, np.tanh(told / 0.02), np.tanh(told / 0.06)], -1)
    to_go = np.tanh(np.linalg.norm(points[:, 1] - points[:, 0], axis=-1) / 0.06)
    shared = np.stack([confidence[rows, following], to_go], -1)
    return np.concatenate([numbers.reshape(len(position), -1), shared], -1).astype(np.float32)


def hand_coordinates(view: SceneView, position: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tool positions (..., 3), m, to scene-image coordinates in [-1, 1] (..., 2)."""
    height, width = view.size
    return (view.project(position) / (width / 2, height / 2) - 1).astype(np.float32)


class ChunkSampler(nn.Module):
    """All denoising steps in one network: a compiler sees what the steps share, and a call costs once."""

    def __init__(self, network: PredictiveNetwork, steps: int) -> None:
        super().__init__()
        self.network, self.steps = network, steps

    def forward(self, noise: Tensor, *inputs: Tensor) -> Tensor:
        """noise (B, K, 14), then the fields of PredictiveInputs, to a chunk (B, K, 14)."""
        return self.network.sample(PredictiveInputs(*inputs), noise, self.steps)


class PredictiveExpert:
    """Implements the ActionExpert protocol. Backends other than ``torch`` and ``torch_bf16`` take one observation at a time.

    ``compiled`` holds its one network. Raises BackendError where the backend cannot serve it.
    """

    source = Expert.PREDICTIVE

    def __init__(self, preset: CompactPreset, network: PredictiveNetwork, *, device: str = "cpu", backend: Backend = "torch") -> None:
        self.preset = preset
        self.device = host_device(device, backend)
        self.network = network.to(self.device).eval().requires_grad_(False)
        cell = preset.load_cell()
        self.arms = cell.arm_names
        self.wrists = tuple(f"wrist_{arm}" for arm in self.arms)
        self.view = SceneView(cell.camera("scene"), preset.scene_size)
        self.encoder = InstructionEncoder(preset.instruction_encoder)
        shapes = (
            (1, preset.horizon, self.network.actions),
            (1, len(self.arms), 3, *preset.wrist_size),
            (1, preset.tokens, preset.transformer.dim),
            (1, preset.tokens, preset.autoencoder.latent),
            (1, len(self.arms), 2),
            (1, STATE),
            (1, preset.instruction_encoder.dim),
        )
        generator = torch.Generator().manual_seed(0)
        example = tuple(torch.rand(shape, generator=generator).to(self.device) for shape in shapes)
        sampler = ChunkSampler(self.network, preset.predictive.denoising_steps).eval()
        self.compiled = {"predictive_expert": compile_module(sampler, example, backend, name="predictive_expert")}

    def inputs(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> PredictiveInputs:
        """The network's batch."""
        wrists = np.stack([[o.image(name) for name in self.wrists] for o in observations])  # (B, A, h, w, 3)
        if wrists.shape[2:4] != self.preset.wrist_size:
            raise ValueError(f"wrist images are {wrists.shape[2:4]}, preset '{self.preset.name}' needs {self.preset.wrist_size}")
        position = np.stack([o.ee_position for o in observations])
        state = state_vector(
            position,
            np.stack([o.ee_orientation for o in observations]),
            np.stack([o.gripper for o in observations]),
            np.stack([[p.position for p in i.grounding] for i in imaginations]),
            np.array([[p.confidence for p in i.grounding] for i in imaginations], np.float32),
        )
        text = self.encoder.encode([o.instruction for o in observations])[:, 0]

        def tensor(array: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(array).to(self.device)

        return PredictiveInputs(
            tensor(np.moveaxis(wrists, -1, 2).astype(np.float32) / np.float32(255)),
            tensor(np.stack([i.hidden for i in imaginations])),
            tensor(np.stack([i.latents[0] for i in imaginations])),
            tensor(hand_coordinates(self.view, position)),
            tensor(state),
            text.to(self.device),
        )

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> list[ActionChunk]:
        """One chunk a pair; see the protocol."""
        config = self.preset.predictive
        generators = [torch.Generator().manual_seed(o.stamp_ns % (1 << 62)) for o in observations]
        noise = torch.stack([torch.randn(self.preset.horizon, self.network.actions, generator=g) for g in generators]) * config.start_noise
        inputs = self.inputs(observations, imaginations)
        [numbers] = self.compiled["predictive_expert"].outputs(noise.to(self.device), *inputs)
        return [
            ActionChunk(
                o.stamp_ns, i.imagination_id, self.source, self.preset.frame_period_s, self.arms,
                *decode_deltas(o.ee_position, o.ee_orientation, chunk),
            )
            for o, i, chunk in zip(observations, imaginations, numbers.cpu().numpy(), strict=True)
        ]  # fmt: skip
