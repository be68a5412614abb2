"""PyTorch itself, in float32 or under bfloat16 autocast, as the networks were trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from harmowam_core.backends import Network, Run


def load(network: Network, precision: str, cache_dir: Path | None, threads: int) -> Run:
    """Runs the module; nothing is built."""
    device = network.example_inputs[0].device.type

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            y = network.module(*x)
        outputs = (y,) if isinstance(y, Tensor) else y
        return tuple(o.float() if o.is_floating_point() else o for o in outputs)

    return run
