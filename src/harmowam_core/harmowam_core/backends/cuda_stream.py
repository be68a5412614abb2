"""Runs a TensorRT execution context on a CUDA stream of its own, between buffers that are made once.

Inputs go from the host through pinned (page-locked) memory, so that copies run beside the processor; a call waits for its own stream alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from harmowam_core.backends import BackendError


class TensorSpec(NamedTuple):
    """One input or output of an engine."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


class Cuda(Protocol):
    """What is used of CUDA. All copies are asynchronous, in the stream's order."""

    def pinned(self, spec: TensorSpec) -> Tensor:
        """Page-locked host memory."""
        ...

    def on_device(self, spec: TensorSpec) -> Tensor:
        """Device memory."""
        ...

    def copy(self, to: Tensor, source: Tensor) -> None:
        """Enqueue a copy."""
        ...

    @property
    def handle(self) -> int:
        """The stream, as TensorRT takes it."""
        ...

    def follow_caller(self) -> None:
        """Let the stream wait for what the caller has already enqueued (its inputs may still be in the making)."""
        ...

    def synchronize(self) -> None:
        """Wait until all that was enqueued is done."""
        ...


class TorchCuda:
    """PyTorch's CUDA runtime. BackendError where it sees no GPU."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise BackendError(
                "backend 'tensorrt' runs on an NVIDIA GPU, and PyTorch sees none; install the driver and the CUDA build of PyTorch, "
                "or use backend 'openvino' with device 'cpu'"
            )
        self._stream = torch.cuda.Stream()

    def pinned(self, spec: TensorSpec) -> Tensor:
        """See Cuda."""
        return torch.empty(spec.shape, dtype=spec.dtype, pin_memory=True)

    def on_device(self, spec: TensorSpec) -> Tensor:
        """See Cuda."""
        return torch.empty(spec.shape, dtype=spec.dtype, device="cuda")

    def copy(self, to: Tensor, source: Tensor) -> None:
        """See Cuda."""
        with torch.cuda.stream(self._stream):
            to.copy_(source, non_blocking=True)

    @property
    def handle(self) -> int:
        """See Cuda."""
        return int(self._stream.cuda_stream)

    def follow_caller(self) -> None:
        """See Cuda."""
        self._stream.wait_stream(torch.cuda.current_stream())

    def synchronize(self) -> None:
        """See Cuda."""
        self._stream.synchronize()


class StreamRunner:
    """Call it with the engine's inputs, on the host or on the GPU; the outputs come to where the first input is, as fresh tensors.

    context: TensorRT's IExecutionContext. Not to be called from two threads at once.
    """

    def __init__(self, context: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], cuda: Cuda) -> None:
        self._context, self._cuda = context, cuda
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._host = {spec.name: cuda.pinned(spec) for spec in (*inputs, *outputs)}
        self._device = {spec.name: cuda.on_device(spec) for spec in (*inputs, *outputs)}
        for name, buffer in self._device.items():
            if not context.set_tensor_address(name, buffer.data_ptr()):
                raise BackendError(f"TensorRT takes no address for tensor '{name}'; delete the engine and build it again")

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        for spec, given in zip(self._inputs, inputs, strict=True):
            if tuple(given.shape) != spec.shape:
                raise BackendError(f"input '{spec.name}' has shape {tuple(given.shape)}, the engine was built for {spec.shape}")
        to_host = inputs[0].device.type == "cpu"
        self._cuda.follow_caller()
        for spec, given in zip(self._inputs, inputs, strict=True):
            if given.device.type == "cpu":
                self._host[spec.name].copy_(given)
                given = self._host[spec.name]
            self._cuda.copy(self._device[spec.name], given)
        if not self._context.execute_async_v3(self._cuda.handle):
            raise BackendError("TensorRT could not start the engine; its log above says why")
        if to_host:
            for spec in self._outputs:
                self._cuda.copy(self._host[spec.name], self._device[spec.name])
        self._cuda.synchronize()
        buffers = self._host if to_host else self._device
        copies = [buffers[spec.name].clone() for spec in self._outputs]  # the next call writes the buffers again
        return tuple(y.float() if y.is_floating_point() else y for y in copies)
