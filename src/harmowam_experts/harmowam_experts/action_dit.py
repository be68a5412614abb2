"""The paper-scale predictive expert: a diffusion transformer over action chunks.

Its blocks attend in turn to the visual tokens (SigLIP), the instruction (T5) and the world model's hidden tokens; action k reads
the hidden tokens of the latent frame that its time falls in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.normalization import AdaLayerNormSingle
from torch import Tensor, nn

from harmowam_core.checkpoints import load_checkpoint
from harmowam_core.pretrained import TextTokens, VisualTokens, images_to_tensor, require_torch
from harmowam_core.stages import ActionChunk, Expert, Imagination, Observation
from harmowam_core.wan_preset import WanPreset
from harmowam_experts import PREDICTIVE_FILE
from harmowam_experts.euler_actions import ActionStatistics, EulerActions


class Conditions(NamedTuple):
    """What an action chunk is conditioned on: visual tokens (B, cameras, P, Dv), instruction tokens (B, T, Dt) with zeros past
    the end, hidden tokens of the world model (B, L, N, Dw)."""

    visual: Tensor
    text: Tensor
    world: Tensor


class ConditionSizes(NamedTuple):
    """Numbers of cameras and latent frames, and widths of the tokens of ``Conditions``."""

    cameras: int
    latent_frames: int
    visual: int
    text: int
    world: int


def _adapter(width: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))


class ActionDiT(nn.Module):
    """(noisy chunk, diffusion time, conditions) to the noise in the chunk."""

    def __init__(self, preset: WanPreset, actions: int, sizes: ConditionSizes) -> None:
        super().__init__()
        config = preset.predictive
        self.horizon, self.actions = preset.horizon, actions
        self.statistics = ActionStatistics(actions)
        self.visual, self.text, self.world = (_adapter(width, config.dim) for width in sizes[2:])
        self.camera = nn.Parameter(torch.randn(sizes.cameras, 1, config.dim) * 0.02)
        self.inputs = nn.Linear(actions, config.dim)
        self.step = nn.Parameter(torch.randn(preset.horizon, config.dim) * 0.02)
        self.time = AdaLayerNormSingle(config.dim)
        self.blocks = nn.ModuleList(
            BasicTransformerBlock(
                config.dim,
                config.heads,
                config.dim // config.heads,
                cross_attention_dim=config.dim,
                activation_fn="gelu-approximate",
                attention_bias=True,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, elementwise_affine=False)
        self.scale_shift = nn.Linear(config.dim, 2 * config.dim)
        self.outputs = nn.Linear(config.dim, actions)
        for layer in (self.scale_shift, self.outputs):  # starts as the identity, and from a prediction of zero
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, noisy: Tensor, timestep: Tensor, conditions: Conditions) -> Tensor:
        """noisy (B, K, actions) normalised, timestep (B,) of the diffusion; returns the noise, shaped as ``noisy``."""
        contexts = self._contexts(conditions)
        x = self.inputs(noisy) + self.step  # (B, K, D)
        modulation, embedded = self.time(timestep, hidden_dtype=x.dtype)
        for index, block in enumerate(self.blocks):
            tokens, bias = contexts[index % len(contexts)]
            x = block(x, encoder_hidden_states=tokens, encoder_attention_mask=bias, timestep=modulation)
        scale, shift = self.scale_shift(embedded)[:, None].chunk(2, -1)
        noise: Tensor = self.outputs(self.norm(x) * (1 + scale) + shift)
        return noise

    def _contexts(self, conditions: Conditions) -> list[tuple[Tensor, Tensor | None]]:
        """Tokens (B, M, D) to attend to and their additive mask (B, K or 1, M), in the order the blocks take them."""
        visual = (self.visual(conditions.visual) + self.camera).flatten(1, 2)
        past_end = (conditions.text == 0).all(-1)[:, None]  # (B, 1, T)
        future = conditions.world[:, 1:]  # the current latent frame holds no imagination
        batch, frames, tokens, _ = future.shape
        frame_of_action = torch.arange(self.horizon, device=future.device) * frames // self.horizon
        frame_of_token = torch.arange(frames, device=future.device).repeat_interleave(tokens)
        elsewhere = (frame_of_action[:, None] != frame_of_token)[None].expand(batch, -1, -1)  # (B, K, L' * N)
        text, world = self.text(conditions.text), self.world(future.flatten(1, 2))
        return [(visual, None), (text, _bias(past_end, text)), (world, _bias(elsewhere, world))]


def _bias(hidden: Tensor, like: Tensor) -> Tensor:
    return torch.zeros(hidden.shape, dtype=like.dtype, device=like.device).masked_fill(hidden, -1e4)


def noise_schedule(preset: WanPreset) -> DDPMScheduler:
    """Squared-cosine noise schedule with noise prediction."""
    return DDPMScheduler(
        num_train_timesteps=preset.predictive.train_timesteps, beta_schedule="squaredcos_cap_v2", prediction_type="epsilon"
    )


def diffusion_loss(
    network: ActionDiT, schedule: DDPMScheduler, actions: Tensor, conditions: Conditions, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the predicted noise on chunks (B, K, actions) in m, rad and openings."""
    clean = network.statistics.normalise(actions)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    timestep = torch.randint(schedule.config.num_train_timesteps, (len(clean),), generator=generator).to(clean.device)
    return nn.functional.mse_loss(network(schedule.add_noise(clean, noise, timestep), timestep, conditions), noise)


