"""The paper-scale experts, with the real encoders' classes at toy sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.spatial.transform import Rotation

from harmowam_core.backends import LEAST_COSINE, BackendError, Network, check, compile_module
from harmowam_core.backends.tensorrt_backend import ENGINE, build_engine
from harmowam_core.cell import load_cell
from harmowam_core.checkpoints import CheckpointError, save_checkpoint
from harmowam_core.stages import ActionChunk, Expert, Imagination
from harmowam_core.testing_wan import TEXT_WIDTH, VISUAL_WIDTH, WIDTH, save_toy_vision, save_toy_wan, toy_observation, toy_preset
from harmowam_core.wan_preset import load_any_preset
from harmowam_experts import load_predictive_expert, load_reactive_expert
from harmowam_experts.action_dit import (
    ActionDiT,
    Conditions,
    ConditionSizes,
    diffusion_loss,
    noise_schedule,
    sample_actions,
)
from harmowam_experts.anypos import AnyPosNetwork, OrientationDecoder, load_wan_reactive_expert, pose_loss
from harmowam_experts.euler_actions import ActionStatistics, EulerActions

PRESET = toy_preset()
SIZES = ConditionSizes(cameras=3, latent_frames=4, visual=VISUAL_WIDTH, text=TEXT_WIDTH, world=WIDTH)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save_toy_wan(folder / "wan")
    save_toy_vision(folder)
    torch.manual_seed(3)
    network = ActionDiT(PRESET, 14, SIZES)
    torch.nn.init.normal_(network.outputs.weight, std=0.1)
    save_checkpoint(folder / "predictive_expert.safetensors", network, PRESET)
    save_checkpoint(folder / "reactive_expert.safetensors", AnyPosNetwork(PRESET, 14, VISUAL_WIDTH), PRESET)
    return folder


def preset_file(folder: Path) -> str:
    """The toy preset as a user's own YAML file."""
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(PRESET.model_dump(mode="json")))
    return str(path)


def conditions(batch: int = 2) -> Conditions:
    text = torch.randn(batch, 12, TEXT_WIDTH)
    text[:, 5:] = 0
    return Conditions(torch.randn(batch, 3, 16, VISUAL_WIDTH), text, torch.randn(batch, 4, 6, WIDTH))


def imagination(stamp_ns: int = 1_000_000_000, seed: int = 0) -> Imagination:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (13, *PRESET.scene_size, 3), dtype=np.uint8)
    numbers = rng.normal(size=(13, 6, 16)).astype(np.float32), rng.normal(size=(6, 4 * WIDTH)).astype(np.float32)
    return Imagination(stamp_ns, 5, frames, 0.1, *numbers)


def same(a: ActionChunk, b: ActionChunk) -> bool:
    return np.allclose(a.positions, b.positions, rtol=1e-4, atol=1e-3) and np.allclose(a.orientations, b.orientations, atol=1e-3)


# ---- the action numbers ----------------------------------------------------------------------------------------------------


def test_actions_round_trip() -> None:
    codec, rng = EulerActions(load_cell()), np.random.default_rng(0)
    home = Rotation.from_quat([1.0, 0, 0, 0])
    orientations = np.stack([(home * Rotation.from_rotvec(rng.normal(size=3) * 0.5)).as_quat() for _ in range(24)])
    positions, grippers = rng.normal(size=(12, 2, 3)).astype(np.float32), rng.uniform(size=(12, 2)).astype(np.float32)
    wanted = orientations.reshape(12, 2, 4).astype(np.float32)
    got = codec.decode(codec.encode(positions, wanted, grippers))
    assert np.allclose(got[0], positions) and np.allclose(got[2], grippers)
    assert np.allclose(np.abs((got[1] * wanted).sum(-1)), 1, atol=1e-5)


def test_a_tool_that_points_down_is_far_from_the_angles_jump() -> None:
    codec = EulerActions(load_cell())
    tilted = [Rotation.from_euler("x", np.pi + tilt).as_quat() for tilt in (-0.05, 0.05)]
    numbers = codec.encode(np.zeros((2, 2, 3), np.float32), np.repeat(np.float32(tilted)[:, None], 2, 1), np.zeros((2, 2), np.float32))
    assert np.abs(numbers[1] - numbers[0]).max() == pytest.approx(0.1, abs=1e-4)


def test_statistics_invert_and_travel_with_the_weights() -> None:
    statistics, actions = ActionStatistics(3), torch.tensor([[0.0, 1, 5], [2, 3, 5]])
    statistics.fit(actions)
    assert torch.allclose(statistics.restore(statistics.normalise(actions)), actions, atol=1e-6)
    assert {"mean", "deviation"} <= statistics.state_dict().keys()
    assert torch.isfinite(statistics.normalise(actions)).all()


# ---- predictive --------------------------------------------------------------------------------------------------------------


