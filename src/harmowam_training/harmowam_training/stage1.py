"""First stage: the world model. Autoencoder, then grounding, then the transformer by conditional flow matching."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from harmowam_core.checkpoints import load_checkpoint, save_checkpoint
from harmowam_core.hands import hand_vector
from harmowam_core.instructions import InstructionEncoder
from harmowam_core.presets import CompactPreset
from harmowam_core.scene_view import SceneView
from harmowam_training.config import StageConfig, WorldModelConfig
from harmowam_training.dataset import Corpus
from harmowam_training.hindsight import grounding_labels
from harmowam_training.kept_parts import kept_parts, weights_key
from harmowam_training.loop import Draws, Loop, made_from
from harmowam_training.parallel import rank, world_size
from harmowam_world_model.autoencoder import Autoencoder, autoencoder_loss
from harmowam_world_model.compact import WorldModelNetworks, frames_to_tensor
from harmowam_world_model.grounding import Grounding, GroundingOutput, grounding_loss, read_heat_maps
from harmowam_world_model.transformer import Conditions, flow_matching_loss, goal_channels, sample_residual

CHUNK = 64
FINETUNE_TASK_SHARE = 0.3  # of a batch; the rest stays play, or what is learnt narrows to the demonstrated region
GROUNDING_JITTER_PX = 0.4
GROUNDING_JITTER_M = 0.006
GROUNDING_PLAY_SHARE = 0.6  # of a batch: in the demonstrations, what stands where gives away which is the target
SHIFT = 0.2


def bf16() -> torch.autocast:
    """Mixed precision on the CPU, if this one is faster at it."""
    return torch.autocast("cpu", torch.bfloat16, enabled=_bf16_is_faster())


@lru_cache(maxsize=1)
def _bf16_is_faster() -> bool:
    """Measured: twice as fast with AMX, and slower by half on some processors that have AVX-512's bfloat16 alone."""

    def seconds(kind: torch.dtype) -> float:
        matrix = torch.ones(512, 512, dtype=kind)
        took = []
        for _ in range(8):
            begun = time.perf_counter()
            matrix @ matrix
            took.append(time.perf_counter() - begun)
        return min(took)

    return seconds(torch.bfloat16) < seconds(torch.float32)


def _save(path: Path, module: nn.Module, preset: CompactPreset) -> None:
    if rank() == 0:
        save_checkpoint(path, module, preset)


def instruction_table(encoder: InstructionEncoder, corpus: Corpus) -> Tensor:
    """Embeddings of the corpus' instructions, one a rollout: (R, L + 1, D)."""
    return torch.cat([encoder.encode(list(corpus.instructions[i : i + 64])) for i in range(0, len(corpus.instructions), 64)])


def photometric(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, colour balance and a little noise; (B, 3, H, W) in [0, 1]."""
    batch = len(images)

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.rand(batch, channels, 1, 1, generator=generator) * (high - low) + low

    gamma = torch.exp(uniform(-0.25, 0.25))
    balanced = images.clamp(1e-3, 1) ** gamma * uniform(0.8, 1.2) * uniform(0.93, 1.07, 3) + uniform(-0.06, 0.06)
    return (balanced + 0.01 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def recolour(images: Tensor, generator: torch.Generator) -> Tensor:
    """One random change of all colours for (B, 3, H, W) in [0, 1]: hue turned, channels scaled, gamma. Shapes and shadows stay.

    For what must not depend on colours; captions that name one no longer hold.
    """
    angle, gamma = torch.rand((), generator=generator) * 2 * torch.pi, torch.exp(torch.rand((), generator=generator) * 0.6 - 0.3)
    gain = torch.rand(3, generator=generator) * 0.5 + 0.65
    third, around = torch.full((3, 3), 1 / 3), torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    turn = gain[:, None] * (angle.cos() * torch.eye(3) + (1 - angle.cos()) * third + angle.sin() * around)
    return torch.einsum("ij,bjhw->bihw", turn, images.clamp(1e-3, 1) ** gamma).clamp(0, 1)


def rearranged(images: Tensor, pixels: Tensor, known: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W) mirrored (half of them) and moved by up to SHIFT of their size, pixels (B, P, 2) with them; a point that leaves the
    image is known (B, P) no more.

    Demonstrations always bring things the same way round, from one place to one other; here only the words tell the target from the goal.
    """
    batch, _, rows, columns = images.shape
    size = torch.tensor([columns, rows])
    flip = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    shift = (torch.rand(batch, 2, generator=generator) * 2 - 1) * SHIFT * 2  # in half images, as affine_grid counts
    flipped = torch.stack([flip, torch.ones(batch)], -1)
    theta = torch.cat([torch.diag_embed(flipped), (flipped * shift)[..., None]], -1)
    moved = F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), padding_mode="border", align_corners=False)
    centred = pixels / (size / 2) - 1
    where = ((centred * flipped[:, None] - shift[:, None]) + 1) * (size / 2)
    return moved, where, known & (where >= 0).all(-1) & (where < size).all(-1)


