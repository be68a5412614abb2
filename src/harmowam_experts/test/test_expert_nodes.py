"""Both expert nodes over real DDS, around stand-in models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg

from harmowam_core import topics
from harmowam_core.messages import chunk_from_message, imagination_to_message, is_failure
from harmowam_core.qos import LATEST
from harmowam_core.stages import ActionChunk, Expert, Imagination
from harmowam_core.testing import FakeCell, graph, wait_for
from harmowam_experts.expert_node import ExpertNode
from harmowam_experts.predictive_expert_node import PredictiveExpertNode
from harmowam_experts.reactive_expert_node import ReactiveExpertNode

NODES = {Expert.PREDICTIVE: PredictiveExpertNode, Expert.REACTIVE: ReactiveExpertNode}


class StandIn:
    """Wants to stay where the arms are; remembers what it was given."""

    def __init__(self, source: Expert = Expert.PREDICTIVE) -> None:
        self.source = source
        self.observations: list = []

    def act(self, observations, imaginations):
        [observation], [imagination] = observations, imaginations
        self.observations.append(observation)
        repeat = partial(np.repeat, repeats=12, axis=0)
        return [
            ActionChunk(
                observation.stamp_ns, imagination.imagination_id, self.source, 0.1, ("left", "right"),
                repeat(observation.ee_position[None]), repeat(observation.ee_orientation[None]), repeat(observation.gripper[None]),
            )
        ]  # fmt: skip


class Raising(StandIn):
    """Raises while ``broken``."""

    broken = True

    def act(self, observations, imaginations):
        if self.broken:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return super().act(observations, imaginations)


class NotFinite(StandIn):
    """A NaN among its targets, slipped in after the chunk's own check."""

    def act(self, observations, imaginations):
        [chunk] = super().act(observations, imaginations)
        positions = chunk.positions.copy()
        positions[5, 1, 2] = np.nan
        return [ActionChunk(chunk.stamp_ns, 1, chunk.source, 0.1, chunk.arms, positions, chunk.orientations, chunk.grippers)]


