"""Fast inference of fixed-shape networks: PyTorch, OpenVINO, ONNX Runtime or TensorRT behind one call.

Compiled artefacts are cached by what they depend on (weights, code, shapes, versions), and every compiled network is
compared with the PyTorch module before anyone may use it: a wrong network never reaches the arm.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import platformdirs
import torch
from torch import Tensor, nn

Backend = Literal["torch", "torch_bf16", "openvino", "onnxruntime", "tensorrt"]
Precision = Literal["auto", "f32", "bf16"]

BACKENDS: tuple[str, ...] = get_args(Backend)
ONNX_INLINE_BYTES = 1_500_000_000  # an ONNX file itself ends at 2 GB; larger weights lie in a file beside it
LEAST_COSINE = {"f32": 0.9999, "bf16": 0.995}  # of each output against PyTorch in float32

_Run = Callable[..., tuple[Tensor, ...]]


class BackendError(RuntimeError):
    """A backend cannot serve a network; the message names the remedy."""


class CompiledModule:
    """A network compiled for one set of input shapes; call it with tensors as the module itself.

    Inputs are cast to the types it was compiled with (an autocast region around the call may hand over bfloat16). Outputs are
    fresh float32 or integer tensors on the inputs' device, one or a tuple as the module gives.
    """

    def __init__(self, run: _Run, example_inputs: tuple[Tensor, ...], single: bool, backend: str, precision: str) -> None:
        self._run, self._single = run, single
        self.shapes = tuple(tuple(x.shape) for x in example_inputs)
        self._dtypes = tuple(x.dtype for x in example_inputs)
        self.backend, self.precision = backend, precision

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        shapes = tuple(tuple(x.shape) for x in inputs)
        if shapes != self.shapes:
            raise BackendError(f"this {self.backend} network was compiled for input shapes {self.shapes}, got {shapes}; compile another")
        outputs = self._run(*(x.to(dtype) for x, dtype in zip(inputs, self._dtypes, strict=True)))
        return outputs[0] if self._single else outputs


def compile_module(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    backend: Backend = "torch",
    *,
    cache_dir: Path | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
) -> CompiledModule:
    """Compile ``module`` (in eval mode, on its device) for the shapes of ``example_inputs``.

    precision: "auto" is bf16 for ``torch_bf16`` and for OpenVINO and TensorRT where the hardware has it, else f32.
    threads: of OpenVINO and ONNX Runtime; PyTorch's are the process' (``torch.set_num_threads``).
    cache_dir: by default the user's cache directory. Raises BackendError.
    """
    if backend not in BACKENDS:
        raise BackendError(f"unknown backend '{backend}'; known: {', '.join(BACKENDS)}")
    if module.training:
        raise BackendError(f"{type(module).__name__} is in training mode; call .eval() before compiling it")
    precision = _resolve_precision(backend, precision)
    with torch.inference_mode():
        reference = module(*example_inputs)
    single = isinstance(reference, Tensor)
    cache = Path(cache_dir or platformdirs.user_cache_path("harmowam") / "backends")
    stem = cache / _fingerprint(module, example_inputs, backend, precision)
    with _single_flight(stem):
        run = _BUILDERS[backend](module, example_inputs, precision, stem, threads)
    compiled = CompiledModule(run, example_inputs, single, backend, precision)
    _check_numerics(compiled, example_inputs, (reference,) if single else reference)
    return compiled


def _resolve_precision(backend: str, precision: str) -> Literal["f32", "bf16"]:
    if precision not in get_args(Precision):
        raise BackendError(f"unknown precision '{precision}'; known: {', '.join(get_args(Precision))}")
    only = {"torch": "f32", "torch_bf16": "bf16", "onnxruntime": "f32"}.get(backend)
    if only is not None:
        if precision not in ("auto", only):
            raise BackendError(f"backend '{backend}' computes in {only}, not {precision}; choose another backend for that")
        return "f32" if only == "f32" else "bf16"
    if precision == "auto":
        if backend == "tensorrt":
            return "bf16"
        import openvino

        return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    return "f32" if precision == "f32" else "bf16"


def _fingerprint(module: nn.Module, example_inputs: tuple[Tensor, ...], backend: str, precision: str) -> str:
    """Name of a cached artefact: a hash of all that it depends on."""
    digest = hashlib.sha256()
    packages = {"openvino": ("openvino",), "onnxruntime": ("onnxscript",), "tensorrt": ("onnxscript",)}.get(backend, ())
    for package in ("torch", *packages):
        digest.update(f"{package}={importlib.metadata.version(package)};".encode())
    digest.update(f"{backend};{precision};{module!r};".encode())
    for file in sorted({inspect.getfile(type(m)) for m in module.modules() if not type(m).__module__.startswith("torch.")}):
        digest.update(Path(file).read_bytes())
    for x in example_inputs:
        digest.update(f"{tuple(x.shape)},{x.dtype};".encode())
    for name, value in module.state_dict().items():
        digest.update(f"{name},{tuple(value.shape)},{value.dtype};".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else str(value.item()).encode())
    return f"{type(module).__name__}-{backend}-{precision}-{digest.hexdigest()[:24]}"


@contextlib.contextmanager
def _single_flight(stem: Path) -> Iterator[None]:
    """One process at a time builds an artefact; the others wait and then read it."""
    import fcntl

    stem.parent.mkdir(parents=True, exist_ok=True)
    with open(stem.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _publish(stem: Path, suffixes: tuple[str, ...], write: Callable[[Path], object]) -> None:
    """Write ``stem`` + suffixes by way of a temporary directory, the first suffix last: a file that exists is whole."""
    with tempfile.TemporaryDirectory(dir=stem.parent) as directory:
        write(Path(directory) / stem.name)
        for suffix in reversed(suffixes):
            os.replace(Path(directory) / (stem.name + suffix), stem.parent / (stem.name + suffix))


def _check_numerics(compiled: CompiledModule, inputs: tuple[Tensor, ...], reference: tuple[Tensor, ...]) -> None:
    outputs = compiled(*inputs)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    least = LEAST_COSINE[compiled.precision]
    for index, (got, wanted) in enumerate(zip(outputs, reference, strict=True)):
        a, b = got.double().flatten().cpu(), wanted.double().flatten().cpu()
        # The added constant lets an all-zero output (a layer that starts at zero) agree with an all-zero one.
        cosine = float((a @ b + 1e-12) / (a.norm() * b.norm() + 1e-12))
        ratio = float((a.norm() + 1e-9) / (b.norm() + 1e-9))
        if got.shape != wanted.shape or not (cosine >= least and abs(ratio - 1) <= 0.05):
            raise BackendError(
                f"{compiled.backend} ({compiled.precision}) disagrees with PyTorch on output {index}: shape {tuple(got.shape)} against "
                f"{tuple(wanted.shape)}, cosine {cosine:.5f} (least {least}), norm ratio {ratio:.3f}; use another backend or precision f32"
            )


def _build_torch(module: nn.Module, inputs: tuple[Tensor, ...], precision: str, stem: Path, threads: int | None) -> _Run:
    device = inputs[0].device.type

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            y = module(*x)
        outputs = (y,) if isinstance(y, Tensor) else y
        return tuple(o.float() if o.is_floating_point() else o for o in outputs)

    return run


def _build_openvino(module: nn.Module, inputs: tuple[Tensor, ...], precision: str, stem: Path, threads: int | None) -> _Run:
    import openvino as ov

    if inputs[0].device.type != "cpu":
        raise BackendError("backend 'openvino' runs on the CPU; use device 'cpu', or backend 'torch' or 'tensorrt' on a GPU")
    core = ov.Core()
    path = stem.parent / (stem.name + ".xml")
    if not path.exists():
        try:
            model = ov.convert_model(torch.export.export(module, inputs, strict=False))
        except ov.frontend.OpConversionFailure as error:
            lacks = str(error).strip().splitlines()[-1]
            raise BackendError(f"OpenVINO cannot convert {type(module).__name__} ({lacks}); use 'torch' or 'onnxruntime'") from error
        model.reshape({i: ov.PartialShape(list(x.shape)) for i, x in enumerate(inputs)})
        _publish(stem, (".xml", ".bin"), lambda where: ov.save_model(model, f"{where}.xml", compress_to_fp16=False))
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": ov.Type.bf16 if precision == "bf16" else ov.Type.f32,
        "CACHE_DIR": str(stem.parent / "openvino"),
    }
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(path, "CPU", config).create_infer_request()

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        results = request.infer([t.detach().contiguous().numpy() for t in x], share_inputs=True)
        return tuple(torch.from_numpy(np.array(results[i])) for i in range(len(results)))

    return run


def _export_onnx(module: nn.Module, inputs: tuple[Tensor, ...], stem: Path) -> Path:
    path = stem.parent / (stem.name + ".onnx")
    if not path.exists():
        program = torch.onnx.export(module, inputs, dynamo=True, verbose=False)
        if program is None:
            raise BackendError(f"PyTorch could not export {type(module).__name__} to ONNX")
        apart = sum(x.numel() * x.element_size() for x in module.state_dict().values()) > ONNX_INLINE_BYTES
        suffixes = (".onnx", ".onnx.data") if apart else (".onnx",)
        _publish(stem, suffixes, lambda where: program.save(f"{where}.onnx", external_data=apart))
    return path


def _build_onnxruntime(module: nn.Module, inputs: tuple[Tensor, ...], precision: str, stem: Path, threads: int | None) -> _Run:
    import onnxruntime

    device = inputs[0].device.type
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    if provider not in onnxruntime.get_available_providers():
        raise BackendError(f"this ONNX Runtime has no {provider}; `pip install onnxruntime-gpu`, or use device 'cpu'")
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(_export_onnx(module, inputs, stem), options, providers=[provider])
    names = [i.name for i in session.get_inputs()]

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        outputs = session.run(None, {name: t.detach().cpu().contiguous().numpy() for name, t in zip(names, x, strict=True)})
        return tuple(torch.from_numpy(np.asarray(y)).to(device) for y in outputs)

    return run


def _import_tensorrt() -> Any:
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


class _Bfloat16(nn.Module):
    """A copy of a module that computes in bfloat16 between float32 inputs and outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).bfloat16()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.module(*(x.bfloat16() if x.is_floating_point() else x for x in inputs))
        return tuple(y.float() for y in ((outputs,) if isinstance(outputs, Tensor) else outputs))


