"""Second stage: both experts and the gate, jointly (paper: L = L_predictive + 0.1 L_reactive + 0.05 L_gate); the world model is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn

from harmowam_core.checkpoints import save_checkpoint
from harmowam_core.hands import WORKSPACE_CENTRE, hand_vector
from harmowam_core.instructions import InstructionEncoder
from harmowam_core.presets import CompactPreset
from harmowam_core.scene_view import SceneView
from harmowam_experts import PREDICTIVE_FILE, REACTIVE_FILE
from harmowam_experts.poses import decode_deltas, encode_deltas, rotation_6d
from harmowam_experts.predictive import PredictiveInputs, PredictiveNetwork, hand_coordinates, predictive_loss, state_vector
from harmowam_experts.reactive import POSITION_SCALE, ReactiveNetwork, reactive_loss
from harmowam_gate.gate_network import GATE_FILE, GateNetwork
from harmowam_gate.labels import gripper_events, interaction_labels
from harmowam_training.config import ExpertsConfig, FeaturesConfig, StageConfig
from harmowam_training.dataset import Corpus
from harmowam_training.kept_parts import kept_parts, weights_key
from harmowam_training.loop import Draws, Loop, made_from
from harmowam_training.parallel import rank, world_size
from harmowam_training.stage1 import (
    GROUNDING_JITTER_M,
    EncodedCorpus,
    bf16,
    conditions_at,
    encode_corpus,
    photometric,
    recolour,
)
from harmowam_world_model.compact import WorldModelNetworks
from harmowam_world_model.transformer import sample_residual

IMAGINE_BATCH = 64
EVENT_WEIGHT = 2.5  # frames near a grasp or release decide the task
EVENT_WINDOW = 8
MOST_OVERLAY = 0.5
POINT_JITTER_M = 0.002
"""Scatter of the points the predictive expert is told while it learns. Less than the grounding's own: a demonstrator is
hardly ever more than 4 mm beside its way when it grasps or releases, so what an expert is told with 6 mm of scatter it takes for scatter,
and one that has drifted 15 mm no longer corrects it."""


@dataclass(frozen=True)
class Features:
    """What the frozen world model says of some frames n of a corpus.

    frames (n,) in their views (n,) of the corpus; imagined (n, 12, 80, C) and hidden (n, 80, D), half precision; points (n, 2, 3) m;
    confidence (n, 2).
    """

    frames: NDArray[np.int64]
    views: NDArray[np.int64]
    imagined: Tensor
    hidden: Tensor
    points: NDArray[np.float32]
    confidence: NDArray[np.float32]


def compute_features(
    networks: WorldModelNetworks, encoded: EncodedCorpus, corpus: Corpus, frames: NDArray[np.int64], preset: CompactPreset, path: Path
) -> Features:
    """Imagine from each frame, in a random view; kept beside ``path``."""
    views = encoded.random_views(len(frames), np.random.default_rng(0))

    def imagine(rows: NDArray[np.int64]) -> dict[str, Tensor]:
        return _imagine(networks, encoded, corpus, frames[rows], views[rows], preset)

    seen = (frames.tobytes(), encoded.points[frames].tobytes(), encoded.latents[0, ::101].numpy().tobytes())
    kept = kept_parts(path, weights_key(networks.transformer, *seen), len(frames), imagine)
    return Features(
        frames, views, kept["imagined"], kept["hidden"], encoded.points[frames], encoded.confidence[frames].clamp(max=1).numpy()
    )


@torch.inference_mode()
def _imagine(
    networks: WorldModelNetworks,
    encoded: EncodedCorpus,
    corpus: Corpus,
    frames: NDArray[np.int64],
    views: NDArray[np.int64],
    preset: CompactPreset,
) -> dict[str, Tensor]:
    """imagined (n, 12, 80, C) and hidden (n, 80, D), half precision."""
    generator = torch.Generator().manual_seed(rank())
    imagined, hidden = [], []
    starts = range(0, len(frames), IMAGINE_BATCH)
    for start in track(starts, description="imagining", disable=rank() > 0):
        picked = frames[start : start + IMAGINE_BATCH]
        conditions = conditions_at(encoded, corpus, picked, preset, views[start : start + IMAGINE_BATCH])
        noise = torch.randn(len(picked), networks.transformer.future, *preset.grid, generator=generator)
        with bf16():
            residual, tokens = sample_residual(networks.transformer, noise, conditions, preset.denoising_steps)
        latents = networks.future(residual.float(), conditions.latent)[:, 1:]
        imagined.append(latents.flatten(3).transpose(2, 3).half())
        hidden.append(tokens.half())
    return {"imagined": torch.cat(imagined), "hidden": torch.cat(hidden)}


def wrist_tensor(corpus: Corpus, frames: NDArray[np.int64]) -> Tensor:
    """(n, A, 3, h, w) in [0, 1]."""
    assert corpus.wrists is not None
    return torch.from_numpy(np.moveaxis(corpus.wrists[frames], -1, 2).copy()).float() / 255


def recoloured_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """Every second of (B, 3, H, W) with other colours."""
    return torch.cat([recolour(image[None], generator) if i % 2 else image[None] for i, image in enumerate(images)])


def overlaid(wrists: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Every third of (n, A, 3, h, w) with another's image shining through: what the expert reads must not depend on what lies around."""
    share = torch.rand(len(wrists), 1, 1, 1, 1, generator=generator) * MOST_OVERLAY
    share[torch.arange(len(wrists)) % 3 > 0] = 0
    return wrists + share * (others - wrists)


