"""Intermediates that take minutes to make: shared among the processes, and kept on disk for as long as what they were made from stands."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harmowam_core.files import replaced
from harmowam_training.parallel import barrier, rank, world_size

Rows = NDArray[np.int64]


def kept_parts(path: Path, key: str, count: int, make: Callable[[Rows], dict[str, Tensor]]) -> dict[str, Tensor]:
    """``make`` of rows 0 to ``count``, as tensors with one entry a row; each process makes a share, all get the whole.

    Kept beside ``path``, and made again if ``key`` differs from the one it was kept under.
    """
    parts = [path.with_suffix(f".{number}of{world_size()}.safetensors") for number in range(world_size())]
    if not all(part.is_file() and _key(part) == key for part in parts):
        barrier()
        share = np.array_split(np.arange(count), world_size())[rank()]
        with replaced(parts[rank()]) as part:
            save_file({name: tensor.contiguous() for name, tensor in make(share).items()}, part, {"key": key})
        barrier()
    stored = [load_file(part) for part in parts]
    return {name: torch.cat([part[name] for part in stored]) for name in stored[0]}


def weights_key(module: nn.Module, *others: str | bytes) -> str:
    """What something made by ``module`` from ``others`` depends on."""
    digest = hashlib.sha256()
    for other in others:
        digest.update(other.encode() if isinstance(other, str) else other)
    for tensor in module.state_dict().values():
        digest.update(tensor.half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _key(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return str((file.metadata() or {}).get("key"))