Serve = Callable[[StandIn], tuple[FakeCell, ExpertNode, Callable[..., None]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Brings up a model's node; also gives a function that senses and publishes an imagination of the same stamp."""
    running = []

    def start(model: StandIn) -> tuple[FakeCell, ExpertNode, Callable[..., None]]:
        context = graph(partial(NODES[model.source], model))
        cell, [node] = context.__enter__()
        running.append(context)
        cell.listen(ActionChunkMsg, topics.chunk(model.source), LATEST)
        publisher = cell.create_publisher(ImaginationMsg, topics.IMAGINATION, LATEST)
        frames, latents, hidden = np.zeros((13, 64, 80, 3), np.uint8), np.zeros((13, 80, 12), np.float32), np.zeros((80, 16), np.float32)

        def imagine(late_s: float = 0.0, spoil: bool = False, **sense) -> None:
            stamp_ns = cell.sense(**sense)
            time.sleep(late_s)
            message = imagination_to_message(Imagination(stamp_ns, 7, frames, 0.1, latents, hidden))
            if spoil:
                message.hidden.shape[0] = 81
            publisher.publish(message)

        wait_for(lambda: node.active and publisher.get_subscription_count(), "active node")
        cell.set_task(1, "stack the cans")
        return cell, node, imagine

    yield start
    for context in running:
        context.__exit__(None, None, None)


@pytest.mark.parametrize("source", list(Expert))
def test_a_chunk_follows_each_imagination(serve: Serve, source: Expert) -> None:
    model = StandIn(source)
    cell, _, imagine = serve(model)
    heard = cell.heard[topics.chunk(source)]
    wait_for(lambda: heard, "chunk", meanwhile=partial(imagine, late_s=0.05, grey=55))
    chunk, observation = chunk_from_message(heard[-1]), model.observations[-1]
    assert (chunk.source, chunk.chunk_id, chunk.horizon) == (source, 7, 12)
    assert {name: image.shape for name, image in observation.images.items()} == {
        "scene": (64, 80, 3), "wrist_left": (48, 48, 3), "wrist_right": (48, 48, 3),
    }  # fmt: skip
    assert all((image == 55).all() for image in observation.images.values())
    assert observation.instruction == "stack the cans"
    assert observation.ee_position == pytest.approx(np.array([arm.home_tcp_position for arm in cell.cell.arms]), abs=1e-3)
    assert chunk.stamp_ns in [o.stamp_ns for o in model.observations]


def test_the_observation_is_of_the_imaginations_moment(serve: Serve) -> None:
    model = StandIn()
    cell, _, imagine = serve(model)
    wait_for(lambda: model.observations, "warm-up", meanwhile=imagine)
    time.sleep(0.3)
    model.observations.clear()
    stamp_ns = cell.sense(grey=10)
    time.sleep(0.15)
    cell.sense(grey=200)  # newer, and not meant
    time.sleep(0.05)
    frames = np.zeros((13, 64, 80, 3), np.uint8)
    message = imagination_to_message(
        Imagination(stamp_ns, 8, frames, 0.1, np.zeros((13, 80, 12), np.float32), np.zeros((80, 16), np.float32))
    )
    publisher = cell.create_publisher(ImaginationMsg, topics.IMAGINATION, LATEST)
    wait_for(publisher.get_subscription_count, "subscription")
    publisher.publish(message)
    wait_for(lambda: model.observations, "act")
    assert model.observations[0].stamp_ns == stamp_ns
    assert (model.observations[0].image("wrist_left") == 10).all()


def test_a_model_that_raises_is_reported_and_the_node_recovers(serve: Serve) -> None:
    model = Raising()
    cell, node, imagine = serve(model)
    wait_for(lambda: cell.diagnosis("predictive_expert")[0] == 2, "error in the diagnostics", meanwhile=imagine)
    assert "chunk: RuntimeError: mat1 and mat2" in cell.diagnosis("predictive_expert")[1]
    heard = cell.heard[topics.chunk(Expert.PREDICTIVE)]
    assert node.active and heard and all(is_failure(message) for message in heard)
    model.broken = False
    heard.clear()
    wait_for(lambda: heard and not is_failure(heard[-1]), "chunk", meanwhile=imagine)
    wait_for(lambda: cell.diagnosis("predictive_expert")[0] == 0, "recovery in the diagnostics", meanwhile=imagine)
    assert float(cell.diagnosis("predictive_expert")[2]["chunk p50 (ms)"]) < 1000


def test_a_nan_never_leaves_the_node(serve: Serve) -> None:
    cell, node, imagine = serve(NotFinite(Expert.REACTIVE))
    wait_for(lambda: cell.diagnosis("reactive_expert")[0] == 2, "error in the diagnostics", meanwhile=imagine)
    assert "positions[5, 1, 2] is nan" in cell.diagnosis("reactive_expert")[1]
    assert node.active and all(is_failure(message) for message in cell.heard[topics.chunk(Expert.REACTIVE)])


def test_what_is_missing_or_malformed_is_named(serve: Serve) -> None:
    model = StandIn()
    cell, node, imagine = serve(model)
    wrong = partial(imagine, cameras=("scene", "wrist_left"))
    wait_for(lambda: "image of camera 'wrist_right'" in cell.diagnosis("predictive_expert")[1], "the missing camera", meanwhile=wrong)
    wait_for(
        lambda: "tensor 'hidden'" in cell.diagnosis("predictive_expert")[1], "the malformed tensor", meanwhile=partial(imagine, spoil=True)
    )
    assert node.active and not model.observations


def test_the_wrong_expert_is_refused() -> None:
    with graph(partial(PredictiveExpertNode, StandIn(Expert.REACTIVE))) as (cell, [node]):
        wait_for(lambda: cell.diagnosis("predictive_expert")[0] == 2, "refusal")
        assert "the model is a reactive expert, expected a predictive one" in cell.diagnosis("predictive_expert")[1]
        assert not node.active
