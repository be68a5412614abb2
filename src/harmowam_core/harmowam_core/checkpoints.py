"""Weights as safetensors, tied to the preset they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from harmowam_core.files import replaced


class TrainedPreset(Protocol):
    """What weights are tied to."""

    @property
    def name(self) -> str:
        """The preset's name."""
        ...

    def fingerprint(self) -> str:
        """Hash of everything that shapes the weights."""
        ...


class CheckpointError(ValueError):
    """Weights are missing, damaged or made for something else; the message says which and what to do."""


def save_checkpoint(path: Path, module: nn.Module, preset: TrainedPreset, **metadata: str) -> None:
    """Write a module's weights, in half precision (the networks compute in bfloat16); the file is complete or absent, never torn."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    with replaced(path) as part:
        save_file(tensors, part, {"preset": preset.name, "fingerprint": preset.fingerprint(), **metadata})


def load_checkpoint(path: Path, module: nn.Module, preset: TrainedPreset) -> dict[str, str]:
    """Fill a module with weights; returns their metadata. CheckpointError names what does not fit."""
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}; run `harmowam train`, or check out the file from the repository")
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"weights {path} are damaged ({error}); check the file out again or retrain") from error
    expected = module.state_dict()
    absent, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if absent or extra:
        raise CheckpointError(f"weights {path} do not match preset '{preset.name}': missing {absent[:3]}, unexpected {extra[:3]}")
    for name, tensor in tensors.items():
        found, wanted = tuple(tensor.shape), tuple(expected[name].shape)
        if found != wanted:
            raise CheckpointError(f"weights {path} do not match preset '{preset.name}': {name} is {found}, expected {wanted}")
    if metadata.get("fingerprint") != preset.fingerprint():
        raise CheckpointError(
            f"weights {path} were trained for another version of preset '{preset.name}' "
            f"({metadata.get('fingerprint')}, now {preset.fingerprint()}); restore the preset file or retrain"
        )
    module.load_state_dict(tensors)
    return metadata
