"""The paper-scale world model: Wan 2.2 TI2V 5B imagines 12 frames from the current one and the instruction in 5 steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from harmowam_core.backends import Backend, compile_module
from harmowam_core.pretrained import TextTokens, images_to_tensor, latent_frame_of, load_pretrained
from harmowam_core.stages import Imagination, Observation
from harmowam_core.wan_preset import WanPreset
from harmowam_world_model.protocol import ALONE, GroundingMemory

TRAIN_TIMESTEPS = 1000  # the transformer counts flow time in thousandths
PATCH = 2  # latent pixels a token is wide and high


class WanDenoiser(nn.Module):
    """One evaluation of the video transformer, whose hidden tokens are tapped after ``tap_block``."""

    def __init__(self, transformer: WanTransformer3DModel, tap_block: int) -> None:
        super().__init__()
        if tap_block >= len(transformer.blocks):
            raise ValueError(f"tap_block is {tap_block}, but the transformer has {len(transformer.blocks)} blocks")
        self.transformer = transformer
        self.tap_block = tap_block

    def forward(self, latents: Tensor, sigma: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, C, L, h, w) with the first frame clean and the others at flow time ``sigma`` (B,) in [0, 1].

        Returns the velocity (noise minus data), shaped as the latents, and the hidden tokens (B, L, h/2 * w/2, D).
        """
        batch, _, frames, height, width = latents.shape
        tokens = height * width // PATCH**2
        # A time of its own for every token: zero says that the current frame carries no noise.
        times = (sigma * TRAIN_TIMESTEPS)[:, None].expand(batch, (frames - 1) * tokens)
        times = torch.cat([torch.zeros_like(times[:, :1]).expand(batch, tokens), times], 1)
        tapped: list[Tensor] = []
        handle = self.transformer.blocks[self.tap_block].register_forward_hook(lambda module, inputs, output: tapped.append(output))
        try:
            dtype = self.transformer.patch_embedding.weight.dtype
            (velocity,) = self.transformer(latents.to(dtype), times, text.to(dtype), return_dict=False)
        finally:
            handle.remove()
        return velocity.float(), tapped[0].float().unflatten(1, (frames, tokens))


def flow_times(steps: int, shift: float) -> Tensor:
    """(steps + 1,) flow times from 1 (noise) to 0 (data), moved towards noise by ``shift``."""
    even = torch.linspace(1, 0, steps + 1)
    return shift * even / (1 + (shift - 1) * even)


def sample_latents(
    denoise: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], noise: Tensor, current: Tensor, text: Tensor, times: Tensor
) -> tuple[Tensor, Tensor]:
    """Euler steps from ``noise`` (B, C, L, h, w) with the clean ``current`` latent (B, C, 1, h, w) as its first frame.

    Returns latents and the hidden tokens of the last step.
    """
    x, hidden = torch.cat([current, noise[:, :, 1:]], 2), torch.empty(0)
    for now, then in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        velocity, hidden = denoise(x, torch.full((len(x),), now, device=x.device), text)
        x = torch.cat([current, (x + (then - now) * velocity)[:, :, 1:]], 2)
    return x, hidden


def flow_matching_loss(denoiser: WanDenoiser, latents: Tensor, text: Tensor, shift: float, generator: torch.Generator) -> Tensor:
    """Conditional flow matching (stage 1) on normalised latents (B, C, L, h, w) of whole clips; the current frame stays clean."""
    even = torch.rand(len(latents), generator=generator)
    sigma = (shift * even / (1 + (shift - 1) * even)).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noisy = torch.lerp(latents, noise, sigma[:, None, None, None, None])
    velocity, _ = denoiser(torch.cat([latents[:, :, :1], noisy[:, :, 1:]], 2), sigma, text)
    return nn.functional.mse_loss(velocity[:, :, 1:], (noise - latents)[:, :, 1:])


class WanVideoCodec:
    """Frames to normalised latents and back."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.vae = vae
        device = next(vae.parameters()).device
        self.mean = torch.tensor(vae.config.latents_mean, device=device)[:, None, None, None]
        self.std = torch.tensor(vae.config.latents_std, device=device)[:, None, None, None]

    def encode(self, frames: Tensor) -> Tensor:
        """(B, 3, F, H, W) in [0, 1] to (B, C, 1 + (F - 1) / 4, H / 16, W / 16) float32."""
        dist = self.vae.encode((frames * 2 - 1).to(self.mean.device, self.vae.dtype)).latent_dist
        return (dist.mode().float() - self.mean) / self.std

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of ``encode``."""
        frames: Tensor = self.vae.decode((latents * self.std + self.mean).to(self.vae.dtype)).sample
        return frames.float() / 2 + 0.5


def join_hidden(hidden: Tensor) -> Tensor:
    """Hidden tokens (B, L, N, D) of all latent frames to the stage's (B, N, L * D)."""
    return hidden.transpose(1, 2).flatten(2)


