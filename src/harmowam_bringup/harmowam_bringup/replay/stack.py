"""The models on recorded observations: step-clocked, in batches, both experts at every step."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition

import numpy as np
import torch

from harmowam_bringup.replay.recorded import Recorded
from harmowam_core.backends import Backend
from harmowam_core.stages import ActionChunk, Expert, Imagination, Observation, Phase
from harmowam_experts import load_predictive_expert, load_reactive_expert
from harmowam_experts.protocol import ActionExpert
from harmowam_gate.gate_network import Gate, load_gate
from harmowam_gate.gate_state import GateState
from harmowam_gate.settings import ArbiterSettings
from harmowam_world_model import load_world_model
from harmowam_world_model.protocol import GroundingMemory, WorldModel

BATCH = 8
BACKEND: Backend = "torch_bf16"  # takes batches, in the precision of training


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
    def load(preset: str, weights: Path | None) -> Stack:
        """Ready models in PyTorch; errors as of the models' own loading."""
        experts = {
            Expert.PREDICTIVE: load_predictive_expert(preset, backend=BACKEND, weights=weights),
            Expert.REACTIVE: load_reactive_expert(preset, backend=BACKEND, weights=weights),
        }
        return Stack(
            load_world_model(preset, backend=BACKEND, weights=weights), experts, load_gate(preset, weights=weights), ArbiterSettings()
        )

    def run(self, recorded: Recorded, stride: int, seed: int, threads: int) -> Iterator[Step]:
        """A step every ``stride`` rows in which a task is given; memory and gate begin anew with each task.

        Batches are worked on side by side, each by one thread; results depend on the recording, weights, stride and seed alone.
        """
        steps = np.flatnonzero(recorded.tasks)[::stride].tolist()
        batches = [
            [(row, int(recorded.tasks[row]), recorded.observations[row]) for row in steps[k : k + BATCH]]
            for k in range(0, len(steps), BATCH)
        ]
        memories: defaultdict[int, GroundingMemory] = defaultdict(GroundingMemory)
        gates: defaultdict[int, GateState] = defaultdict(self._gate_state)
        turns = _Turns()
        with ThreadPoolExecutor(threads, "stack", torch.set_num_threads, (1,)) as pool:
            waiting: deque[Future[_Made]] = deque()
            for ahead in range(len(batches) + threads):
                if ahead < len(batches):
                    seen = [observation for _, _, observation in batches[ahead]]
                    waiting.append(pool.submit(self._batch, seen, [memories[task] for _, task, _ in batches[ahead]], seed, turns, ahead))
                if ahead < threads or not waiting:
                    continue
                made = waiting.popleft().result()
                for k, (number, task, observation) in enumerate(batches[ahead - threads]):
                    phase = gates[task].update(made.scores[k], observation.stamp_ns)
                    chunks = {expert: listed[k] for expert, listed in made.chunks.items()}
                    yield Step(number, made.imaginations[k], chunks, made.scores[k], phase, made.timings_s)

    def _gate_state(self) -> GateState:
        return GateState(self.settings.gate_threshold, self.settings.gate_hysteresis, self.settings.gate_dwell_s)

    def _batch(self, observations: list[Observation], memories: list[GroundingMemory], seed: int, turns: _Turns, number: int) -> _Made:
        times = [time.perf_counter()]
        with turns.after_failure():
            imaginations = self.world_model.imagine(observations, memories, seed, turn=turns.take(number))
        times.append(time.perf_counter())
        chunks = {}
        for expert, model in self.experts.items():
            chunks[expert] = model.act(observations, imaginations)
            times.append(time.perf_counter())
        scores = self.gate.score(observations)
        times.append(time.perf_counter())
        names = ("imagination", *(expert.value for expert in self.experts), "gate")
        return _Made(imaginations, chunks, scores, dict(zip(names, np.diff(times) / len(observations), strict=True)))


class _Turns:
    """Batches use what a task remembers in their order."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._next = 0
        self._failed = False

    @contextmanager
    def take(self, number: int) -> Iterator[None]:
        """Wait for the batches before this one, then pass the turn on."""
        with self._changed:
            self._changed.wait_for(lambda: self._failed or self._next == number)
        if self._failed:
            raise RuntimeError("an earlier batch failed")
        yield
        with self._changed:
            self._next += 1
            self._changed.notify_all()

    @contextmanager
    def after_failure(self) -> Iterator[None]:
        """Nobody waits for a batch that failed."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._failed = True
                self._changed.notify_all()
            raise


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
