"""The compact world model: ground the instruction, encode the frame, denoise 12 future latents, decode them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harmowam_core.backends import Backend, compile_module
from harmowam_core.instructions import InstructionEncoder
from harmowam_core.presets import CompactPreset
from harmowam_core.scene_view import SceneView
from harmowam_core.stages import GroundedPoint, Imagination, Observation
from harmowam_world_model.autoencoder import Autoencoder
from harmowam_world_model.grounding import Grounding, grounded_points, read_heat_maps
from harmowam_world_model.protocol import ALONE, GroundingMemory
from harmowam_world_model.transformer import GOAL_CHANNELS, HANDS, Conditions, VideoTransformer, goal_channels, sample_residual

Denoiser = Callable[..., tuple[Tensor, Tensor]]
Decoder = Callable[[Tensor], Tensor]


class WorldModelNetworks(nn.Module):
    """All weights of the compact world model, one checkpoint.

    ``residual_scale`` (12,) brings the residual of each future frame to a root mean square of 0.5.
    """

    def __init__(self, preset: CompactPreset) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(preset.autoencoder)
        self.grounding = Grounding(preset.grounding, preset.instruction_encoder.dim)
        self.transformer = VideoTransformer(preset)
        self.residual_scale: Tensor
        self.register_buffer("residual_scale", torch.ones(preset.frames - 1))

    def residual(self, latents: Tensor) -> Tensor:
        """Latents (B, 13, C, h, w) to the scaled residual of the future ones, (B, 12 C, h, w)."""
        return ((latents[:, 1:] - latents[:, :1]) * self.residual_scale[:, None, None, None]).flatten(1, 2)

    def future(self, residual: Tensor, latent: Tensor) -> Tensor:
        """Inverse of ``residual``: (B, 12 C, h, w) and the current latent (B, C, h, w) to (B, 13, C, h, w)."""
        batch, channels, rows, columns = latent.shape
        steps = residual.reshape(batch, -1, channels, rows, columns) / self.residual_scale[:, None, None, None]
        return torch.cat([latent[:, None], latent[:, None] + steps], 1)


class FrameDecoder(nn.Module):
    """The autoencoder's decoder as a network of its own, to be compiled."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, h, w) to frames (B, 3, H, W) in [0, 1]."""
        return self.autoencoder.decode(latents)


def frames_to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).float() / 255


