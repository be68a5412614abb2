"""The compact world model: ground the instruction, encode the frame, denoise 12 future latents, decode them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harmowam_core.backends import Backend, compile_module, host_device
from harmowam_core.hands import HANDS, hand_vector
from harmowam_core.instructions import InstructionEncoder
from harmowam_core.presets import CompactPreset
from harmowam_core.scene_view import SceneView
from harmowam_core.stages import GroundedPoint, Imagination, Observation
from harmowam_world_model.autoencoder import Autoencoder
from harmowam_world_model.grounding import Grounding, GroundingOutput, grounded_points, read_heat_maps
from harmowam_world_model.protocol import ALONE, GroundingMemory
from harmowam_world_model.transformer import GOAL_CHANNELS, Conditions, VideoTransformer, goal_channels, sample_residual


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


class FrameEncoder(nn.Module):
    """The autoencoder's encoder as a network of its own, to be compiled."""

    def __init__(self, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (B, 3, H, W) in [0, 1] to latents (B, C, h, w)."""
        return self.autoencoder.encode(frames)


class Sampler(nn.Module):
    """All denoising steps in one network: a compiler sees what the steps share, and a call costs once."""

    def __init__(self, transformer: VideoTransformer, steps: int) -> None:
        super().__init__()
        self.transformer, self.steps = transformer, steps

    def forward(self, noise: Tensor, latent: Tensor, goals: Tensor, text: Tensor, hands: Tensor) -> tuple[Tensor, Tensor]:
        """noise: (B, 12 C, h, w), then the fields of Conditions; returns the clean residual (B, 12 C, h, w) and (B, h w, D)."""
        return sample_residual(self.transformer, noise, Conditions(latent, goals, text, hands), self.steps)


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


class CompactWorldModel:
    """Implements the WorldModel protocol. Backends other than ``torch`` and ``torch_bf16`` take one observation at a time.

    ``compiled`` holds every network by name. Raises BackendError where the backend cannot serve one.
    """

    def __init__(self, preset: CompactPreset, networks: WorldModelNetworks, *, device: str = "cpu", backend: Backend = "torch") -> None:
        self.preset = preset
        self.device = host_device(device, backend)
        self.networks = networks.to(self.device).eval().requires_grad_(False)
        self.encoder = InstructionEncoder(preset.instruction_encoder)
        self.view = SceneView(preset.load_cell().camera("scene"), preset.scene_size)
        self.compiled = {
            name: compile_module(module.eval(), tuple(x.to(self.device) for x in example), backend, name=name)
            for name, (module, example) in self._to_compile().items()
        }

    def _to_compile(self) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
        """Every network with inputs of one observation."""
        preset, generator = self.preset, torch.Generator().manual_seed(0)

        def example(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        latent, text, grid = preset.autoencoder.latent, preset.instruction_encoder, preset.grid
        image = example(1, 3, *preset.scene_size)
        residual = torch.randn(1, self.networks.transformer.future, *grid, generator=generator)
        conditions = (example(1, latent, *grid), example(1, GOAL_CHANNELS, *grid), example(1, text.dim), example(1, HANDS))
        return {
            "grounding": (self.networks.grounding, (image, example(1, text.tokens + 1, text.dim))),
            "frame_encoder": (FrameEncoder(self.networks.autoencoder), (image,)),
            "sampler": (Sampler(self.networks.transformer, preset.denoising_steps), (residual, *conditions)),
            "frame_decoder": (FrameDecoder(self.networks.autoencoder), (example(preset.frames, latent, *grid),)),
        }

    def _noise(self, stamp_ns: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + stamp_ns) % (1 << 62))
        return torch.randn(self.networks.transformer.future, *self.preset.grid, generator=generator)

    def ground(
        self, images: Tensor, text: Tensor, memories: Sequence[GroundingMemory], hands: Sequence[NDArray[np.float32]]
    ) -> tuple[Tensor, list[tuple[GroundedPoint, ...]]]:
        """Pixels (B, 2, 2) and points to go by, from what is seen and what each episode remembers; hands: (A, 3) m each."""
        output = GroundingOutput(*self.compiled["grounding"].outputs(images, text))
        pixels, confidence = read_heat_maps(output.logits)
        points = grounded_points(self.view, pixels.cpu(), output.height_m.cpu(), confidence.cpu())
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
        residual, hidden = self.compiled["sampler"].outputs(noise, *conditions)
        return residual, hidden

    @torch.inference_mode()
    def imagine(
        self,
        observations: Sequence[Observation],
        memories: Sequence[GroundingMemory],
        seed: int = 0,
        *,
        turn: AbstractContextManager[None] = ALONE,
    ) -> list[Imagination]:
        """One imagination an observation; see the protocol."""
        started = time.perf_counter()
        images = frames_to_tensor(np.stack([o.image("scene") for o in observations])).to(self.device)
        if images.shape[-2:] != self.preset.scene_size:
            raise ValueError(f"scene image is {tuple(images.shape[-2:])}, preset '{self.preset.name}' needs {self.preset.scene_size}")
        text = self.encoder.encode([o.instruction for o in observations]).to(self.device)
        with turn:
            pixels, points = self.ground(images, text, memories, [o.ee_position for o in observations])
        grounded = time.perf_counter()
        [latent] = self.compiled["frame_encoder"].outputs(images)
        residual, hidden = self._denoised(observations, latent, pixels, points, text, seed)
        latents = self.networks.future(residual, latent)  # (B, 13, C, h, w)
        denoised = time.perf_counter()
        [decoded] = self.compiled["frame_decoder"].outputs(latents.flatten(0, 1))
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
                hidden[b].cpu().numpy(),
                points[b],
                timings,
            )
            for b, observation in enumerate(observations)
        ]
