"""The models on recorded observations: step-clocked, in batches, both experts at every step."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from harmowam_bringup.bags.rows import Row
from harmowam_core.stages import ActionChunk, Expert, Imagination, Observation, Phase
from harmowam_experts import load_predictive_expert, load_reactive_expert
from harmowam_experts.protocol import ActionExpert
from harmowam_gate.gate_network import Gate, load_gate
from harmowam_gate.gate_state import GateState
from harmowam_gate.settings import ArbiterSettings
from harmowam_world_model import load_world_model
from harmowam_world_model.protocol import GroundingMemory, WorldModel

BATCH = 8


@dataclass(frozen=True)
class Step:
    """One step: the row it is about, what was imagined, what both experts and the gate made of it, and whose chunk would be followed."""

    row: int
    imagination: Imagination
    chunks: dict[Expert, ActionChunk]
    score: float
    phase: Phase
    timings_s: dict[str, float]

    @property
    def expert(self) -> Expert:
        """The gated choice."""
        return Expert.REACTIVE if self.phase is Phase.TRANSIT else Expert.PREDICTIVE


@dataclass(frozen=True)
class Stack:
    """World model, experts and gate of one set of weights."""

    world_model: WorldModel
    experts: dict[Expert, ActionExpert]
    gate: Gate
    settings: ArbiterSettings

    @staticmethod
    def load(preset: str, weights: Path | None, threads: int) -> Stack:
        """Ready models in PyTorch; errors as of the models' own loading."""
        torch.set_num_threads(threads)
        experts = {
            Expert.PREDICTIVE: load_predictive_expert(preset, weights=weights),
            Expert.REACTIVE: load_reactive_expert(preset, weights=weights),
        }
        return Stack(load_world_model(preset, weights=weights), experts, load_gate(preset, weights=weights), ArbiterSettings())

    def run(self, rows: Sequence[Row], stride: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Iterator[Step]:
        """A step every ``stride`` rows in which a task is given; memory and gate begin anew with each task.

        progress: told how many steps are done. Results depend on rows, weights, seed and the number of threads alone.
        """
        steps = [number for number, row in enumerate(rows) if row.task_id][::stride]
        memories: defaultdict[int, GroundingMemory] = defaultdict(GroundingMemory)
        gates: defaultdict[int, GateState] = defaultdict(self._gate_state)
        for start in range(0, len(steps), BATCH):
            batch = [(number, rows[number].task_id, rows[number].observation) for number in steps[start : start + BATCH]]
            made = self._batch([seen for _, _, seen in batch], [memories[task] for _, task, _ in batch], seed)
            for k, (number, task, seen) in enumerate(batch):
                phase = gates[task].update(made.scores[k], seen.stamp_ns)
                chunks = {expert: listed[k] for expert, listed in made.chunks.items()}
                yield Step(number, made.imaginations[k], chunks, made.scores[k], phase, made.timings_s)
            progress(len(batch))

    def _gate_state(self) -> GateState:
        return GateState(self.settings.gate_threshold, self.settings.gate_hysteresis, self.settings.gate_dwell_s)

    def _batch(self, observations: list[Observation], memories: list[GroundingMemory], seed: int) -> _Made:
        times = [time.perf_counter()]
        imaginations = self.world_model.imagine(observations, memories, seed)
        times.append(time.perf_counter())
        chunks = {}
        for expert, model in self.experts.items():
            chunks[expert] = model.act(observations, imaginations)
            times.append(time.perf_counter())
        scores = self.gate.score(observations)
        times.append(time.perf_counter())
        names = ("imagination", *(expert.value for expert in self.experts), "gate")
        return _Made(imaginations, chunks, scores, dict(zip(names, np.diff(times) / len(observations), strict=True)))


@dataclass(frozen=True)
class _Made:
    imaginations: list[Imagination]
    chunks: dict[Expert, list[ActionChunk]]
    scores: list[float]
    timings_s: dict[str, float]


class Digest:
    """SHA-256 over all that the steps say, bit by bit."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, step: Step) -> None:
        """One more step."""
        imagination = step.imagination
        arrays = [imagination.frames, imagination.latents, imagination.hidden, np.float64(step.score)]
        arrays += [array for chunk in step.chunks.values() for array in (chunk.positions, chunk.orientations, chunk.grippers)]
        self._sum.update(f"{imagination.stamp_ns} {step.phase.value}".encode())
        for array in arrays:
            self._sum.update(np.ascontiguousarray(array).tobytes())

    def hex(self) -> str:
        """64 characters."""
        return self._sum.hexdigest()
