"""The compact experts: pose numbers are invertible, the predictive expert is relative to the hand, the reactive one is anchored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from harmowam_core.hands import WORKSPACE_CENTRE, hand_vector
from harmowam_core.presets import load_preset
from harmowam_core.stages import Expert, GroundedPoint, Imagination, Observation
from harmowam_experts.poses import decode_deltas, encode_deltas, rotation_6d, rotation_from_6d
from harmowam_experts.predictive import STATE, PredictiveExpert, PredictiveInputs, PredictiveNetwork, predictive_loss, state_vector
from harmowam_experts.reactive import POSITION_SCALE, ReactiveExpert, ReactiveNetwork

PRESET = load_preset()
seeds = st.integers(0, 2**32 - 1)


def random_poses(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    position = rng.uniform(-0.5, 0.5, (*shape, 3)).astype(np.float32)
    orientation = Rotation.random(int(np.prod(shape)), rng=rng).as_quat().reshape(*shape, 4).astype(np.float32)
    return position, orientation


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_deltas_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    position, orientation = random_poses(rng, 2)
    positions, orientations = random_poses(rng, 12, 2)
    grippers = rng.uniform(0, 1, (12, 2)).astype(np.float32)
    back = decode_deltas(position, orientation, encode_deltas(position, orientation, positions, orientations, grippers))
    np.testing.assert_allclose(back[0], positions, atol=1e-5)
    assert np.abs((back[1] * orientations).sum(-1)).min() > 1 - 1e-5  # equal up to the quaternion's sign
    np.testing.assert_allclose(back[2], grippers, atol=1e-6)


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_rotation_6d_round_trip(seed: int) -> None:
    _, orientation = random_poses(np.random.default_rng(seed), 5)
    back = rotation_from_6d(rotation_6d(orientation)).as_quat()
    assert np.abs((back * orientation).sum(-1)).min() > 1 - 1e-5


def observation(shift_m: float = 0.0, stamp_ns: int = 3) -> Observation:
    rng = np.random.default_rng(0)
    images = {"scene": rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)}
    images |= {f"wrist_{arm}": rng.integers(0, 255, (48, 48, 3), dtype=np.uint8) for arm in ("left", "right")}
    position = np.float32([[0.5, 0.1, 0.2], [0.3, -0.4, 0.3]])
    position[:, 1] += shift_m
    return Observation(stamp_ns, images, position, np.tile(np.float32([1, 0, 0, 0]), (2, 1)), np.ones(2, np.float32), "lift the red block")


def imagination(shift_m: float = 0.0, stamp_ns: int = 3) -> Imagination:
    rng = np.random.default_rng(1)
    points = tuple(GroundedPoint(n, np.zeros(2, np.float32), np.float32([0.5, 0.2 + shift_m, 0.02]), 0.8) for n in ("target", "goal"))
    return Imagination(
        stamp_ns, 9, np.zeros((13, 64, 80, 3), np.uint8), 0.1, rng.normal(size=(13, 80, PRESET.autoencoder.latent)).astype(np.float32),
        rng.normal(size=(80, PRESET.transformer.dim)).astype(np.float32), points,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["predictive", "reactive"])
def expert(request):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if request.param == "predictive":
        return PredictiveExpert(PRESET, PredictiveNetwork(PRESET))
    return ReactiveExpert(PRESET, ReactiveNetwork(PRESET))


def test_chunk_follows_the_protocol(expert) -> None:
    chunk = expert.act([observation()], [imagination()])[0]
    assert chunk.source == expert.source
    assert isinstance(chunk.source, Expert)
    assert (chunk.stamp_ns, chunk.chunk_id, chunk.horizon, chunk.arms) == (3, 9, 12, ("left", "right"))
    again = expert.act([observation()], [imagination()])[0]
    np.testing.assert_array_equal(chunk.positions, again.positions)


def test_state_saturates_and_ignores_where_the_hand_is() -> None:
    def state(shift: float, target_y: float) -> np.ndarray:
        o = observation(shift)
        points = np.float32([[[0.5, target_y + shift, 0.02], [0.5, 0.3 + shift, 0.02]]])
        return state_vector(o.ee_position[None], o.ee_orientation[None], o.gripper[None], points, np.ones((1, 2), np.float32))

    assert state(0, 0.2).shape == (1, STATE)
    np.testing.assert_allclose(state(0, 0.2), state(0.15, 0.2), atol=1e-5)
    np.testing.assert_allclose(state(0, 0.9), state(0, 1.2), atol=1e-4)
    assert np.abs(state(0, 0.11) - state(0, 0.13)).max() > 0.3


def test_state_tells_the_next_point_alone_to_the_nearest_hand() -> None:
    position = np.float32([[[0.5, 0.1, 0.1], [0.3, -0.4, 0.3]]])
    down = np.float32([[[1, 0, 0, 0], [1, 0, 0, 0]]])
    sure = np.float32([[0.9, 0.7]])

    def state(opening: float, target: tuple[float, ...], goal: tuple[float, ...]) -> np.ndarray:
        return state_vector(position, down, np.float32([[opening, 1.0]]), np.float32([[target, goal]]), sure)[0]

    here, there, elsewhere = (0.5, 0.12, 0.02), (0.45, 0.3, 0.02), (0.6, -0.1, 0.02)
    np.testing.assert_allclose(state(1.0, here, there), state(1.0, here, elsewhere), atol=0.01)  # an open hand goes to the target
    np.testing.assert_allclose(state(0.5, here, there), state(0.5, elsewhere, there), atol=0.01)  # a full one to the goal
    assert np.abs(state(1.0, here, there) - state(1.0, elsewhere, there)).max() > 0.3
    assert (state(1.0, here, there)[-2], state(0.5, here, there)[-2]) == (sure[0, 0], sure[0, 1])
    assert state(1.0, here, here)[-1] == 0 and state(1.0, here, there)[-1] > 0.9  # whether there is anything left to do
    right = state(1.0, here, there)[12:24]
    assert not right[6:].any()  # the other hand is told nothing


def test_reactive_expert_is_anchored_at_the_measured_pose() -> None:
    torch.manual_seed(0)
    network = ReactiveNetwork(PRESET)
    torch.nn.init.zeros_(network.hands[-1].weight)  # or it would be told that the points are elsewhere
    reactive = ReactiveExpert(PRESET, network)
    near, far = (reactive.act([observation(shift)], [imagination()])[0] for shift in (0.0, 0.1))
    np.testing.assert_allclose(far.positions - near.positions, np.tile(np.float32([0, 0.1, 0]), (12, 2, 1)), atol=1e-5)


def test_reactive_expert_is_told_where_the_points_are() -> None:
    torch.manual_seed(0)
    reactive = ReactiveExpert(PRESET, ReactiveNetwork(PRESET))
    dream = imagination()
    moved = replace(dream, grounding=tuple(replace(p, position=p.position + np.float32([0, 0.1, 0])) for p in dream.grounding))
    here, there = (reactive.act([observation()], [d])[0] for d in (dream, moved))
    assert np.abs(there.positions - here.positions).max() > 1e-4


def test_reactive_network_learns_the_way_to_the_target() -> None:
    """From the hands alone, with frames that show nothing: at frame k the hand is k twelfths of the way."""
    torch.manual_seed(0)
    network = ReactiveNetwork(PRESET)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    generator = np.random.default_rng(0)

    def batch(size: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        position = generator.uniform(-0.2, 0.2, (size, 2, 3)).astype(np.float32) + np.float32([0.5, 0, 0.2])
        points = generator.uniform(-0.2, 0.2, (size, 2, 3)).astype(np.float32) + np.float32([0.5, 0, 0.2])
        frame = generator.integers(0, PRESET.frames, size)
        down = np.tile(np.float32([1, 0, 0, 0]), (size, 2, 1))
        hands = hand_vector(position, down, np.ones((size, 2), np.float32), points)
        there = position + (points[:, :1] - position) * (frame / 12).astype(np.float32)[:, None, None]
        shown = torch.zeros(size, 80, PRESET.autoencoder.latent), torch.zeros(size, 80, PRESET.transformer.dim)
        return (*shown, torch.from_numpy(hands), torch.from_numpy(frame)), torch.from_numpy((there - WORKSPACE_CENTRE) / POSITION_SCALE)

    def error(size: int) -> torch.Tensor:
        inputs, wanted = batch(size)
        return torch.nn.functional.smooth_l1_loss(network(*inputs)[..., :3], wanted, beta=0.1)

    before = error(256).item()
    for _ in range(60):
        optimizer.zero_grad()
        error(64).backward()
        optimizer.step()
    assert error(256).item() < 0.5 * before


def test_still_frames_mean_no_motion() -> None:
    torch.manual_seed(0)
    network = ReactiveNetwork(PRESET)
    torch.nn.init.zeros_(network.frame.weight)
    still = imagination()
    still.latents[:] = still.latents[0]
    chunk = ReactiveExpert(PRESET, network).act([observation()], [still])[0]
    np.testing.assert_allclose(chunk.positions, np.tile(observation().ee_position, (12, 1, 1)), atol=1e-5)
    assert np.abs((chunk.orientations * observation().ee_orientation).sum(-1)).min() > 1 - 1e-6


def test_predictive_network_learns_and_masks() -> None:
    torch.manual_seed(0)
    network = PredictiveNetwork(PRESET)
    batch = 4
    inputs = PredictiveInputs(
        torch.rand(batch, 2, 3, 48, 48), torch.randn(batch, 80, PRESET.transformer.dim), torch.randn(batch, 80, PRESET.autoencoder.latent),
        torch.rand(batch, 2, 2) - 0.5, torch.randn(batch, STATE), torch.randn(batch, 384),
    )  # fmt: skip
    chunk, weight = torch.randn(batch, 12, 14), torch.ones(batch, 12)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    values = []
    for _ in range(30):
        value = predictive_loss(network, inputs, chunk, weight)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert np.mean(values[-5:]) < 0.7 * np.mean(values[:5])
    assert predictive_loss(network, inputs, chunk, torch.zeros(batch, 12)).item() == 0


def test_wrong_wrist_size_is_named() -> None:
    torch.manual_seed(0)
    wrong = observation()
    wrong.images["wrist_left"] = wrong.images["wrist_right"] = np.zeros((24, 24, 3), np.uint8)  # type: ignore[index]
    with pytest.raises(ValueError, match="wrist images"):
        PredictiveExpert(PRESET, PredictiveNetwork(PRESET)).act([wrong], [imagination()])
