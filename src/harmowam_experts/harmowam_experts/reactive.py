"""Reactive expert: inverse dynamics that reads, from each imagined frame, the end-effector pose and gripper shown there.

It is told where the hands are and their way to the grounded points, as the transformer is that imagined the frame: where nothing was
shown, imagined hands are vague, points are not. What it reads in the current frame is replaced by what the joints measure, which cancels
its bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from harmowam_core.backends import Backend, compile_module, host_device
from harmowam_core.hands import HANDS, WORKSPACE_SCALE, hand_vector
from harmowam_core.presets import CompactPreset
from harmowam_core.stages import ActionChunk, Expert, Imagination, Observation
from harmowam_experts.poses import rotation_from_6d

POSE = 10  # per arm: position 3 (10 cm units from the middle of the workspace), rotation 6, gripper 1
POSITION_SCALE = 0.1


class ReactiveNetwork(nn.Module):
    """(latent of a frame, pooled hidden tokens, hands, which frame) to a pose an arm."""

    def __init__(self, preset: CompactPreset) -> None:
        super().__init__()
        config, latent = preset.reactive, preset.autoencoder.latent
        self.grid = preset.grid
        self.arms = 2
        self.pooled = preset.transformer.dim // 4  # the paper pools 3072 to 768
        channels = config.channels
        self.frame = nn.Embedding(preset.frames, channels)
        self.hidden = nn.Conv2d(self.pooled, channels, 1)
        self.hands = nn.Sequential(nn.Linear(HANDS, config.hidden), nn.SiLU(), nn.Linear(config.hidden, channels))
        self.inputs = nn.Conv2d(latent, channels, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(4)
        )
        self.reduce = nn.Conv2d(channels, 32, 1)
        self.head = nn.Sequential(
            nn.Linear(32 * preset.tokens + 2 * channels, config.hidden), nn.SiLU(),
            nn.Linear(config.hidden, config.hidden), nn.SiLU(),
            nn.Linear(config.hidden, self.arms * POSE),
        )  # fmt: skip

    def forward(self, latents: Tensor, hidden: Tensor, hands: Tensor, frame: Tensor) -> Tensor:
        """latents: (B, 80, C), hidden: (B, 80, D), hands: (B, 24) now (``hand_vector``), frame: (B,) index; returns (B, A, 10)."""
        pooled = F.adaptive_avg_pool1d(hidden, self.pooled)
        as_image = [x.transpose(1, 2).unflatten(2, self.grid) for x in (latents, pooled)]
        told, when = self.hands(hands), self.frame(frame)
        x = self.inputs(as_image[0]) + self.hidden(as_image[1]) + (told + when)[:, :, None, None]
        for block in self.blocks:
            x = x + block(x)
        read = self.head(torch.cat([F.silu(self.reduce(x)).flatten(1), told, when], 1)).unflatten(1, (self.arms, POSE))
        now = hands.unflatten(1, (self.arms, -1))[..., :3] * (WORKSPACE_SCALE / POSITION_SCALE)
        return read + F.pad(now, (0, POSE - 3))


def reactive_loss(predicted: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Smooth-L1, beta 0.1 (paper), over (B, A, 10); weight: (B,)."""
    return (F.smooth_l1_loss(predicted.float(), wanted, beta=0.1, reduction="none").mean((1, 2)) * weight).sum() / weight.sum()


class ReactiveExpert:
    """Implements the ActionExpert protocol. Backends other than ``torch`` and ``torch_bf16`` take one observation at a time.

    ``compiled`` holds its one network. Raises BackendError where the backend cannot serve it.
    """

    source = Expert.REACTIVE

    def __init__(self, preset: CompactPreset, network: ReactiveNetwork, *, device: str = "cpu", backend: Backend = "torch") -> None:
        self.preset = preset
        self.device = host_device(device, backend)
        self.network = network.to(self.device).eval().requires_grad_(False)
        self.arms = preset.load_cell().arm_names
        generator = torch.Generator().manual_seed(0)
        shapes = ((preset.frames, preset.tokens, preset.autoencoder.latent), (preset.frames, preset.tokens, preset.transformer.dim))
        example = tuple(torch.randn(shape, generator=generator).to(self.device) for shape in (*shapes, (preset.frames, HANDS)))
        index = torch.arange(preset.frames, device=self.device)
        self.compiled = {"reactive_expert": compile_module(self.network, (*example, index), backend, name="reactive_expert")}

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> list[ActionChunk]:
        """One chunk a pair; see the protocol."""
        batch, frames = len(observations), self.preset.frames
        latents = torch.from_numpy(np.stack([i.latents for i in imaginations])).to(self.device)  # (B, 13, 80, C)
        hidden = torch.from_numpy(np.stack([i.hidden for i in imaginations])).to(self.device)
        index = torch.arange(frames, device=self.device).repeat(batch)
        told = torch.from_numpy(
            hand_vector(
                np.stack([o.ee_position for o in observations]),
                np.stack([o.ee_orientation for o in observations]),
                np.stack([o.gripper for o in observations]),
                np.stack([[p.position for p in i.grounding] for i in imaginations]),
            )
        ).to(self.device)
        hidden, told = hidden.repeat_interleave(frames, 0), told.repeat_interleave(frames, 0)
        [read] = self.compiled["reactive_expert"].outputs(latents.flatten(0, 1), hidden, told, index)
        numbers = read.cpu().numpy().reshape(batch, frames, len(self.arms), POSE)
        return [self._chunk(o, i, n) for o, i, n in zip(observations, imaginations, numbers, strict=True)]

    def _chunk(self, observation: Observation, imagination: Imagination, numbers: np.ndarray) -> ActionChunk:
        """Poses read from 13 frames (13, A, 10), anchored at the measured one, to a chunk."""
        positions = observation.ee_position + (numbers[1:, :, :3] - numbers[:1, :, :3]) * POSITION_SCALE
        read = rotation_from_6d(numbers[..., 3:9].reshape(-1, 6)).as_matrix().reshape(*numbers.shape[:2], 3, 3)
        turned = read[1:] @ np.swapaxes(read[:1], -1, -2)  # (12, A, 3, 3)
        orientations = _times(turned, observation.ee_orientation)
        grippers = np.clip((numbers[1:, :, 9] + 1) / 2, 0, 1)
        return ActionChunk(
            observation.stamp_ns, imagination.imagination_id, self.source, imagination.frame_period_s, self.arms,
            positions.astype(np.float32), orientations, grippers.astype(np.float32),
        )  # fmt: skip


def _times(rotations: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Rotation matrices (K, A, 3, 3) applied to quaternions (A, 4), as quaternions (K, A, 4)."""
    turned = rotations @ Rotation.from_quat(orientation).as_matrix()
    return Rotation.from_matrix(turned.reshape(-1, 3, 3)).as_quat().reshape(*rotations.shape[:2], 4).astype(np.float32)
