"""TensorRT, or TensorRT-RTX where that is what is installed. Only building has been run without a GPU; see docs/engines.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harmowam_core.backends import BackendError, Network, Run
from harmowam_core.backends.cache import Artefact, artefact
from harmowam_core.backends.cuda_stream import StreamRunner, TensorSpec, TorchCuda
from harmowam_core.backends.onnx_backend import EXPORTERS, FILE, export

ENGINE = "network.engine"


def import_tensorrt() -> Any:
    """The module ``tensorrt`` or ``tensorrt_rtx``, which has the same interface."""
    try:
        import tensorrt
    except ImportError:
        try:
            import tensorrt_rtx as tensorrt
        except ImportError as error:
            raise BackendError(
                "backend 'tensorrt' needs TensorRT: `pip install tensorrt`, or on GeForce and RTX GPUs `pip install tensorrt_rtx`"
            ) from error
    return tensorrt


def build_engine(network: Network, cache_dir: Path | None, capability: tuple[int, int] | None = None) -> Artefact:
    """The network's engine for a GPU of compute ``capability`` (major, minor), by default for the one that is here.

    It computes in the types that the module's parameters have, float32 by way of TF32. TensorRT-RTX alone builds for a GPU that isn't
    here. BackendError says what is lacking.
    """
    package = import_tensorrt().__name__
    if capability is None:
        TorchCuda()
        capability = torch.cuda.get_device_capability()
    found = artefact(network, "{}-sm{}{}".format(package, *capability), (*EXPORTERS, package), cache_dir)
    found.ensure(lambda folder: (folder / ENGINE).write_bytes(serialised_engine(export(network, cache_dir).file(FILE), capability)))
    return found


def serialised_engine(onnx_path: Path, capability: tuple[int, int]) -> bytes:
    """TensorRT's engine of an ONNX file."""
    trt = import_tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise BackendError("TensorRT cannot read the network: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    if hasattr(config, "set_compute_capability"):
        name = "SM{}{}".format(*capability)
        if not hasattr(trt.ComputeCapability, name):
            known = [n.removeprefix("SM") for n in dir(trt.ComputeCapability) if n.startswith("SM")]
            raise BackendError(f"{trt.__name__} builds nothing for compute capability {name[2:]}; it knows {', '.join(known)}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    elif not torch.cuda.is_available() or torch.cuda.get_device_capability() != capability:
        raise BackendError("TensorRT builds for the GPU that is here alone; `pip install tensorrt_rtx` builds for another")
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendError("TensorRT built no engine; its log above says why")
    return bytes(engine)


def load(network: Network, precision: str, cache_dir: Path | None, threads: int) -> Run:
    """The engine, on a stream of its own."""
    trt, cuda = import_tensorrt(), TorchCuda()
    path = build_engine(network, cache_dir).file(ENGINE)
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise BackendError(f"TensorRT cannot load {path}; delete it and start again")
    inputs, outputs = tensor_specs(trt, engine)
    return StreamRunner(engine.create_execution_context(), inputs, outputs, cuda)


def tensor_specs(trt: Any, engine: Any) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of an engine, in its order."""
    dtypes = {
        trt.float32: torch.float32,
        trt.bfloat16: torch.bfloat16,
        trt.float16: torch.float16,
        trt.int32: torch.int32,
        trt.int64: torch.int64,
    }
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        spec = TensorSpec(name, tuple(engine.get_tensor_shape(name)), dtypes[engine.get_tensor_dtype(name)])
        (inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs).append(spec)
    return inputs, outputs