def _augment_wrists(wrists: Tensor, generator: torch.Generator) -> Tensor:
    """(n, A, 3, h, w): photometric changes, and other colours for every second row."""
    rows, arms, *_ = wrists.shape
    changed = photometric(wrists.flatten(0, 1), generator).unflatten(0, (rows, arms))
    return torch.stack([recolour(row, generator) if i % 2 else row for i, row in enumerate(changed)])


def gate_labels(corpus: Corpus) -> NDArray[np.bool_]:
    """Automatic labels of every frame (N,)."""
    labels = np.zeros(len(corpus), bool)
    for first, last in corpus.bounds():
        span = slice(first, last + 1)
        labels[span] = interaction_labels(corpus.commanded[span], corpus.position[span])
    return labels


def has_event(corpus: Corpus) -> NDArray[np.bool_]:
    """Frames (N,) of rollouts in which a gripper opens or closes; where one merely reaches, nothing says when it would interact."""
    found = np.zeros(len(corpus), bool)
    for first, last in corpus.bounds():
        found[first : last + 1] = any(
            len(gripper_events(corpus.commanded[first : last + 1, arm])) for arm in range(corpus.commanded.shape[1])
        )
    return found


def near_events(corpus: Corpus) -> NDArray[np.bool_]:
    """Frames close to a gripper event (N,)."""
    near = np.zeros(len(corpus), bool)
    for first, last in corpus.bounds():
        for arm in range(corpus.commanded.shape[1]):
            for event in gripper_events(corpus.commanded[first : last + 1, arm]):
                near[max(first, first + event - EVENT_WINDOW) : min(last, first + event + EVENT_WINDOW) + 1] = True
    return near


class GateBatches:
    """Batches for the gate from one corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.labels = gate_labels(corpus)
        self.frames = np.flatnonzero(~corpus.masked & has_event(corpus))

    def sample(self, size: int, draws: Draws, augment: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Scene, wrists and labels of random frames."""
        frames = draws.rng.choice(self.frames, size)
        scene = torch.from_numpy(np.moveaxis(self.corpus.scene[frames], -1, 1).copy()).float() / 255
        wrists = wrist_tensor(self.corpus, frames)
        if augment:
            scene = recoloured_half(photometric(scene, draws.generator), draws.generator)
            wrists = _augment_wrists(wrists, draws.generator)
        return scene, wrists, torch.from_numpy(self.labels[frames].astype(np.float32))


