"""ONNX files of networks, and ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harmowam_core.backends import BackendError, Network, Run
from harmowam_core.backends.cache import Artefact, artefact

FILE = "network.onnx"
EXPORTERS = ("torch", "onnx", "onnxscript")
INLINE_BYTES = 1_500_000_000
"""An ONNX file itself ends at 2 GB; larger weights lie in a file beside it."""


def export(network: Network, cache_dir: Path | None) -> Artefact:
    """The network's ONNX file, ``FILE`` of the artefact, in the types that its parameters have."""
    found = artefact(network, "onnx", EXPORTERS, cache_dir)
    found.ensure(lambda folder: _export(network, folder / FILE))
    return found


def _export(network: Network, path: Path) -> None:
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)  # it lists the operators of torchvision, which isn't here, as warnings
    try:
        # Inputs made in inference mode cannot be traced; the graph keeps no values of them.
        inputs = tuple(x.detach().clone() for x in network.example_inputs)
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore", FutureWarning)
            program = torch.onnx.export(network.module, inputs, dynamo=True, verbose=False)
    finally:
        exporter.setLevel(level)
    if program is None:
        raise BackendError(f"PyTorch could not export {network.name} to ONNX")
    weights = sum(x.numel() * x.element_size() for x in network.module.state_dict().values())
    program.save(path, external_data=weights > INLINE_BYTES)


def load(network: Network, precision: str, cache_dir: Path | None, threads: int) -> Run:
    """A session of ONNX Runtime, on the CPU or, where its GPU build is installed, on the inputs' GPU."""
    import onnxruntime

    device = network.example_inputs[0].device.type
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    if provider not in onnxruntime.get_available_providers():
        raise BackendError(f"this ONNX Runtime has no {provider}; `pip install onnxruntime-gpu`, or use device 'cpu'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(export(network, cache_dir).file(FILE), options, providers=[provider])
    names = [i.name for i in session.get_inputs()]

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        outputs = session.run(None, {name: t.detach().cpu().contiguous().numpy() for name, t in zip(names, x, strict=True)})
        return tuple(torch.from_numpy(np.asarray(y)).to(device) for y in outputs)

    return run