class WanWorldModel:
    """Implements the WorldModel protocol.

    Stage layout: ``latents`` (13, 80, 4 C) are the latents of the latent frame each frame belongs to, a token's 2 x 2 latent
    pixels together; ``hidden`` (80, L * D) joins the hidden tokens of the L latent frames in channels. There is no grounding:
    the instruction acts through the transformer alone.
    """

    def __init__(
        self,
        preset: WanPreset,
        denoiser: WanDenoiser,
        vae: AutoencoderKLWan,
        text: TextTokens,
        *,
        device: str = "cpu",
        backend: Backend = "torch",
    ) -> None:
        self.preset, self.device, self._text = preset, device, text
        denoiser = denoiser.to(device).eval().requires_grad_(False)
        self._codec = WanVideoCodec(vae.to(device).eval().requires_grad_(False))
        channels, (rows, columns) = vae.config.z_dim, preset.grid
        self._shape = (channels, preset.latent_frames, rows * PATCH, columns * PATCH)
        self._times = flow_times(preset.denoising_steps, preset.video.flow_shift)
        self._denoise: Callable[..., tuple[Tensor, Tensor]] = denoiser
        if backend != "torch":
            config = denoiser.transformer.config
            example = (
                torch.randn(1, *self._shape, device=device),
                torch.full((1,), 0.5, device=device),
                torch.randn(1, preset.video.text_tokens, config.text_dim, device=device),
            )
            self._denoise = compile_module(denoiser, example, backend, name="video_transformer")

    def _noise(self, stamp_ns: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed((seed * 1_000_003 + stamp_ns) % (1 << 62))
        return torch.randn(self._shape, generator=generator)

    @torch.inference_mode()
    def imagine(
        self,
        observations: Sequence[Observation],
        memories: Sequence[GroundingMemory],
        seed: int = 0,
        *,
        turn: AbstractContextManager[None] = ALONE,
    ) -> list[Imagination]:
        """One imagination an observation, one after the other (this model fills a GPU by itself); see the protocol."""
        if len(observations) != len(memories):
            raise ValueError(f"{len(observations)} observations but {len(memories)} memories; give one an episode")
        return [self._imagine(observation, seed) for observation in observations]

    def _imagine(self, observation: Observation, seed: int) -> Imagination:
        scene = observation.image("scene")
        if scene.shape[:2] != self.preset.scene_size:
            raise ValueError(f"scene image is {scene.shape[:2]}, preset '{self.preset.name}' needs {self.preset.scene_size}")
        started = time.perf_counter()
        text = self._text.encode([observation.instruction]).to(self.device)
        current = self._codec.encode(images_to_tensor(scene[None])[:, :, None])  # (1, C, 1, h, w)
        encoded = time.perf_counter()
        noise = self._noise(observation.stamp_ns, seed)[None].to(self.device)
        latents, hidden = sample_latents(self._denoise, noise, current, text, self._times)
        joined = join_hidden(hidden)[0].cpu().numpy()  # waits for the GPU, so that the times below are true
        denoised = time.perf_counter()
        decoded = self._codec.decode(latents)[0]  # (3, F, H, W)
        frames = (decoded.clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()
        patches = nn.functional.pixel_unshuffle(latents[0].transpose(0, 1), PATCH)  # (L, 4 C, rows, columns)
        tokens = patches.flatten(2).transpose(1, 2).cpu().numpy()  # (L, N, 4 C)
        return Imagination(
            observation.stamp_ns,
            observation.stamp_ns // 1_000_000,
            np.ascontiguousarray(frames),
            self.preset.frame_period_s,
            np.ascontiguousarray(tokens[[latent_frame_of(f) for f in range(self.preset.frames)]]),
            np.ascontiguousarray(joined),
            (),
            {"encoding": encoded - started, "denoising": denoised - encoded, "decoding": time.perf_counter() - denoised},
        )


def load_wan_world_model(
    preset: WanPreset, *, device: str = "cpu", backend: Backend = "torch", weights: Path | None = None
) -> WanWorldModel:
    """Transformer, VAE and text encoder from ``weights``/wan (diffusers' layout) or the hub; bf16 on a GPU, else float32."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    weights = weights or preset.weights_dir()
    transformer = load_pretrained(WanTransformer3DModel, "wan", preset.sources.wan, weights, subfolder="transformer", dtype=dtype)
    vae = load_pretrained(AutoencoderKLWan, "wan", preset.sources.wan, weights, subfolder="vae", dtype=dtype)
    text = TextTokens.load(preset.sources.wan, weights, preset.video.text_tokens, device, dtype)
    return WanWorldModel(preset, WanDenoiser(transformer, preset.video.tap_block), vae, text, device=device, backend=backend)