class ExpertBatches:
    """Batches for the three networks from one corpus and its features."""

    def __init__(self, preset: CompactPreset, corpus: Corpus, encoded: EncodedCorpus, features: Features) -> None:
        self.preset, self.corpus, self.encoded, self.features = preset, corpus, encoded, features
        self.view = SceneView(preset.load_cell().camera("scene"), preset.scene_size)
        kinds = np.array(corpus.kinds)[corpus.rollout]
        self.task_rows = np.flatnonzero((kinds[features.frames] != "play") & ~corpus.masked[features.frames])
        self.play = corpus.frames_of_kind({"play"})
        self.gate = GateBatches(corpus)
        self.weight = np.where(near_events(corpus), EVENT_WEIGHT, 1.0).astype(np.float32)

    def predictive(self, rows: NDArray[np.int64], draws: Draws, augment: bool) -> tuple[PredictiveInputs, Tensor, Tensor]:
        """Inputs, chunk (B, K, 14) and weight (B, K)."""
        corpus, features = self.corpus, self.features
        frames = features.frames[rows]
        position, orientation = corpus.position[frames], corpus.orientation[frames]
        points = features.points[rows]
        wrists = wrist_tensor(corpus, frames)
        if augment:
            points = points + draws.rng.normal(0, POINT_JITTER_M, points.shape).astype(np.float32)
            others = wrist_tensor(corpus, draws.rng.choice(self.play, len(rows)))
            wrists = _augment_wrists(overlaid(wrists, others, draws.generator), draws.generator)
        state = state_vector(position, orientation, corpus.opening[frames], points, features.confidence[rows])
        inputs = PredictiveInputs(
            wrists,
            features.hidden[rows].float(),
            self.encoded.latents[features.views[rows], frames].float().flatten(2).transpose(1, 2),
            torch.from_numpy(hand_coordinates(self.view, position)),
            torch.from_numpy(state),
            self.encoded.text[corpus.rollout[frames]],
        )
        steps = self.preset.horizon
        later = corpus.later(frames, steps)
        command = corpus.commanded[np.maximum(later - 1, frames[:, None])]  # the command during the interval that ends at the target
        chunk = encode_deltas(position, orientation, corpus.position[later], corpus.orientation[later], command)
        weight = corpus.unmasked_ahead(frames, steps) * self.weight[frames][:, None]
        return inputs, torch.from_numpy(chunk), torch.from_numpy(weight.astype(np.float32))

    def reactive(self, rows: NDArray[np.int64], draws: Draws, imagined: bool) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs of the reactive network for one random frame of each row's imagination (or the real one), and the poses there."""
        corpus, preset = self.corpus, self.preset
        frames = self.features.frames[rows]
        index = draws.rng.integers(1 if imagined else 0, preset.frames, len(rows))
        there = np.minimum(frames + index, corpus.last[frames])
        if imagined:
            latents = self.features.imagined[rows, index - 1].float()
        else:
            latents = self.encoded.latents[self.features.views[rows], there].float().flatten(2).transpose(1, 2)
            latents = latents + 0.05 * torch.randn(latents.shape, generator=draws.generator)
        points = self.features.points[rows] + draws.rng.normal(0, GROUNDING_JITTER_M, (len(rows), 2, 3)).astype(np.float32)
        hands = torch.from_numpy(hand_vector(corpus.position[frames], corpus.orientation[frames], corpus.opening[frames], points))
        return (latents, self.features.hidden[rows].float(), hands, torch.from_numpy(index)), torch.from_numpy(poses(corpus, there))


