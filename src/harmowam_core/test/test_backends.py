"""Every CPU backend gives the network's numbers, from its cache too, and wrong ones are refused."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harmowam_core.backends import BackendError, compare, compile_module, host_device, onnx_backend

WIDTH, HEADS, TOKENS, CHANNELS = 192, 6, 80, 24


class Block(nn.Module):
    """One adaLN transformer block, as the compact diffusion transformer's."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.modulation = nn.Linear(WIDTH, 6 * WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, -1)  # (B, 1, D) each
        batch = x.shape[0]
        qkv = self.qkv(self.norm(x) * (1 + scale1) + shift1).view(batch, TOKENS, 3, HEADS, WIDTH // HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, N, D / heads)
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, TOKENS, WIDTH)
        x = x + gate1 * self.out(attended)
        return x + gate2 * self.mlp(self.norm(x) * (1 + scale2) + shift2)


class SmallTransformer(nn.Module):
    """Tokens and flow time to a prediction and hidden tokens."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.embed, self.time = nn.Linear(CHANNELS, WIDTH), nn.Linear(1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(blocks))
        self.head = nn.Linear(WIDTH, CHANNELS)

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.embed(x)
        condition = nn.functional.silu(self.time(t[:, None]))
        for block in self.blocks:
            hidden = block(hidden, condition)
        return self.head(hidden), hidden


class Scale(nn.Module):
    """One output, one weight."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.tensor([by]))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.by


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> SmallTransformer:
    torch.manual_seed(0)
    return SmallTransformer().eval()


EXAMPLE = (torch.randn(1, TOKENS, CHANNELS, generator=torch.Generator().manual_seed(1)), torch.tensor([0.3]))


@pytest.mark.parametrize(
    ("backend", "precision", "tolerance"),
    [
        ("torch", "f32", 0.0),
        ("torch_bf16", "bf16", 0.1),
        ("onnx", "f32", 1e-3),
        ("openvino", "f32", 1e-3),
        ("openvino", "bf16", 0.1),
    ],
)
def test_backend_agrees_on_inputs_it_was_not_built_with(network, tmp_path: Path, backend, precision, tolerance) -> None:
    compiled = compile_module(network, EXAMPLE, backend, cache_dir=tmp_path, precision=precision, threads=1)
    assert compiled.precision == precision
    other = (torch.randn(1, TOKENS, CHANNELS), torch.tensor([0.9]))
    with torch.inference_mode():
        wanted = network(*other)
    got = compiled(*other)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_second_build_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend) -> None:
    first = compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), backend, cache_dir=tmp_path, precision="f32")
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: pytest.fail("exported again"))
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: pytest.fail("exported again"))
    second = compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), backend, cache_dir=tmp_path, precision="f32")
    assert torch.equal(first(torch.arange(3.0)[None]), second(torch.arange(3.0)[None]))


def test_large_weights_lie_beside_the_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "INLINE_BYTES", 100)
    network = nn.Linear(64, 64).eval()
    compiled = compile_module(network, (torch.randn(1, 64),), "onnx", cache_dir=tmp_path)
    (data,) = tmp_path.glob("*/onnx/*.onnx.data")
    assert data.stat().st_size >= 64 * 64 * 4
    assert torch.allclose(compiled(torch.ones(1, 64)), network(torch.ones(1, 64)), atol=1e-5)


def test_new_weights_are_compiled_anew(tmp_path: Path) -> None:
    x = torch.ones(1, 3)
    for by in (2.0, 3.0):
        assert torch.allclose(compile_module(Scale(by).eval(), (x,), "openvino", cache_dir=tmp_path, precision="f32")(x), x * by)


def test_outputs_do_not_share_memory_between_calls(tmp_path: Path) -> None:
    compiled = compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), "openvino", cache_dir=tmp_path, precision="f32")
    first = compiled(torch.ones(1, 3))
    compiled(torch.full((1, 3), 5.0))
    assert torch.equal(first, torch.full((1, 3), 2.0))


def test_a_cached_network_that_lies_is_refused(tmp_path: Path) -> None:
    """The artefact of other weights, whole and current, under this network's name."""
    x = (torch.ones(1, 3),)
    compile_module(Scale(2.0).eval(), x, "onnx", cache_dir=tmp_path)
    (right,) = tmp_path.glob("*/onnx")
    compile_module(Scale(-3.0).eval(), x, "onnx", cache_dir=tmp_path)
    (wrong,) = set(tmp_path.glob("*/onnx")) - {right}
    shutil.rmtree(right)
    wrong.rename(right)
    with pytest.raises(BackendError, match="onnx .f32. disagrees with PyTorch on output 0 of Scale: cosine -1.0"):
        compile_module(Scale(2.0).eval(), x, "onnx", cache_dir=tmp_path)


def test_a_wrong_scale_is_refused_though_the_direction_is_right() -> None:
    with torch.no_grad():
        [agreement] = compare(lambda x: (Scale(2.2)(x),), Scale(2.0), [(torch.ones(1, 3),)])
    assert agreement.cosine == pytest.approx(1 / 1.1) and agreement.max_error == pytest.approx(0.2) and agreement.max_value == 2


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnx"])
def test_inputs_from_an_autocast_region_are_taken(tmp_path: Path, backend) -> None:
    compiled = compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), backend, cache_dir=tmp_path, precision="f32")
    doubled = compiled(torch.full((1, 3), 1.5, dtype=torch.bfloat16))
    assert doubled.dtype == torch.float32
    assert torch.equal(doubled, torch.full((1, 3), 3.0))


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    compiled = compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), "onnx", cache_dir=tmp_path)
    with pytest.raises(BackendError, match=r"\(\(1, 3\),\), got \(\(2, 3\),\)"):
        compiled(torch.ones(2, 3))


@pytest.mark.parametrize("backend", ["torch", "torch_bf16"])
def test_pytorch_takes_any_batch(backend) -> None:
    compiled = compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), backend)
    assert torch.equal(compiled(torch.ones(4, 3)), torch.full((4, 3), 2.0))


def test_other_names_mean_the_same(tmp_path: Path) -> None:
    assert compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), "onnxruntime", cache_dir=tmp_path).backend == "onnx"


@pytest.mark.parametrize(
    ("device", "backend", "message"),
    [("cpu", "tensorrt", "'tensorrt' needs device 'cuda', not 'cpu'"), ("cuda", "openvino", "'openvino' runs on the CPU")],
)
def test_a_backend_that_does_not_fit_the_device_is_refused(device, backend, message) -> None:
    with pytest.raises(BackendError, match=message):
        host_device(device, backend)


def test_tensorrt_feeds_the_gpu_from_the_host() -> None:
    assert (host_device("cuda", "tensorrt"), host_device("cuda", "torch"), host_device("cpu", "openvino")) == ("cpu", "cuda", "cpu")


@pytest.mark.parametrize(
    ("backend", "precision", "message"),
    [
        ("tflite", "auto", "unknown backend 'tflite'"),
        ("torch", "f16", "unknown precision 'f16'"),
        ("onnx", "bf16", "computes in f32"),
    ],
)
def test_unknown_choices_are_named(tmp_path: Path, backend, precision, message) -> None:
    with pytest.raises(BackendError, match=message):
        compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), backend, cache_dir=tmp_path, precision=precision)


def test_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="training mode"):
        compile_module(Scale(2.0), (torch.ones(1, 3),), cache_dir=tmp_path)


def test_missing_tensorrt_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendError, match="pip install tensorrt"):
        compile_module(Scale(2.0).eval(), (torch.ones(1, 3),), "tensorrt", cache_dir=tmp_path)