def hand_vector(
    position: NDArray[np.float32], orientation: NDArray[np.float32], opening: NDArray[np.float32], points: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What the transformer is told of the hands, (..., 12 A): poses (..., A, 3) m, (..., A, 4) xyzw, openings (..., A), and where each
    would have to go to reach the grounded points (..., 2, 3) m. The way, unlike the place, looks the same everywhere on the table."""
    x, y, z, w = np.moveaxis(orientation, -1, 0)
    way = (points[..., None, :, :] - position[..., None, :]) / 0.15  # (..., A, 2, 3)
    per_arm = np.concatenate(
        [
            (position - np.array([0.5, 0.0, 0.2], np.float32)) / 0.2,
            opening[..., None] * 2 - 1,
            2 * (x * y + z * w)[..., None],  # sine and cosine of the tool's yaw
            (1 - 2 * (y * y + z * z))[..., None],
            way.reshape(*way.shape[:-2], 6).clip(-4, 4),
        ],
        -1,
    )
    return per_arm.reshape(*per_arm.shape[:-2], -1).astype(np.float32)


class CompactWorldModel:
    """Implements the WorldModel protocol. With a ``backend`` other than torch it takes one observation at a time.

    Raises BackendError where the backend cannot serve the networks.
    """

    def __init__(self, preset: CompactPreset, networks: WorldModelNetworks, *, device: str = "cpu", backend: Backend = "torch") -> None:
        self.preset = preset
        self.networks = networks.to(device).eval().requires_grad_(False)
        self.device = device
        self.encoder = InstructionEncoder(preset.instruction_encoder)
        self.view = SceneView(preset.load_cell().camera("scene"), preset.scene_size)
        self._denoise: Denoiser = self.networks.transformer
        self._decode: Decoder = self.networks.autoencoder.decode
        if backend != "torch":
            threads = torch.get_num_threads()
            self._denoise = compile_module(self.networks.transformer, self._transformer_example(), backend, threads=threads)
            latents = torch.randn(preset.frames, preset.autoencoder.latent, *preset.grid, generator=torch.Generator().manual_seed(0))
            self._decode = compile_module(FrameDecoder(self.networks.autoencoder).eval(), (latents.to(device),), backend, threads=threads)

    def _transformer_example(self) -> tuple[Tensor, ...]:
        """Inputs of one observation."""
        preset, generator = self.preset, torch.Generator().manual_seed(0)
        shapes = (
            (1, self.networks.transformer.future, *preset.grid),
            (1,),
            (1, preset.autoencoder.latent, *preset.grid),
            (1, GOAL_CHANNELS, *preset.grid),
            (1, preset.instruction_encoder.dim),
            (1, HANDS),
        )
        return tuple(torch.rand(shape, generator=generator).to(self.device) for shape in shapes)

    def _noise(self, stamp_ns: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + stamp_ns) % (1 << 62))
        return torch.randn(self.networks.transformer.future, *self.preset.grid, generator=generator)

    def ground(
        self, images: Tensor, text: Tensor, memories: Sequence[GroundingMemory], hands: Sequence[NDArray[np.float32]]
    ) -> tuple[Tensor, list[tuple[GroundedPoint, ...]]]:
        """Pixels (B, 2, 2) and points to go by, from what is seen and what each episode remembers; hands: (A, 3) m each."""
        output = self.networks.grounding(images, text)
        pixels, confidence = read_heat_maps(output.logits.float())
        points = grounded_points(self.view, pixels.cpu(), output.height_m.float().cpu(), confidence.cpu())
        kept = []
        for seen, memory, tools in zip(points, memories, hands, strict=True):
            kept.append(tuple(memory.update(point, self.preset.grounding.confidence_threshold, tools) for point in seen))
        used = torch.from_numpy(np.array([[p.pixel for p in group] for group in kept]))
        return used.to(self.device), kept

    def _denoised(
        self,
        observations: Sequence[Observation],
        latent: Tensor,
        pixels: Tensor,
        points: Sequence[tuple[GroundedPoint, ...]],
        text: Tensor,
        seed: int,
    ) -> tuple[Tensor, Tensor]:
        """Residual (B, 12 C, h, w) and hidden tokens (B, 80, D) for the current latents and the grounded pixels and points."""
        hands = hand_vector(
            np.stack([o.ee_position for o in observations]),
            np.stack([o.ee_orientation for o in observations]),
            np.stack([o.gripper for o in observations]),
            np.stack([[p.position for p in group] for group in points]),
        )
        goals = goal_channels(pixels, self.preset.grid, self.preset.scene_size)
        conditions = Conditions(latent, goals, text[:, 0], torch.from_numpy(hands).to(self.device))
        noise = torch.stack([self._noise(o.stamp_ns, seed) for o in observations]).to(self.device)
        return sample_residual(self._denoise, noise, conditions, self.preset.denoising_steps)

    @torch.inference_mode()
    def imagine(
        self,
        observations: Sequence[Observation],
        memories: Sequence[GroundingMemory],
        seed: int = 0,
        *,
        turn: AbstractContextManager[None] = ALONE,
    ) -> list[Imagination]:
        """One imagination an observation; see the protocol. Computes in bfloat16, as in training."""
        started = time.perf_counter()
        images = frames_to_tensor(np.stack([o.image("scene") for o in observations])).to(self.device)
        if images.shape[-2:] != self.preset.scene_size:
            raise ValueError(f"scene image is {tuple(images.shape[-2:])}, preset '{self.preset.name}' needs {self.preset.scene_size}")
        with torch.autocast(self.device, torch.bfloat16):
            text = self.encoder.encode([o.instruction for o in observations]).to(self.device)
            with turn:
                pixels, points = self.ground(images, text, memories, [o.ee_position for o in observations])
            grounded = time.perf_counter()
            latent = self.networks.autoencoder.encode(images).float()
            residual, hidden = self._denoised(observations, latent, pixels, points, text, seed)
            latents = self.networks.future(residual.float(), latent)  # (B, 13, C, h, w)
            denoised = time.perf_counter()
            decoded = self._decode(latents.flatten(0, 1)).float()
        frames = (decoded * 255).round().byte().permute(0, 2, 3, 1).unflatten(0, latents.shape[:2]).cpu().numpy()
        timings = {"grounding": grounded - started, "denoising": denoised - grounded, "decoding": time.perf_counter() - denoised}
        tokens = latents.flatten(3).transpose(2, 3).cpu().numpy()  # (B, 13, N, C)
        return [
            Imagination(
                observation.stamp_ns,
                observation.stamp_ns // 1_000_000,
                np.ascontiguousarray(frames[b]),
                self.preset.frame_period_s,
                np.ascontiguousarray(tokens[b]),
                hidden[b].float().cpu().numpy(),
                points[b],
                timings,
            )
            for b, observation in enumerate(observations)
        ]
