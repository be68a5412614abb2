"""World model of HarmoWAM: imagines the next frames from the camera and the instruction (paper, section on the world model)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmowam_core.backends import Backend
    from harmowam_world_model.protocol import WorldModel

WEIGHTS_FILE = "world_model.safetensors"


def load_world_model(
    preset: str = "compact", *, device: str = "cpu", backend: Backend = "torch", weights: Path | None = None
) -> WorldModel:
    """A ready world model; raises PresetError or CheckpointError that say what is wrong and what to do."""
    from harmowam_core.checkpoints import load_checkpoint
    from harmowam_core.wan_preset import WanPreset, load_any_preset

    config = load_any_preset(preset)
    if isinstance(config, WanPreset):
        from harmowam_world_model.wan import load_wan_world_model

        return load_wan_world_model(config, device=device, backend=backend, weights=weights)
    from harmowam_world_model.compact import CompactWorldModel, WorldModelNetworks

    networks = WorldModelNetworks(config)
    load_checkpoint((weights or config.weights_dir()) / WEIGHTS_FILE, networks, config)
    return CompactWorldModel(config, networks, device=device, backend=backend)