def sample_actions(network: ActionDiT, schedule: DDPMScheduler, noise: Tensor, conditions: Conditions, steps: int) -> Tensor:
    """Denoise (B, K, actions) with DPM-Solver++; returns actions in m, rad and openings. Deterministic."""
    # The clipping is what diffusers prescribes for a squared-cosine schedule, whose first step is otherwise near infinite.
    solver = DPMSolverMultistepScheduler.from_config(schedule.config, lambda_min_clipped=-5.1)
    solver.set_timesteps(steps, device=noise.device)
    x = noise
    for timestep in solver.timesteps:
        x = solver.step(network(x, timestep.expand(len(x)), conditions), timestep, x).prev_sample
    return network.statistics.restore(x)


class WanPredictiveExpert:
    """Implements the ActionExpert protocol on imaginations of the paper-scale world model."""

    source = Expert.PREDICTIVE

    def __init__(self, preset: WanPreset, network: ActionDiT, visual: VisualTokens, text: TextTokens, *, device: str = "cpu") -> None:
        self.preset, self.device = preset, device
        self.network = network.to(device).eval().requires_grad_(False)
        self._visual, self._text = visual, text
        cell = preset.load_cell()
        self._cameras = tuple(camera.name for camera in cell.cameras)
        self._codec = EulerActions(cell)
        self._schedule = noise_schedule(preset)

    def conditions(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> Conditions:
        """Encode a batch."""
        visual = [self._visual(images_to_tensor(np.stack([o.image(name) for o in observations]))) for name in self._cameras]
        hidden = torch.from_numpy(np.stack([i.hidden for i in imaginations]))  # (B, N, L * D)
        world = hidden.unflatten(2, (self.preset.latent_frames, -1)).transpose(1, 2)
        text = self._text.encode([o.instruction for o in observations])
        return Conditions(torch.stack(visual, 1).to(self.device), text.float().to(self.device), world.to(self.device))

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> list[ActionChunk]:
        """One chunk a pair; see the protocol."""
        generators = [torch.Generator().manual_seed(o.stamp_ns % (1 << 62)) for o in observations]
        noise = torch.stack([torch.randn(self.preset.horizon, self.network.actions, generator=g) for g in generators]).to(self.device)
        conditions = self.conditions(observations, imaginations)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.device.startswith("cuda")):
            numbers = sample_actions(self.network, self._schedule, noise, conditions, self.preset.predictive.denoising_steps)
        return [
            ActionChunk(o.stamp_ns, i.imagination_id, self.source, i.frame_period_s, self._codec.arms, *self._codec.decode(chunk))
            for o, i, chunk in zip(observations, imaginations, numbers.float().cpu().numpy(), strict=True)
        ]


def load_wan_predictive_expert(
    preset: WanPreset, *, device: str = "cpu", backend: str = "torch", weights: Path | None = None
) -> WanPredictiveExpert:
    """SigLIP and T5 from ``weights`` or the hub, the action transformer from ``weights``/predictive_expert.safetensors."""
    require_torch("predictive expert", backend)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    weights = weights or preset.weights_dir()
    visual = VisualTokens.siglip(preset.sources.siglip, weights, device, dtype)
    text = TextTokens.load(preset.sources.wan, weights, preset.video.text_tokens, device, dtype)
    network = ActionDiT(preset, EulerActions(preset.load_cell()).size, condition_sizes(preset, visual.dim, text.dim))
    load_checkpoint(weights / PREDICTIVE_FILE, network, preset)
    return WanPredictiveExpert(preset, network, visual, text, device=device)


def condition_sizes(preset: WanPreset, visual_dim: int, text_dim: int) -> ConditionSizes:
    """Sizes of the conditions for the cameras of the preset's cell."""
    return ConditionSizes(len(preset.load_cell().cameras), preset.latent_frames, visual_dim, text_dim, preset.video.hidden_dim)