def backgrounds(corpus: Corpus) -> NDArray[np.uint8]:
    """The median image of each rollout (R, H, W, 3): what does not move."""
    return np.stack([np.median(corpus.scene[first : last + 1 : 8], 0).astype(np.uint8) for first, last in corpus.bounds()])


def train_autoencoder(preset: CompactPreset, config: StageConfig, corpus: Corpus, folder: Path, seed: int) -> Autoencoder:
    """Reconstruct frames, moving pixels counting seven times."""
    torch.manual_seed(seed)
    batch_size = config.batch // world_size()
    model = Autoencoder(preset.autoencoder).to(memory_format=torch.channels_last)
    still = backgrounds(corpus)
    loop = Loop("autoencoder", folder, model, config, seed, made_from(preset, corpus))

    def loss(draws: Draws) -> tuple[Tensor, dict[str, float]]:
        picked = draws.rng.integers(0, len(corpus), batch_size)
        frames = frames_to_tensor(corpus.scene[picked])
        moving = (frames - frames_to_tensor(still[corpus.rollout[picked]])).abs().amax(1, keepdim=True) > 12 / 255
        frames = torch.cat([recolour(frames[i : i + 1], draws.generator) if i % 3 == 0 else frames[i : i + 1] for i in range(batch_size)])
        with bf16():
            value, squared = autoencoder_loss(model, frames, 1 + 6 * moving.float())
        return value, {"psnr_db": -10 * torch.log10(squared).item()}

    loop.run(loss)
    _save(folder / "autoencoder.safetensors", model, preset)
    return model


