"""Fast inference of fixed-shape networks: PyTorch, OpenVINO, ONNX Runtime or TensorRT behind one call.

Every backend but PyTorch starts from one ONNX file of the network. What is built lies in a cache (``cache.py``), and every compiled
network is compared with the PyTorch module before anyone may use it: a wrong network never reaches the arm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Backend = Literal["torch", "torch_bf16", "openvino", "onnx", "tensorrt"]
Precision = Literal["auto", "f32", "bf16"]

BACKENDS: tuple[str, ...] = get_args(Backend)
OTHER_NAMES = {"onnxruntime": "onnx"}
"""Names that are taken as well."""
BACKEND_CHOICES = (*BACKENDS, *OTHER_NAMES)
LEAST_COSINE = 0.999
"""Of each output against PyTorch in float32, whatever the precision."""

Run = Callable[..., tuple[Tensor, ...]]


class BackendError(RuntimeError):
    """A backend cannot serve a network; the message names the remedy."""


@dataclass(frozen=True)
class Network:
    """A PyTorch module (in eval mode) and inputs of the shapes that it is compiled for."""

    name: str
    module: nn.Module
    example_inputs: tuple[Tensor, ...]


class CompiledModule:
    """A network ready to run; call it with tensors as the module itself.

    Inputs are cast to the types it was compiled with. Outputs are fresh float32 or integer tensors on the inputs' device, one or
    a tuple as the module gives. PyTorch takes any batch; all others the shapes of the example inputs alone.
    """

    def __init__(self, run: Run, network: Network, single: bool, backend: str, precision: str) -> None:
        self._run, self._single = run, single
        self.network = network
        self.backend, self.precision = backend, precision
        self.shapes = tuple(tuple(x.shape) for x in network.example_inputs)
        self._dtypes = tuple(x.dtype for x in network.example_inputs)

    def outputs(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """All outputs; BackendError where the shapes are not those it was compiled for."""
        shapes = tuple(tuple(x.shape) for x in inputs)
        if shapes != self.shapes and not self.backend.startswith("torch"):
            raise BackendError(f"this {self.backend} network was compiled for input shapes {self.shapes}, got {shapes}; compile another")
        return self._run(*(x.to(dtype) for x, dtype in zip(inputs, self._dtypes, strict=True)))

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self.outputs(*inputs)
        return outputs[0] if self._single else outputs


def compile_module(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    backend: str = "torch",
    *,
    name: str = "",
    cache_dir: Path | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
) -> CompiledModule:
    """Compile ``module`` (in eval mode, on its device) for the shapes of ``example_inputs``; built anew only where the cache lacks it.

    name: of the network, in the cache and in messages; by default its class'.
    precision: "auto" is bf16 for ``torch_bf16`` and for OpenVINO where the CPU has it, else f32 (in TensorRT by way of TF32).
    threads: of OpenVINO and ONNX Runtime; by default, and always for PyTorch, the process' (``torch.set_num_threads``).
    cache_dir: by default the user's cache directory. Raises BackendError.
    """
    backend = backend_named(backend)
    network = Network(name or type(module).__name__, module, example_inputs)
    if module.training:
        raise BackendError(f"{network.name} is in training mode; call .eval() before compiling it")
    used = resolve_precision(backend, precision)
    builder = import_module(f"harmowam_core.backends.{MODULES[backend]}")
    with torch.inference_mode():
        reference = module(*example_inputs)
    single = isinstance(reference, Tensor)
    run = builder.load(network, used, cache_dir, threads or torch.get_num_threads())
    compiled = CompiledModule(run, network, single, backend, used)
    if used != "f32" or backend != "torch":
        check(compiled, [example_inputs])
    return compiled


MODULES = {
    "torch": "pytorch_backend",
    "torch_bf16": "pytorch_backend",
    "openvino": "openvino_backend",
    "onnx": "onnx_backend",
    "tensorrt": "tensorrt_backend",
}


def backend_named(name: str) -> str:
    """The backend of a name; BackendError lists those there are."""
    name = OTHER_NAMES.get(name, name)
    if name not in BACKENDS:
        raise BackendError(f"unknown backend '{name}'; known: {', '.join(BACKENDS)}")
    return name


def host_device(device: str, backend: str) -> str:
    """Where a model that runs on ``device`` keeps its tensors: TensorRT brings them to the GPU itself. BackendError if they don't fit."""
    backend = backend_named(backend)
    on_gpu = device.startswith("cuda")
    if backend == "tensorrt" and not on_gpu:
        raise BackendError(f"backend 'tensorrt' needs device 'cuda', not '{device}'; on a CPU use 'openvino'")
    if backend == "openvino" and on_gpu:
        raise BackendError("backend 'openvino' runs on the CPU; use device 'cpu', or backend 'torch' or 'tensorrt' on a GPU")
    return "cpu" if backend == "tensorrt" else device