def poses(corpus: Corpus, frames: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the reactive network regresses: (n, A, 10)."""
    position = (corpus.position[frames] - WORKSPACE_CENTRE) / POSITION_SCALE
    return np.concatenate([position, rotation_6d(corpus.orientation[frames]), corpus.commanded[frames][..., None] * 2 - 1], -1).astype(
        np.float32
    )


def expert_batches(
    stage: str,
    preset: CompactPreset,
    config: FeaturesConfig,
    networks: WorldModelNetworks,
    corpus: Corpus,
    validation: Corpus,
    folder: Path,
    seed: int,
) -> list[ExpertBatches]:
    """For training and validation: what the frozen world model says of the recipe's share of frames, kept in ``folder`` for ``stage``."""
    selection = np.random.default_rng(seed)
    networks.eval().requires_grad_(False)
    encoder = InstructionEncoder(preset.instruction_encoder)
    batches = []
    for name, part, play_frames in (("training", corpus, config.play_frames), ("validation", validation, 600)):
        encoded = encode_corpus(networks, encoder, part, preset, folder, name, views=2 if part is corpus else 1)
        play = part.frames_of_kind({"play"})
        task = np.setdiff1d(np.arange(len(part)), play)[:: config.task_stride]
        frames = np.sort(np.concatenate([selection.choice(play, min(play_frames, len(play)), replace=False), task]))
        features = compute_features(networks, encoded, part, frames, preset, folder / f"{stage}_features_{name}")
        batches.append(ExpertBatches(preset, part, encoded, features))
    return batches


def train_experts(
    preset: CompactPreset,
    config: ExpertsConfig,
    networks: WorldModelNetworks,
    corpus: Corpus,
    validation: Corpus,
    folder: Path,
    seed: int,
) -> None:
    """Writes the experts' and the gate's weights."""
    torch.manual_seed(seed)
    training, held_out = expert_batches("experts", preset, config, networks, corpus, validation, folder, seed)
    predictive, reactive, gate = PredictiveNetwork(preset), ReactiveNetwork(preset), GateNetwork(preset)
    everything = nn.ModuleDict({"predictive": predictive, "reactive": reactive, "gate": gate})
    loop = Loop("experts", folder, everything, config, seed, made_from(preset, corpus, networks))
    weights, size = config.loss_weights, config.batch // world_size()

    def loss(draws: Draws) -> tuple[Tensor, dict[str, float]]:
        inputs, chunk, weight = training.predictive(draws.rng.choice(training.task_rows, size), draws, augment=True)
        with bf16():
            of_predictive = predictive_loss(predictive, inputs, chunk, weight)
        of_reactive = reactive_step(reactive, training, size, draws)
        scene, wrists, label = training.gate.sample(size, draws, augment=True)
        with bf16():
            of_gate = F.binary_cross_entropy_with_logits(gate(scene, wrists).float(), label)
        total = weights.predictive * of_predictive + weights.reactive * of_reactive + weights.gate * of_gate
        return total, {"predictive": of_predictive.item(), "reactive": of_reactive.item(), "gate": of_gate.item()}

    def validate() -> dict[str, float]:
        return validation_figures(preset, held_out, predictive, reactive, gate)

    loop.run(loss, validate)
    if rank():
        return
    for name, module in ((PREDICTIVE_FILE, predictive), (REACTIVE_FILE, reactive), (GATE_FILE, gate)):
        save_checkpoint(folder / name, module, preset)


def reactive_step(network: ReactiveNetwork, batches: ExpertBatches, size: int, draws: Draws) -> Tensor:
    """Its loss on a batch of real frames and one of imagined ones."""
    total = torch.zeros(())
    for imagined in (False, True):
        read, wanted = batches.reactive(draws.rng.integers(0, len(batches.features.frames), size), draws, imagined)
        with bf16():
            total = total + 0.5 * reactive_loss(network(*read), wanted, torch.ones(len(wanted)))
    return total


def train_reactive(
    preset: CompactPreset,
    config: FeaturesConfig,
    networks: WorldModelNetworks,
    corpus: Corpus,
    validation: Corpus,
    folder: Path,
    seed: int,
) -> None:
    """The reactive expert alone, on more play: it shares no weights with the others, and learns from any motion at all."""
    torch.manual_seed(seed)
    training, held_out = expert_batches("reactive", preset, config, networks, corpus, validation, folder, seed)
    reactive = ReactiveNetwork(preset)
    loop = Loop("reactive", folder, reactive, config, seed, made_from(preset, corpus, networks))

    def loss(draws: Draws) -> tuple[Tensor, dict[str, float]]:
        return reactive_step(reactive, training, config.batch // world_size(), draws), {}

    loop.run(loss, lambda: reactive_figures(reactive, held_out, Draws.of(0)))
    if rank() == 0:
        save_checkpoint(folder / REACTIVE_FILE, reactive, preset)


def train_gate(preset: CompactPreset, config: StageConfig, corpus: Corpus, validation: Corpus, folder: Path, seed: int) -> None:
    """The gate alone, from the automatic labels: it shares no weights with the experts, so new labels need no new experts."""
    torch.manual_seed(seed)
    gate, size = GateNetwork(preset), config.batch // world_size()
    training, held_out = (GateBatches(part) for part in (corpus, validation))
    loop = Loop("gate", folder, gate, config, seed, made_from(preset, corpus))

    def loss(draws: Draws) -> tuple[Tensor, dict[str, float]]:
        scene, wrists, label = training.sample(size, draws, augment=True)
        with bf16():
            return F.binary_cross_entropy_with_logits(gate(scene, wrists).float(), label), {}

    def validate() -> dict[str, float]:
        scene, wrists, label = held_out.sample(1024, Draws.of(0), augment=False)
        with bf16():
            return {"gate_accuracy": float(((gate(scene, wrists) > 0) == (label > 0.5)).float().mean())}

    loop.run(loss, validate)
    if rank() == 0:
        save_checkpoint(folder / GATE_FILE, gate, preset)


def validation_figures(
    preset: CompactPreset, batches: ExpertBatches, predictive: PredictiveNetwork, reactive: ReactiveNetwork, gate: GateNetwork
) -> dict[str, float]:
    """Open-loop figures on held-out rollouts: chunk and pose errors of the working arm (median, cm) and gate accuracy."""
    draws = Draws.of(0)
    rows = draws.rng.choice(batches.task_rows, 256)
    inputs, chunk, weight = batches.predictive(rows, draws, augment=False)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(chunk.shape, generator=generator) * preset.predictive.start_noise
    with bf16():
        sampled = predictive.sample(inputs, noise, preset.predictive.denoising_steps).float().numpy()
    frames = batches.features.frames[rows]
    pose = (batches.corpus.position[frames], batches.corpus.orientation[frames])
    error = np.linalg.norm(decode_deltas(*pose, sampled)[0][..., 0, :] - decode_deltas(*pose, chunk.numpy())[0][..., 0, :], axis=-1)
    figures = {
        "predictive_cm": float(np.median(error[:, 5][weight[:, 5] > 0]) * 100),
        "predictive_horizon_cm": float(np.median(error[:, -1][weight[:, -1] > 0]) * 100),
        "gripper_wrong": float(((sampled[..., 6] > 0) != (chunk.numpy()[..., 6] > 0)).mean()),
    }
    figures |= reactive_figures(reactive, batches, draws)
    scene, wrists, label = batches.gate.sample(768, draws, augment=False)
    with bf16():
        figures["gate_accuracy"] = float(((gate(scene, wrists) > 0) == (label > 0.5)).float().mean())
    return figures


def reactive_figures(network: ReactiveNetwork, batches: ExpertBatches, draws: Draws) -> dict[str, float]:
    """Errors of the working arm's pose read from real and from imagined frames (median, cm), and from imagined ones at the horizon."""
    figures = {}
    for imagined in (False, True):
        read, wanted = batches.reactive(draws.rng.integers(0, len(batches.features.frames), 2048), draws, imagined)
        with bf16():
            difference = (network(*read).float() - wanted)[:, 0, :3].norm(dim=-1) * POSITION_SCALE
        figures["reactive_imagined_cm" if imagined else "reactive_real_cm"] = float(difference.median() * 100)
    figures["reactive_horizon_cm"] = float(difference[read[-1] >= batches.preset.horizon].median() * 100)
    return figures
