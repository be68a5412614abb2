"""Policies by name, ready for lock-step; loaded once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from harmowam_core.presets import load_preset
from harmowam_experts import load_predictive_expert, load_reactive_expert
from harmowam_gate.gate_network import load_gate
from harmowam_training.evaluate import SELECTORS
from harmowam_training.lockstep import LockStep, Policy
from harmowam_training.straight_line import StraightLineExpert
from harmowam_world_model import load_world_model


@lru_cache(maxsize=1)
def _models(preset: str, weights: Path | None) -> tuple:
    torch.set_num_threads(1)
    return (
        load_world_model(preset, backend="torch_bf16", weights=weights),  # batches, in the precision of training
        load_predictive_expert(preset, backend="torch_bf16", weights=weights),
        load_reactive_expert(preset, backend="torch_bf16", weights=weights),
        load_gate(preset, weights=weights),
    )


def load_policy(name: str, preset: str, weights: Path | None = None) -> LockStep:
    """A policy of the benchmark; KeyError for an unknown name."""
    world_model, predictive, reactive, gate = _models(preset, weights)
    config = load_preset(preset)
    if name == "scripted_transit":
        reactive = StraightLineExpert(config.load_cell().arm_names, config.horizon)
    return LockStep(config, Policy(name, world_model, predictive, reactive, gate, SELECTORS[name]))
