"""As far as TensorRT goes without a GPU: engines are built, and the run path keeps its books on a CUDA that is a fake."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harmowam_core.backends import BackendError, Network, compile_module
from harmowam_core.backends.cuda_stream import StreamRunner, TensorSpec
from harmowam_core.backends.tensorrt_backend import ENGINE, build_engine, tensor_specs

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without a GPU")


def network() -> Network:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.GroupNorm(4, 8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 16, 5)).eval()
    return Network("small", layers, (torch.rand(1, 3, 8, 8),))


def test_an_engine_is_built_for_a_gpu_that_is_not_here_and_cached(tmp_path: Path) -> None:
    built = build_engine(network(), tmp_path, (8, 9))
    assert built.kind.endswith("-sm89") and built.file(ENGINE).stat().st_size > 10_000
    modified_ns = built.file(ENGINE).stat().st_mtime_ns
    assert build_engine(network(), tmp_path, (8, 9)).file(ENGINE).stat().st_mtime_ns == modified_ns
    assert build_engine(network(), tmp_path, (12, 0)).folder != built.folder


def test_an_unknown_compute_capability_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="nothing for compute capability 99; it knows .*89"):
        build_engine(network(), tmp_path, (9, 9))


@no_gpu
def test_running_without_a_gpu_names_the_remedy(tmp_path: Path) -> None:
    given = network()
    with pytest.raises(BackendError, match="PyTorch sees none; install the driver .* or use backend 'openvino'"):
        compile_module(given.module, given.example_inputs, "tensorrt", cache_dir=tmp_path)


class FakeCuda:
    """Host memory in place of a GPU's; copies and launches happen only when the stream is waited for, as on a GPU."""

    handle = 42

    def __init__(self) -> None:
        self.queue: list[Any] = []
        self.log: list[str] = []

    def pinned(self, spec: TensorSpec) -> Tensor:
        self.log.append(f"pinned {spec.name}")
        return torch.full(spec.shape, -1, dtype=spec.dtype)

    def on_device(self, spec: TensorSpec) -> Tensor:
        self.log.append(f"device {spec.name}")
        return torch.full(spec.shape, -2, dtype=spec.dtype)

    def copy(self, to: Tensor, source: Tensor) -> None:
        assert to.shape == source.shape and to.dtype == source.dtype
        self.queue.append(lambda: to.copy_(source))

    def follow_caller(self) -> None:
        self.log.append("follow")

    def synchronize(self) -> None:
        for work in self.queue:
            work()
        self.queue.clear()
        self.log.append("synchronize")


class FakeContext:
    """An engine of two inputs and two outputs: a + b in float32, and a's element count in int64."""

    def __init__(self, cuda: FakeCuda, starts: bool = True) -> None:
        self.cuda, self.starts = cuda, starts
        self.addresses: dict[str, int] = {}
        self.runner: Any = None

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name != "refused"

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == FakeCuda.handle
        device = self.runner._device
        assert self.addresses == {name: buffer.data_ptr() for name, buffer in device.items()}

        def work() -> None:
            device["sum"].copy_(device["a"] + device["b"])
            device["count"].fill_(device["a"].numel())

        self.cuda.queue.append(work)
        return self.starts


INPUTS = [TensorSpec("a", (1, 4), torch.float32), TensorSpec("b", (1, 4), torch.float32)]
OUTPUTS = [TensorSpec("sum", (1, 4), torch.float32), TensorSpec("count", (1,), torch.int64)]


def fake_runner(starts: bool = True) -> tuple[StreamRunner, FakeCuda]:
    cuda = FakeCuda()
    context = FakeContext(cuda, starts)
    context.runner = StreamRunner(context, INPUTS, OUTPUTS, cuda)
    return context.runner, cuda


def test_buffers_are_made_once_and_outputs_are_fresh() -> None:
    runner, cuda = fake_runner()
    made = len([line for line in cuda.log if line.startswith(("pinned", "device"))])
    assert made == 2 * len(INPUTS + OUTPUTS)
    first, count = runner(torch.ones(1, 4), torch.full((1, 4), 2.0))
    second, _ = runner(torch.zeros(1, 4), torch.full((1, 4), 5.0))
    assert first.tolist() == [[3.0] * 4] and second.tolist() == [[5.0] * 4]  # the second call has not written into the first's
    assert count.tolist() == [4] and count.dtype == torch.int64
    assert cuda.log[made:] == ["follow", "synchronize"] * 2


def test_a_wrong_shape_is_refused_before_anything_is_enqueued() -> None:
    runner, cuda = fake_runner()
    with pytest.raises(BackendError, match=r"input 'b' has shape \(1, 3\), the engine was built for \(1, 4\)"):
        runner(torch.ones(1, 4), torch.ones(1, 3))
    assert not cuda.queue


def test_an_engine_that_does_not_start_is_an_error() -> None:
    runner, _ = fake_runner(starts=False)
    with pytest.raises(BackendError, match="could not start"):
        runner(torch.ones(1, 4), torch.ones(1, 4))


def test_a_refused_address_is_an_error() -> None:
    cuda = FakeCuda()
    with pytest.raises(BackendError, match="no address for tensor 'refused'"):
        StreamRunner(FakeContext(cuda), [TensorSpec("refused", (1,), torch.float32)], [], cuda)


def test_inputs_and_outputs_are_read_from_the_engine() -> None:
    trt = SimpleNamespace(float32="f", bfloat16="b", float16="h", int32="i", int64="l", TensorIOMode=SimpleNamespace(INPUT="in"))
    table = {"x": ("in", (1, 2), "f"), "y": ("out", (3,), "l")}
    engine = SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda i: list(table)[i],
        get_tensor_mode=lambda n: table[n][0],
        get_tensor_shape=lambda n: table[n][1],
        get_tensor_dtype=lambda n: table[n][2],
    )
    assert tensor_specs(trt, engine) == ([TensorSpec("x", (1, 2), torch.float32)], [TensorSpec("y", (3,), torch.int64)])