def test_training_lowers_the_diffusion_loss() -> None:
    torch.manual_seed(0)
    network, schedule = ActionDiT(PRESET, 14, SIZES), noise_schedule(PRESET)
    given, actions = conditions(4), torch.randn(4, 12, 14) * 0.1 + 0.4
    network.statistics.fit(actions.flatten(0, 1))
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)

    def loss(seed: int) -> torch.Tensor:
        return diffusion_loss(network, schedule, actions, given, torch.Generator().manual_seed(seed))

    with torch.no_grad():
        before = sum(float(loss(s)) for s in range(8))
    for step in range(60):
        optimiser.zero_grad()
        loss(100 + step).backward()
        optimiser.step()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle, f"no gradient reaches {idle}"
    with torch.no_grad():
        assert sum(float(loss(s)) for s in range(8)) < 0.7 * before


def test_sampling_is_deterministic_and_takes_out_the_noise_it_is_told_of() -> None:
    """A network that knows the one true chunk: the solver must end there, from any noise."""
    truth, schedule = torch.randn(1, 12, 14), noise_schedule(PRESET)

    class Oracle:
        statistics = ActionStatistics(14)

        def __call__(self, x, timestep, given):
            alpha = schedule.alphas_cumprod[timestep][:, None, None]
            return (x - alpha.sqrt() * truth) / (1 - alpha).sqrt()

    for seed in (1, 2):
        noise = torch.randn(1, 12, 14, generator=torch.Generator().manual_seed(seed))
        assert torch.allclose(sample_actions(Oracle(), schedule, noise, conditions(1), 10), truth, atol=0.05)