def train_grounding(preset: CompactPreset, config: StageConfig, corpus: Corpus, validation: Corpus, folder: Path, seed: int) -> Grounding:
    """Learn target and goal from hindsight labels."""
    torch.manual_seed(seed)
    encoder = InstructionEncoder(preset.instruction_encoder)
    view = SceneView(preset.load_cell().camera("scene"), preset.scene_size)
    model = Grounding(preset.grounding, preset.instruction_encoder.dim).to(memory_format=torch.channels_last)
    loop = Loop("grounding", folder, model, config, seed, made_from(preset, corpus))
    sets = []
    for part in (corpus, validation):
        labels = grounding_labels(part)
        usable, play = np.flatnonzero(labels.known.any(1)), part.frames_of_kind({"play"})
        sets.append((part, instruction_table(encoder, part), labels, labels.pixels(view), np.intersect1d(usable, play), usable))

    def batch(which: int, size: int, draws: Draws, augment: bool) -> tuple[GroundingOutput, Tensor, Tensor, Tensor]:
        part, text, labels, pixels, play, usable = sets[which]
        from_play = int(draws.rng.binomial(size, GROUNDING_PLAY_SHARE)) if augment else 0
        picked = np.concatenate([draws.rng.choice(play, from_play), draws.rng.choice(usable, size - from_play)])
        images, where, known = (
            frames_to_tensor(part.scene[picked]),
            torch.from_numpy(pixels[picked]),
            torch.from_numpy(labels.known[picked]),
        )
        if augment:
            images, where, known = rearranged(photometric(images, draws.generator), where, known, draws.generator)
        with bf16():
            output = model(images, text[part.rollout[picked]])
        output = GroundingOutput(output.logits.float(), output.height_m.float())
        return output, where, torch.from_numpy(labels.points[picked, :, 2]), known

    def loss(draws: Draws) -> tuple[Tensor, dict[str, float]]:
        return grounding_loss(*batch(0, config.batch // world_size(), draws, True)), {}

    def validate() -> dict[str, float]:
        output, pixels, heights, known = batch(1, 512, Draws.of(0), False)
        found, _ = read_heat_maps(output.logits)
        error = (found - pixels).norm(dim=-1)
        height = (output.height_m - heights).abs()
        figures = {}
        for p, name in enumerate(("target", "goal")):
            figures[f"{name}_px"] = float(error[:, p][known[:, p]].median())
            figures[f"{name}_px_p90"] = float(error[:, p][known[:, p]].quantile(0.9))
            figures[f"{name}_height_mm"] = float(height[:, p][known[:, p]].median() * 1000)
        return figures

    loop.run(loss, validate)
    _save(folder / "grounding.safetensors", model, preset)
    return model


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus as the transformer sees it: latents (V, N, C, h, w) half precision, goal pixels (N, 2, 2), confidence (N, 2), grounded
    points (N, 2, 3) m, text (R, D). The first view is as recorded; in the second each rollout has other colours."""

    latents: Tensor
    pixels: Tensor
    confidence: Tensor
    points: NDArray[np.float32]
    text: Tensor

    def random_views(self, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(count,) which view to take."""
        return rng.integers(0, len(self.latents), count)


def encode_corpus(
    networks: WorldModelNetworks,
    encoder: InstructionEncoder,
    corpus: Corpus,
    preset: CompactPreset,
    folder: Path,
    name: str,
    views: int = 1,
) -> EncodedCorpus:
    """Autoencoder and grounding over all frames; both are kept in ``folder`` under ``name``."""
    networks.eval()
    text = instruction_table(encoder, corpus)
    seen = corpus.digest()
    latents = kept_parts(
        folder / f"latents_{name}",
        weights_key(networks.autoencoder, seen, f"{views} views"),
        len(corpus),
        lambda frames: _encode(networks.autoencoder, corpus, frames, views),
    )["latents"]
    readings = kept_parts(
        folder / f"readings_{name}",
        weights_key(networks.grounding, seen),
        len(corpus),
        lambda frames: _read(networks.grounding, text, corpus, frames),
    )
    view = SceneView(preset.load_cell().camera("scene"), preset.scene_size)
    pixels = readings["pixels"]
    points = view.unproject(pixels.numpy(), readings["heights_m"].numpy()).astype(np.float32)
    prefer_labels(corpus, view, pixels, points)
    return EncodedCorpus(latents.transpose(0, 1), pixels, readings["confidence"], points, text[:, 0].clone())


def prefer_labels(corpus: Corpus, view: SceneView, pixels: Tensor, points: NDArray[np.float32]) -> None:
    """Where hindsight knows target and goal, take it rather than the network's reading; training adds the reading's scatter.

    Under a hand, the reading follows the hand: who learnt from it would not correct a hand that is a little off.
    """
    labels = grounding_labels(corpus)
    known = labels.known
    points[known] = labels.points[known]
    pixels[torch.from_numpy(known)] = torch.from_numpy(labels.pixels(view)[known])


@torch.inference_mode()
def _encode(autoencoder: Autoencoder, corpus: Corpus, frames: NDArray[np.int64], views: int) -> dict[str, Tensor]:
    """latents (n, V, C, h, w), half precision."""
    latents = []
    for first, last in track(_pieces(corpus, frames), description="encoding", disable=rank() > 0):
        images = frames_to_tensor(corpus.scene[first : last + 1])
        generator = torch.Generator().manual_seed(int(corpus.rollout[first]))  # the whole rollout changes in the same way
        seen = [images] + [recolour(images, generator) for _ in range(views - 1)]
        with bf16():
            encoded = [autoencoder.encode(view).half() for view in seen]
        latents.append(torch.stack(encoded, 1))
    return {"latents": torch.cat(latents)}


@torch.inference_mode()
def _read(grounding: Grounding, text: Tensor, corpus: Corpus, frames: NDArray[np.int64]) -> dict[str, Tensor]:
    """pixels (n, 2, 2), heights_m (n, 2) and confidence (n, 2)."""
    rows: dict[str, list[Tensor]] = {"pixels": [], "heights_m": [], "confidence": []}
    for first, last in track(_pieces(corpus, frames), description="grounding", disable=rank() > 0):
        images = frames_to_tensor(corpus.scene[first : last + 1])
        with bf16():
            output = grounding(images, text[int(corpus.rollout[first])].expand(len(images), -1, -1))
        found, sure = read_heat_maps(output.logits.float())
        rows["pixels"].append(found)
        rows["confidence"].append(sure)
        rows["heights_m"].append(output.height_m.float())
    return {name: torch.cat(values) for name, values in rows.items()}


def _pieces(corpus: Corpus, frames: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Consecutive frames cut into (first, last) of at most CHUNK, none across rollouts."""
    cuts = np.flatnonzero(np.diff(corpus.rollout[frames])) + 1
    bounds = np.concatenate([[0], cuts, [len(frames)]])
    return [
        (int(frames[start]), int(frames[min(start + CHUNK, end) - 1]))
        for begin, end in zip(bounds[:-1], bounds[1:], strict=True)
        for start in range(int(begin), int(end), CHUNK)
    ]


def conditions_at(
    encoded: EncodedCorpus,
    corpus: Corpus,
    frames: NDArray[np.int64],
    preset: CompactPreset,
    views: NDArray[np.int64] | int = 0,
    jitter: np.random.Generator | None = None,
) -> Conditions:
    """The transformer's conditions at some frames; ``jitter`` moves the grounded pixels and points as its errors do."""
    pixels, points = encoded.pixels[frames], encoded.points[frames]
    if jitter is not None:
        pixels = pixels + torch.from_numpy(jitter.normal(0, GROUNDING_JITTER_PX, pixels.shape).astype(np.float32))
        points = points + jitter.normal(0, GROUNDING_JITTER_M, points.shape).astype(np.float32)
    goals = goal_channels(pixels, preset.grid, preset.scene_size)
    hands = hand_vector(corpus.position[frames], corpus.orientation[frames], corpus.opening[frames], points)
    return Conditions(encoded.latents[views, frames].float(), goals, encoded.text[corpus.rollout[frames]], torch.from_numpy(hands))


def windows(encoded: EncodedCorpus, corpus: Corpus, frames: NDArray[np.int64], steps: int, views: NDArray[np.int64] | int = 0) -> Tensor:
    """Latents of the current and the next frames (n, steps + 1, C, h, w)."""
    rows = np.concatenate([frames[:, None], corpus.later(frames, steps)], 1)
    return encoded.latents[views if isinstance(views, int) else views[:, None], rows].float()


def train_transformer(
    preset: CompactPreset,
    config: WorldModelConfig,
    networks: WorldModelNetworks,
    corpus: Corpus,
    validation: Corpus,
    folder: Path,
    seed: int,
) -> None:
    """Pretrain on everything, then show the demonstrations more often; autoencoder and grounding stay as they are."""
    steps = preset.frames - 1
    batch = config.batch // world_size()
    encoder = InstructionEncoder(preset.instruction_encoder)
    encoded = encode_corpus(networks, encoder, corpus, preset, folder, "training", views=2)
    held_out = encode_corpus(networks, encoder, validation, preset, folder, "validation")
    probe = np.random.default_rng(seed).integers(0, len(corpus), 2048)
    difference = windows(encoded, corpus, probe, steps)
    networks.residual_scale.copy_(0.5 / (difference[:, 1:] - difference[:, :1]).square().mean((0, 2, 3, 4)).sqrt())

    whole = np.flatnonzero(corpus.unmasked_ahead(np.arange(len(corpus)), steps).all(1))
    task = np.intersect1d(whole, corpus.frames_of_kind({k for k in corpus.kinds if k != "play"}))
    whole_held_out = np.flatnonzero(validation.unmasked_ahead(np.arange(len(validation)), steps).all(1))
    transformer = networks.transformer
    loop = Loop(
        "world_model", folder, transformer, config, seed, made_from(preset, corpus, networks.autoencoder, networks.grounding),
        muon=lambda name: name.startswith("blocks.") and "modulation" not in name,
    )  # fmt: skip
    finetune_from = config.steps * (1 - config.finetune_share)

    def loss(draws: Draws) -> tuple[Tensor, dict[str, float]]:
        share = FINETUNE_TASK_SHARE if draws.step >= finetune_from else len(task) / len(whole)
        count = int(draws.rng.binomial(batch, share))
        picked = np.concatenate([draws.rng.choice(task, count), draws.rng.choice(whole, batch - count)])
        views = encoded.random_views(batch, draws.rng)
        residual = networks.residual(windows(encoded, corpus, picked, steps, views))
        with bf16():
            return flow_matching_loss(transformer, residual, conditions_at(encoded, corpus, picked, preset, views, draws.rng)), {}

    def validate() -> dict[str, float]:
        picked = np.random.default_rng(0).choice(whole_held_out, 96)
        residual = networks.residual(windows(held_out, validation, picked, steps))
        noise = torch.randn(residual.shape, generator=torch.Generator().manual_seed(0))
        with bf16():
            imagined, _ = sample_residual(transformer, noise, conditions_at(held_out, validation, picked, preset), preset.denoising_steps)
        error = (imagined.float() - residual).square().unflatten(1, (steps, -1)).mean((0, 2, 3, 4))
        still = residual.square().unflatten(1, (steps, -1)).mean((0, 2, 3, 4))
        return {"unexplained": float(error.mean() / still.mean()), "unexplained_at_horizon": float(error[-1] / still[-1])}

    loop.run(loss, validate)


def train_world_model(
    preset: CompactPreset, config: WorldModelConfig, corpus: Corpus, validation: Corpus, folder: Path, seed: int
) -> WorldModelNetworks:
    """The transformer on top of the trained autoencoder and grounding; writes world_model.safetensors."""
    torch.manual_seed(seed)
    networks = WorldModelNetworks(preset)
    parts: dict[str, nn.Module] = {"autoencoder": networks.autoencoder, "grounding": networks.grounding}
    for name, module in parts.items():
        load_checkpoint(folder / f"{name}.safetensors", module, preset)
    networks.requires_grad_(False)
    networks.transformer.requires_grad_(True)
    train_transformer(preset, config, networks, corpus, validation, folder, seed)
    _save(folder / "world_model.safetensors", networks, preset)
    return networks
