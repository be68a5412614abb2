"""The compact world model's parts obey their contracts; tiny trainings lower their losses."""

import numpy as np
import pytest
import torch

from harmowam_core.hands import hand_vector
from harmowam_core.presets import load_preset
from harmowam_core.stages import GroundedPoint, Observation
from harmowam_world_model.autoencoder import Autoencoder, autoencoder_loss
from harmowam_world_model.compact import CompactWorldModel, WorldModelNetworks
from harmowam_world_model.grounding import Grounding, grounding_loss, read_heat_maps
from harmowam_world_model.protocol import GroundingMemory
from harmowam_world_model.transformer import Conditions, VideoTransformer, flow_matching_loss, goal_channels, sample_residual

PRESET = load_preset()


@pytest.fixture(scope="module")
def world_model() -> CompactWorldModel:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return CompactWorldModel(PRESET, WorldModelNetworks(PRESET))


def observation(stamp_ns: int = 7, shade: int = 90) -> Observation:
    image = np.random.default_rng(shade).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    down = np.tile(np.float32([1, 0, 0, 0]), (2, 1))
    return Observation(stamp_ns, {"scene": image}, np.full((2, 3), 0.3, np.float32), down, np.ones(2, np.float32), "lift the red block")


def test_imagination_has_the_documented_shape(world_model: CompactWorldModel) -> None:
    imagination = world_model.imagine([observation()], [GroundingMemory()])[0]
    assert imagination.frames.shape == (13, 64, 80, 3)
    assert imagination.latents.shape == (13, 80, PRESET.autoencoder.latent)
    assert imagination.hidden.shape == (80, PRESET.transformer.dim)
    assert [p.label for p in imagination.grounding] == ["target", "goal"]
    assert imagination.stamp_ns == 7


def test_noise_depends_on_the_stamp_and_the_seed_only(world_model: CompactWorldModel) -> None:
    def frames(stamp_ns: int, seed: int, batch: int) -> np.ndarray:
        return world_model.imagine([observation(stamp_ns)] * batch, [GroundingMemory() for _ in range(batch)], seed)[-1].latents

    np.testing.assert_array_equal(frames(7, 0, 1), frames(7, 0, 1))
    np.testing.assert_allclose(frames(7, 0, 1), frames(7, 0, 3), atol=0.15)  # a batch rounds differently in bfloat16
    assert np.abs(world_model._noise(7, 0) - world_model._noise(8, 0)).max() > 0.1
    assert np.abs(world_model._noise(7, 0) - world_model._noise(7, 1)).max() > 0.1


def test_wrong_image_size_is_named(world_model: CompactWorldModel) -> None:
    wrong = Observation(
        1,
        {"scene": np.zeros((32, 40, 3), np.uint8)},
        *(getattr(observation(), n) for n in ("ee_position", "ee_orientation", "gripper")),
        "go",
    )
    with pytest.raises(ValueError, match="needs"):
        world_model.imagine([wrong], [GroundingMemory()])


def test_memory_keeps_the_last_confident_point() -> None:
    def point(u: float, confidence: float) -> GroundedPoint:
        return GroundedPoint("target", np.float32([u, 1]), np.zeros(3, np.float32), confidence)

    memory, over_it = GroundingMemory(), np.zeros((2, 3), np.float32)  # a target may be pushed: a hand over it changes nothing
    assert memory.update(point(1, 0.1), 0.25, over_it).pixel[0] == 1  # nothing better yet
    assert memory.update(point(2, 0.9), 0.25, over_it).pixel[0] == 2
    assert memory.update(point(3, 0.1), 0.25, over_it).pixel[0] == 2
    assert memory.update(point(4, 0.3), 0.25, over_it).pixel[0] == 4


def test_memory_does_not_follow_the_hand_that_hides_the_goal() -> None:
    def goal(x: float) -> GroundedPoint:
        return GroundedPoint("goal", np.zeros(2, np.float32), np.float32([x, 0.3, 0.1]), 0.9)

    def hands(x: float) -> np.ndarray:
        return np.float32([[x, 0.3, 0.2], [0.5, -0.4, 0.3]])

    memory = GroundingMemory()
    assert memory.update(goal(0.50), 0.25, hands(0.1)).position[0] == np.float32(0.50)
    assert memory.update(goal(0.51), 0.25, hands(0.3)).position[0] == np.float32(0.51)  # in clear view the newest stands
    assert memory.update(goal(0.54), 0.25, hands(0.55)).position[0] == np.float32(0.51)
    assert memory.update(goal(0.52), 0.25, hands(0.7)).position[0] == np.float32(0.52)  # the hand has left
    blind = GroundingMemory()  # begun with the hand over the goal: a guess is better than none
    assert blind.update(goal(0.50), 0.25, hands(0.5)).position[0] == np.float32(0.50)
    assert blind.update(goal(0.51), 0.25, hands(0.5)).position[0] == np.float32(0.51)


