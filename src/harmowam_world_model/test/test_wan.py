"""The paper-scale world model, with the real classes at toy sizes, and at its true size without memory (meta device)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from harmowam_core.backends import compile_module
from harmowam_core.backends.tensorrt_backend import ENGINE, build_engine
from harmowam_core.checkpoints import CheckpointError
from harmowam_core.testing_wan import TEXT_WIDTH, WIDTH, save_toy_wan, toy_observation, toy_preset
from harmowam_core.wan_preset import load_any_preset
from harmowam_world_model.protocol import GroundingMemory
from harmowam_world_model.wan import (
    WanDenoiser,
    WanVideoCodec,
    WanWorldModel,
    flow_matching_loss,
    flow_times,
    load_wan_world_model,
    sample_latents,
)

PRESET = toy_preset()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_toy_wan(folder / "wan")
    return folder


@pytest.fixture(scope="module")
def model(weights: Path) -> WanWorldModel:
    return load_wan_world_model(PRESET, weights=weights)


@pytest.fixture
def denoiser(weights: Path) -> WanDenoiser:
    return WanDenoiser(WanTransformer3DModel.from_pretrained(weights / "wan" / "transformer"), 1)


def imagine(model: WanWorldModel, seed: int = 0, **observation):
    [imagination] = model.imagine([toy_observation(model.preset, **observation)], [GroundingMemory()], seed)
    return imagination


def test_an_imagination_has_the_stages_layout(model: WanWorldModel) -> None:
    imagination = imagine(model)
    assert imagination.frames.shape == (13, 64, 96, 3)
    assert imagination.latents.shape == (13, 6, 4 * 4)
    assert imagination.hidden.shape == (6, 4 * WIDTH)
    # Frame 0 has a latent frame of its own, then 4 frames share one.
    shared = [np.array_equal(a, b) for a, b in zip(imagination.latents[:-1], imagination.latents[1:], strict=True)]
    assert shared == [False, True, True, True, False, True, True, True, False, True, True, True]
    assert set(imagination.timings_s) == {"encoding", "denoising", "decoding"}


def test_the_noise_depends_on_seed_and_stamp_alone(model: WanWorldModel) -> None:
    first = imagine(model)
    assert np.array_equal(first.latents, imagine(model).latents)
    assert not np.array_equal(first.latents, imagine(model, seed=1).latents)
    assert not np.array_equal(first.latents, imagine(model, stamp_ns=2_000_000_000).latents)
    together = model.imagine([toy_observation(PRESET, 5), toy_observation(PRESET)], [GroundingMemory(), GroundingMemory()])
    assert np.array_equal(first.hidden, together[1].hidden)


def test_the_instruction_and_the_image_matter(model: WanWorldModel) -> None:
    first = imagine(model)
    assert not np.allclose(first.latents[1:], imagine(model, instruction="stack the cans").latents[1:], atol=1e-6)
    [elsewhere] = model.imagine([toy_observation(PRESET, seed=7)], [GroundingMemory()])
    assert not np.allclose(first.latents[0], elsewhere.latents[0], atol=1e-6)


def test_the_current_frame_stays_clean(model: WanWorldModel, denoiser: WanDenoiser) -> None:
    current = torch.randn(2, 4, 1, 4, 6)
    latents, _ = sample_latents(denoiser, torch.randn(2, 4, 4, 4, 6), current, torch.randn(2, 12, TEXT_WIDTH), flow_times(5, 5.0))
    assert torch.equal(latents[:, :, :1], current)


def test_every_token_has_its_own_flow_time(denoiser: WanDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = denoiser.transformer.forward
    monkeypatch.setattr(denoiser.transformer, "forward", lambda x, t, text, **k: seen.append(t) or original(x, t, text, **k))
    denoiser(torch.randn(1, 4, 4, 4, 6), torch.tensor([0.4]), torch.randn(1, 12, TEXT_WIDTH))
    assert torch.equal(seen[0], torch.cat([torch.zeros(1, 6), torch.full((1, 18), 400.0)], 1))


def test_flow_times_run_from_noise_to_data() -> None:
    times = flow_times(5, 5.0)
    assert times[0] == 1 and times[-1] == 0 and (times.diff() < 0).all()
    assert times[1] == pytest.approx(5 * 0.8 / (1 + 4 * 0.8))
    assert torch.allclose(flow_times(4, 1.0), torch.tensor([1, 0.75, 0.5, 0.25, 0]))


def test_euler_follows_a_straight_flow_to_its_end() -> None:
    data, noise = torch.randn(1, 4, 4, 4, 6), torch.randn(1, 4, 4, 4, 6)

    def straight(x, sigma, text):
        return noise - data, torch.zeros(1)

    latents, _ = sample_latents(straight, noise, data[:, :, :1], torch.empty(0), flow_times(5, 5.0))
    assert torch.allclose(latents, data, atol=1e-5)


def test_codec_normalises_and_inverts_the_scaling(weights: Path) -> None:
    vae = AutoencoderKLWan.from_pretrained(weights / "wan" / "vae")
    codec = WanVideoCodec(vae)
    frames = torch.rand(1, 3, 13, 64, 96)
    with torch.no_grad():
        latents = codec.encode(frames)
        raw = vae.encode(frames * 2 - 1).latent_dist.mode()
        assert latents.shape == (1, 4, 4, 4, 6)
        assert torch.allclose(latents[0, 1], (raw[0, 1] + 0.1) / 0.6, atol=1e-5)
        assert torch.allclose(codec.decode(latents), vae.decode(raw).sample / 2 + 0.5, atol=1e-5)


def test_training_lowers_the_flow_matching_loss(denoiser: WanDenoiser) -> None:
    denoiser.train().requires_grad_(True)
    latents, text = torch.randn(4, 4, 4, 4, 6, generator=torch.Generator().manual_seed(2)), torch.randn(4, 12, TEXT_WIDTH)
    optimiser = torch.optim.AdamW(denoiser.parameters(), 3e-3)

    def loss(seed: int) -> torch.Tensor:
        return flow_matching_loss(denoiser, latents, text, 1.0, torch.Generator().manual_seed(seed))

    with torch.no_grad():
        before = sum(float(loss(s)) for s in range(8))
    for step in range(40):
        optimiser.zero_grad()
        loss(100 + step).backward()
        optimiser.step()
    idle = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle, f"no gradient reaches {idle}"
    with torch.no_grad():
        assert sum(float(loss(s)) for s in range(8)) < 0.85 * before


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_the_transformer_exports_and_agrees(tmp_path: Path, backend: str) -> None:
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=4,
        out_channels=4,
        text_dim=TEXT_WIDTH,
        freq_dim=16,
        ffn_dim=32,
        num_layers=1,
    )
    denoiser = WanDenoiser(transformer, 0).eval()
    example = (torch.randn(1, 4, 4, 4, 6), torch.tensor([0.5]), torch.randn(1, 12, TEXT_WIDTH))
    compiled = compile_module(denoiser, example, backend, cache_dir=tmp_path, precision="f32", threads=1)
    other = (torch.randn(1, 4, 4, 4, 6), torch.tensor([0.9]), torch.randn(1, 12, TEXT_WIDTH))
    with torch.no_grad():
        for got, wanted in zip(compiled(*other), denoiser(*other), strict=True):
            assert torch.allclose(got, wanted, atol=1e-3)
    built = build_engine(compiled.network, tmp_path, (8, 9))
    assert built.file(ENGINE).stat().st_size > 10_000


def test_a_scene_of_the_wrong_size_is_refused(model: WanWorldModel) -> None:
    observation = toy_observation(toy_preset(scene_size=[64, 64]))
    with pytest.raises(ValueError, match=r"scene image is \(64, 64\), preset 'toy' needs \(64, 96\)"):
        model.imagine([observation], [GroundingMemory()])


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wan").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot load wan/transformer .* `hf download nobody/wan --local-dir .*/wan`"):
        load_wan_world_model(PRESET, weights=tmp_path)


def test_a_truncated_file_and_absent_layers_are_refused(tmp_path: Path) -> None:
    save_toy_wan(tmp_path / "wan")
    file = tmp_path / "wan" / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot load wan/transformer"):
        load_wan_world_model(PRESET, weights=tmp_path)
    from safetensors.torch import load, save_file

    tensors = load(whole)
    del tensors["blocks.2.ffn.net.2.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights of WanTransformer3DModel: \['blocks.2.ffn.net.2.weight'\]"):
        load_wan_world_model(PRESET, weights=tmp_path)


def test_a_tap_beyond_the_blocks_is_refused(weights: Path) -> None:
    preset = toy_preset(video={"flow_shift": 5.0, "tap_block": 3, "hidden_dim": WIDTH, "text_tokens": 12})
    with pytest.raises(ValueError, match="tap_block is 3, but the transformer has 3 blocks"):
        load_wan_world_model(preset, weights=weights)


def test_the_papers_sizes() -> None:
    """Wan 2.2 TI2V 5B as published, on the meta device: 80 tokens of width 3072 a latent frame."""
    preset = load_any_preset("wan2_2_5b")
    with torch.device("meta"):
        transformer = WanTransformer3DModel(
            num_attention_heads=24, attention_head_dim=128, in_channels=48, out_channels=48, ffn_dim=14336, num_layers=30
        )
        parameters = sum(p.numel() for p in transformer.parameters())
        latents = torch.empty(1, 48, preset.latent_frames, preset.grid[0] * 2, preset.grid[1] * 2)
        velocity, hidden = WanDenoiser(transformer, preset.video.tap_block)(
            latents, torch.empty(1), torch.empty(1, preset.video.text_tokens, 4096)
        )
    assert 4.9e9 < parameters < 5.1e9
    assert velocity.shape == latents.shape
    assert hidden.shape == (1, 4, 80, 3072)