def build_tensorrt_engine(onnx_path: Path, compute_capability: tuple[int, int] | None = None) -> bytes:
    """Serialised engine of an ONNX file, in the precisions that stand in it.

    ``compute_capability`` (major, minor) builds for a GPU that isn't here (TensorRT-RTX only).
    """
    trt = _import_tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        raise BackendError("TensorRT cannot read the network: " + "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
    config = builder.create_builder_config()
    if compute_capability is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, "SM{}{}".format(*compute_capability)), 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendError("TensorRT built no engine; its log above says why")
    return bytes(engine)


def _build_tensorrt(module: nn.Module, inputs: tuple[Tensor, ...], precision: str, stem: Path, threads: int | None) -> _Run:
    trt = _import_tensorrt()
    if inputs[0].device.type != "cuda":
        raise BackendError(f"backend 'tensorrt' needs device 'cuda', not '{inputs[0].device}'; on a CPU use 'openvino'")
    major, minor = torch.cuda.get_device_capability(inputs[0].device)
    engine_path = stem.parent / f"{stem.name}-sm{major}{minor}-{trt.__version__}.engine"
    if not engine_path.exists():
        typed = _Bfloat16(module).eval() if precision == "bf16" else module
        engine_bytes = build_tensorrt_engine(_export_onnx(typed, inputs, stem))
        _publish(engine_path.with_suffix(""), (".engine",), lambda where: Path(f"{where}.engine").write_bytes(engine_bytes))
    engine = trt.Runtime(trt.Logger(trt.Logger.WARNING)).deserialize_cuda_engine(engine_path.read_bytes())
    if engine is None:
        raise BackendError(f"TensorRT cannot load {engine_path}; delete it and start again")
    context = engine.create_execution_context()
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    in_names = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
    out_names = [n for n in names if n not in in_names]
    dtypes = {
        trt.float32: torch.float32,
        trt.bfloat16: torch.bfloat16,
        trt.float16: torch.float16,
        trt.int32: torch.int32,
        trt.int64: torch.int64,
    }

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        x = tuple(t.contiguous() for t in x)
        y = tuple(
            torch.empty(tuple(engine.get_tensor_shape(n)), dtype=dtypes[engine.get_tensor_dtype(n)], device=x[0].device) for n in out_names
        )
        for name, t in (*zip(in_names, x, strict=True), *zip(out_names, y, strict=True)):
            context.set_tensor_address(name, t.data_ptr())
        stream = torch.cuda.current_stream()
        context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()  # the inputs may be freed as soon as this returns
        return tuple(t.float() if t.is_floating_point() else t for t in y)

    return run


_BUILDERS: dict[str, Callable[[nn.Module, tuple[Tensor, ...], str, Path, int | None], _Run]] = {
    "torch": _build_torch,
    "torch_bf16": _build_torch,
    "openvino": _build_openvino,
    "onnxruntime": _build_onnxruntime,
    "tensorrt": _build_tensorrt,
}