def test_residual_and_future_are_inverse() -> None:
    networks = WorldModelNetworks(PRESET)
    networks.residual_scale.copy_(torch.linspace(0.5, 2, 12))
    latents = torch.randn(2, 13, PRESET.autoencoder.latent, 8, 10)
    torch.testing.assert_close(networks.future(networks.residual(latents), latents[:, 0]), latents)


def test_heat_map_reading_is_sub_pixel() -> None:
    rows, columns = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(40) + 0.5, indexing="ij")
    u, v = 21.3, 33.8
    logits = -((columns * 2 - u) ** 2 + (rows * 2 - v) ** 2) / (2 * 1.6**2)
    pixel, confidence = read_heat_maps(logits[None, None])
    np.testing.assert_allclose(pixel[0, 0], [u, v], atol=0.15)
    assert confidence[0, 0] > 0.9


def test_goal_channels_point_at_the_goal() -> None:
    channels = goal_channels(torch.tensor([[[36.0, 28.0], [4.0, 60.0]]]), (8, 10), (64, 80))
    assert channels.shape == (1, 6, 8, 10)
    peak = channels[0, 4].flatten().argmax()
    assert (peak // 10, peak % 10) == (3, 4)  # the token whose centre is (36, 28)
    assert channels[0, 0, 3, 4] == 0
    assert channels[0, 0, 3, 0] > 0  # left of it, the offset points right


def test_hands_are_told_their_yaw_and_the_way_to_the_grounded_points() -> None:
    half = np.pi / 8
    turned = np.float32([np.cos(half), np.sin(half), 0, 0])  # tool down, turned by 45 degrees about the base's z
    points = np.float32([[0.15, 0, 0], [0, -0.3, 9]])
    vector = hand_vector(np.zeros((2, 3), np.float32), np.stack([turned, turned]), np.ones(2, np.float32), points)
    np.testing.assert_allclose(vector[4:6], [np.sin(2 * half), np.cos(2 * half)], atol=1e-6)
    np.testing.assert_allclose(vector[6:12], [1, 0, 0, 0, -2, 4], atol=1e-6)


def losses(module: torch.nn.Module, loss, steps: int, rate: float = 2e-3) -> list[float]:
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), rate)
    values = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


def test_autoencoder_learns_a_picture() -> None:
    torch.manual_seed(0)
    model = Autoencoder(PRESET.autoencoder)
    frames = torch.rand(2, 3, 8, 10).repeat_interleave(8, 2).repeat_interleave(8, 3)
    values = losses(model, lambda: autoencoder_loss(model, frames, torch.ones(2, 1, 64, 80))[0], 60, rate=5e-4)
    assert np.mean(values[-5:]) < 0.6 * values[0]


def test_grounding_learns_which_of_two_blobs_is_meant() -> None:
    torch.manual_seed(0)
    model = Grounding(PRESET.grounding, 384)
    images = torch.zeros(2, 3, 64, 80)
    images[:, 0, 20:24, 20:24] = 1
    images[:, 2, 40:44, 60:64] = 1
    text = torch.randn(2, 25, 384)  # two different instructions, the same picture
    pixels = torch.tensor([[[22.0, 22.0], [62.0, 42.0]], [[62.0, 42.0], [22.0, 22.0]]])
    losses(model, lambda: grounding_loss(model(images, text), pixels, torch.full((2, 2), 0.05), torch.ones(2, 2, dtype=torch.bool)), 60)
    with torch.inference_mode():
        found, _ = read_heat_maps(model(images, text).logits)
    assert (found - pixels).norm(dim=-1).max() < 2.0


def test_transformer_learns_a_residual() -> None:
    torch.manual_seed(0)
    model = VideoTransformer(PRESET)
    conditions = Conditions(
        torch.randn(4, PRESET.autoencoder.latent, 8, 10), torch.randn(4, 6, 8, 10), torch.randn(4, 384), torch.randn(4, 24)
    )
    residual = torch.randn(4, 12 * PRESET.autoencoder.latent, 8, 10)
    values = losses(model, lambda: flow_matching_loss(model, residual, conditions), 30)
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])
    with torch.inference_mode():
        sampled, hidden = sample_residual(model, torch.randn_like(residual), conditions, 5)
    assert sampled.shape == residual.shape
    assert hidden.shape == (4, 80, PRESET.transformer.dim)
