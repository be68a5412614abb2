"""Action experts of HarmoWAM: predictive (precise) and reactive (general), behind one protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmowam_core.backends import Backend
    from harmowam_experts.protocol import ActionExpert

PREDICTIVE_FILE = "predictive_expert.safetensors"
REACTIVE_FILE = "reactive_expert.safetensors"


def load_predictive_expert(
    preset: str = "compact", *, device: str = "cpu", backend: Backend = "torch", weights: Path | None = None
) -> ActionExpert:
    """A ready predictive expert; raises PresetError or CheckpointError that say what is wrong and what to do."""
    from harmowam_core.checkpoints import load_checkpoint
    from harmowam_core.wan_preset import WanPreset, load_any_preset

    config = load_any_preset(preset)
    if isinstance(config, WanPreset):
        from harmowam_experts.action_dit import load_wan_predictive_expert

        return load_wan_predictive_expert(config, device=device, backend=backend, weights=weights)
    from harmowam_experts.predictive import PredictiveExpert, PredictiveNetwork

    network = PredictiveNetwork(config)
    load_checkpoint((weights or config.weights_dir()) / PREDICTIVE_FILE, network, config)
    return PredictiveExpert(config, network, device=device, backend=backend)


def load_reactive_expert(
    preset: str = "compact", *, device: str = "cpu", backend: Backend = "torch", weights: Path | None = None
) -> ActionExpert:
    """A ready reactive expert; errors as for the predictive one."""
    from harmowam_core.checkpoints import load_checkpoint
    from harmowam_core.wan_preset import WanPreset, load_any_preset

    config = load_any_preset(preset)
    if isinstance(config, WanPreset):
        from harmowam_experts.anypos import load_wan_reactive_expert

        return load_wan_reactive_expert(config, device=device, backend=backend, weights=weights)
    from harmowam_experts.reactive import ReactiveExpert, ReactiveNetwork

    network = ReactiveNetwork(config)
    load_checkpoint((weights or config.weights_dir()) / REACTIVE_FILE, network, config)
    return ReactiveExpert(config, network, device=device, backend=backend)