def resolve_precision(backend: str, precision: str) -> Literal["f32", "bf16"]:
    """What a backend computes in; BackendError where it cannot do what is asked."""
    if precision not in get_args(Precision):
        raise BackendError(f"unknown precision '{precision}'; known: {', '.join(get_args(Precision))}")
    only = {"torch": "f32", "torch_bf16": "bf16", "onnx": "f32", "tensorrt": "f32"}.get(backend)
    if only is not None:
        if precision not in ("auto", only):
            raise BackendError(f"backend '{backend}' computes in {only}, not {precision}; choose another backend for that")
        return "f32" if only == "f32" else "bf16"
    if precision == "auto":
        from harmowam_core.backends.openvino_backend import has_bf16

        return "bf16" if has_bf16() else "f32"
    return "f32" if precision == "f32" else "bf16"


@dataclass(frozen=True)
class Agreement:
    """How near a network's outputs are to PyTorch's in float32: the least cosine, the largest error, and the largest value they have."""

    cosine: float
    max_error: float
    max_value: float


def compare(run: Callable[..., Sequence[Tensor]], module: nn.Module, inputs: Sequence[tuple[Tensor, ...]]) -> list[Agreement]:
    """One agreement an output of the module, over all ``inputs``. BackendError where shapes differ."""
    pairs: list[list[tuple[Tensor, Tensor]]] = []
    for given in inputs:
        with torch.inference_mode():
            wanted = module(*given)
        wanted = (wanted,) if isinstance(wanted, Tensor) else tuple(wanted)
        got = run(*given)
        for index, (a, b) in enumerate(zip(got, wanted, strict=True)):
            if a.shape != b.shape:
                raise BackendError(f"output {index} has shape {tuple(a.shape)}, PyTorch's {tuple(b.shape)}; use another backend")
            pairs += [[]] if index == len(pairs) else []
            pairs[index].append((a.double().flatten().cpu(), b.double().flatten().cpu()))
    return [_agreement(torch.cat([a for a, _ in p]), torch.cat([b for _, b in p]), min(_cosine(a, b) for a, b in p)) for p in pairs]


def _cosine(a: Tensor, b: Tensor) -> float:
    # The added constant lets an all-zero output (a layer that starts at zero) agree with an all-zero one.
    return float((a @ b + 1e-12) / (a.norm() * b.norm() + 1e-12))


def _agreement(a: Tensor, b: Tensor, cosine: float) -> Agreement:
    # The cosine does not see scale: a wrong one shows in the least of both.
    ratio = float((a.norm() + 1e-9) / (b.norm() + 1e-9))
    return Agreement(
        cosine if abs(ratio - 1) <= 0.05 else min(cosine, min(ratio, 1 / ratio)), float((a - b).abs().max()), float(b.abs().max())
    )


def check(compiled: CompiledModule, inputs: Sequence[tuple[Tensor, ...]]) -> list[Agreement]:
    """Compare a compiled network with its module; BackendError if any output's cosine is below LEAST_COSINE."""
    agreements = compare(compiled.outputs, compiled.network.module, inputs)
    for index, agreement in enumerate(agreements):
        if not agreement.cosine >= LEAST_COSINE:
            raise BackendError(
                f"{compiled.backend} ({compiled.precision}) disagrees with PyTorch on output {index} of {compiled.network.name}: cosine "
                f"{agreement.cosine:.5f} (least {LEAST_COSINE}), error up to {agreement.max_error:.3g} of {agreement.max_value:.3g}; "
                "use another backend or precision f32"
            )
    return agreements