def test_each_action_reads_its_own_latent_frame_and_no_padding() -> None:
    torch.manual_seed(1)
    network = ActionDiT(PRESET, 14, SIZES)
    given = conditions(1)
    (_, none), (_, text_bias), (world_tokens, world_bias) = network._contexts(given)
    assert none is None
    assert (text_bias[0, 0] < -1).tolist() == [False] * 5 + [True] * 7
    assert world_tokens.shape[1] == 3 * 6
    readable = (world_bias[0] > -1).unflatten(1, (3, 6))
    assert readable[:, :, 0].tolist() == [[frame == k // 4 for frame in range(3)] for k in range(12)]


def test_the_predictive_expert_acts(weights: Path) -> None:
    expert = load_predictive_expert(preset_file(weights), weights=weights)
    observation, imagined = toy_observation(PRESET), imagination()
    [chunk] = expert.act([observation], [imagined])
    assert (chunk.source, chunk.chunk_id, chunk.stamp_ns, chunk.positions.shape) == (Expert.PREDICTIVE, 5, 1_000_000_000, (12, 2, 3))
    assert same(chunk, expert.act([observation], [imagined])[0])
    assert not same(chunk, expert.act([toy_observation(PRESET, 2)], [imagined])[0])
    assert not same(chunk, expert.act([toy_observation(PRESET, seed=4)], [imagined])[0])
    assert not same(chunk, expert.act([toy_observation(PRESET, instruction="stack the cans")], [imagined])[0])
    assert not same(chunk, expert.act([observation], [imagination(seed=4)])[0])
    both = expert.act([toy_observation(PRESET, seed=4), observation], [imagination(seed=4), imagined])
    assert same(chunk, both[1])


def test_the_action_transformer_has_a_billion_parameters_in_28_blocks() -> None:
    preset = load_any_preset("wan2_2_5b")
    with torch.device("meta"):
        network = ActionDiT(preset, 14, ConditionSizes(3, preset.latent_frames, 1152, 4096, preset.video.hidden_dim))
    assert len(network.blocks) == 28
    assert 1.0e9 < sum(p.numel() for p in network.parameters()) < 1.2e9


# ---- reactive ----------------------------------------------------------------------------------------------------------------


def test_training_lowers_the_pose_loss() -> None:
    torch.manual_seed(0)
    network = AnyPosNetwork(PRESET, 14, VISUAL_WIDTH)
    patches, hidden, actions = torch.randn(8, 9, VISUAL_WIDTH), torch.randn(8, 6, WIDTH), torch.randn(8, 14)
    network.statistics.fit(actions)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    before = float(pose_loss(network, patches, hidden, actions))
    for _ in range(60):
        optimiser.zero_grad()
        loss = pose_loss(network, patches, hidden, actions)
        loss.backward()
        optimiser.step()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle, f"no gradient reaches {idle}"
    assert float(loss) < 0.3 * before


def test_the_decoder_can_tell_where_and_in_which_direction() -> None:
    """Moving a blob right, or down, changes different features."""
    torch.manual_seed(0)
    decoder = OrientationDecoder(PRESET.reactive, VISUAL_WIDTH)

    def at(row: int, column: int) -> torch.Tensor:
        grid = torch.zeros(1, VISUAL_WIDTH, 9, 9)
        grid[:, :, row, column] = 3
        with torch.no_grad():
            return decoder(grid)[0]

    right, down = at(4, 6) - at(4, 4), at(6, 4) - at(4, 4)
    assert right.abs().max() > 1e-3 and down.abs().max() > 1e-3
    assert torch.cosine_similarity(right, down, dim=0).abs() < 0.9


def test_the_papers_token_grids_go_through() -> None:
    preset = load_any_preset("wan2_2_5b")
    with torch.device("meta"):
        network = AnyPosNetwork(preset, 14, 768)
        assert network(torch.empty(2, 37 * 37, 768), torch.empty(2, 80, 3072)).shape == (2, 14)


def test_the_reactive_expert_acts(weights: Path) -> None:
    expert = load_reactive_expert(preset_file(weights), weights=weights)
    observation, imagined = toy_observation(PRESET), imagination()
    [chunk] = expert.act([observation], [imagined])
    assert (chunk.source, chunk.chunk_id, chunk.positions.shape) == (Expert.REACTIVE, 5, (12, 2, 3))
    assert same(chunk, expert.act([observation], [imagined])[0])
    # Each target comes from its own frame and that frame's latent: changing the last frame moves the last target alone.
    frames = imagined.frames.copy()
    frames[12] = 255 - frames[12]
    [other] = expert.act([observation], [Imagination(1_000_000_000, 5, frames, 0.1, imagined.latents, imagined.hidden)])
    assert np.allclose(other.positions[:11], chunk.positions[:11], atol=1e-6)
    assert not np.allclose(other.positions[11], chunk.positions[11], atol=1e-6)
    hidden = imagined.hidden.copy()
    hidden[:, WIDTH : 2 * WIDTH] *= -1  # of latent frame 1, which frames 1 to 4 belong to
    [other] = expert.act([observation], [Imagination(1_000_000_000, 5, imagined.frames, 0.1, imagined.latents, hidden)])
    assert [not np.allclose(a, b, atol=1e-6) for a, b in zip(other.positions, chunk.positions, strict=True)] == [True] * 4 + [False] * 8


def test_weights_of_another_shape_or_none_are_refused(weights: Path, tmp_path: Path) -> None:
    wider = toy_preset(reactive={"channels": 32, "dilations": [1, 2], "orientations": 2, "hidden": 32})
    with pytest.raises(CheckpointError, match="do not match preset 'toy'"):
        load_wan_reactive_expert(wider, weights=weights)
    with pytest.raises(CheckpointError, match="hf download nobody/dinov2"):
        load_wan_reactive_expert(PRESET, weights=tmp_path)
    save_toy_vision(tmp_path)
    with pytest.raises(CheckpointError, match=r"no weights at .*reactive_expert\.safetensors"):
        load_wan_reactive_expert(PRESET, weights=tmp_path)


@pytest.mark.parametrize("load", [load_predictive_expert, load_reactive_expert])
def test_other_backends_are_refused(weights: Path, load) -> None:
    with pytest.raises(BackendError, match="backend 'torch' alone, not 'openvino'"):
        load(preset_file(weights), weights=weights, backend="openvino")


class OneEvaluation(torch.nn.Module):
    """The action transformer with its conditions one by one, as an engine takes them."""

    def __init__(self, network: ActionDiT) -> None:
        super().__init__()
        self.network = network

    def forward(self, noisy: torch.Tensor, timestep: torch.Tensor, *conditions: torch.Tensor) -> torch.Tensor:
        return self.network(noisy, timestep, Conditions(*conditions))


def test_the_expert_networks_export_and_become_engines(tmp_path: Path) -> None:
    """What a GPU would run: ONNX Runtime agrees with PyTorch on inputs it was not exported with, and TensorRT builds it."""
    torch.manual_seed(0)
    action = ActionDiT(PRESET, 14, SIZES)
    torch.nn.init.normal_(action.outputs.weight, std=0.1)
    pose = AnyPosNetwork(PRESET, 14, VISUAL_WIDTH)
    given = [
        (OneEvaluation(action), lambda: (torch.randn(1, 12, 14), torch.tensor([40]), *conditions(1))),
        (pose, lambda: (torch.randn(1, 9, VISUAL_WIDTH), torch.randn(1, 6, WIDTH))),
    ]
    for module, inputs in given:
        compiled = compile_module(module.eval(), inputs(), "onnx", cache_dir=tmp_path, threads=1)
        [agreement] = check(compiled, [inputs() for _ in range(3)])
        assert agreement.cosine >= LEAST_COSINE
        engine = build_engine(Network(type(module).__name__, module, inputs()), tmp_path, (8, 9))
        assert engine.file(ENGINE).stat().st_size > 10_000
