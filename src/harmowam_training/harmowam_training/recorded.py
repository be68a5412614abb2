"""The models of a preset for one backend, and what their networks are given on recorded observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmowam_core.backends import CompiledModule
from harmowam_core.presets import PresetError
from harmowam_core.stages import Imagination, Observation
from harmowam_core.wan_preset import WanPreset, load_any_preset
from harmowam_experts import load_predictive_expert, load_reactive_expert
from harmowam_experts.protocol import ActionExpert
from harmowam_gate.gate_network import load_gate
from harmowam_sim.splits import TASKS
from harmowam_training.open_loop import demonstrations, observations
from harmowam_world_model import load_world_model
from harmowam_world_model.protocol import GroundingMemory, WorldModel

MOMENTS = (0.05, 0.3, 0.55, 0.8)
"""Of a demonstration, as shares of its length: on the way, at the target, on the way to the goal, leaving."""


@dataclass(frozen=True)
class Models:
    """World model, experts and gate."""

    world_model: WorldModel
    predictive: ActionExpert
    reactive: ActionExpert
    gate: Any

    @property
    def compiled(self) -> dict[str, CompiledModule]:
        """Every network of all of them, by name."""
        return {name: network for model in vars(self).values() for name, network in model.compiled.items()}

    def imagine(self, observation: Observation) -> Imagination:
        """One imagination, nothing remembered."""
        [imagination] = self.world_model.imagine([observation], [GroundingMemory()])
        return imagination


def load_models(preset: str, backend: str, device: str = "cpu", weights: Path | None = None) -> Models:
    """All models of a compact preset; errors as of the packages' ``load_...`` functions."""
    if isinstance(load_any_preset(preset), WanPreset):
        raise PresetError(f"preset '{preset}' is of the paper-scale family, whose engines its world model builds when it is loaded")
    options: dict[str, Any] = {"device": device, "backend": backend, "weights": weights}
    return Models(
        load_world_model(preset, **options),
        load_predictive_expert(preset, **options),
        load_reactive_expert(preset, **options),
        load_gate(preset, **options),
    )


def recorded_observations() -> list[Observation]:
    """Fixed moments of one simulated demonstration a task (some seconds)."""
    picked = []
    for task in TASKS:
        seen = observations(next(demonstrations(task, "in_domain", 5, 0)))
        picked += [seen[int(len(seen) * moment)] for moment in MOMENTS]
    return picked


def recorded_inputs(models: Models, seen: Sequence[Observation]) -> dict[str, list[tuple[Tensor, ...]]]:
    """What every network is given while ``models``, of a PyTorch backend, work on these observations."""
    with _listening(models) as inputs:
        for observation in seen:
            imagination = models.imagine(observation)
            models.predictive.act([observation], [imagination])
            models.reactive.act([observation], [imagination])
            models.gate.score([observation])
    return inputs


@contextmanager
def _listening(models: Models) -> Iterator[dict[str, list[tuple[Tensor, ...]]]]:
    inputs: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in models.compiled}
    hooks = [
        compiled.network.module.register_forward_pre_hook(
            lambda _, given, name=name: inputs[name].append(tuple(x.detach().clone() for x in given))
        )
        for name, compiled in models.compiled.items()
    ]
    try:
        with torch.inference_mode():
            yield inputs
    finally:
        for hook in hooks:
            hook.remove()
