"""The world-model node over real DDS, around stand-in models."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from harmowam_msgs.msg import Drift as DriftMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from harmowam_core import topics
from harmowam_core.messages import drift_from_message, image_from_message, imagination_from_message
from harmowam_core.qos import LATEST
from harmowam_core.stages import Imagination
from harmowam_core.testing import FakeCell, graph, wait_for
from harmowam_world_model import world_model_node
from harmowam_world_model.drift import load_calibration
from harmowam_world_model.world_model_node import WorldModelNode


class StandIn:
    """Repeats the scene 13 times; remembers what it was asked."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.calls: list[tuple[int, str, object, int]] = []

    def imagine(self, observations, memories, seed=0):
        [observation], [memory] = observations, memories
        self.calls.append((observation.stamp_ns, observation.instruction, memory, seed))
        time.sleep(self.delay_s)
        frames = np.repeat(observation.image("scene")[None], 13, 0)
        zeros = np.zeros((13, 80, 12), np.float32)
        stamp_ns = observation.stamp_ns
        hidden = np.zeros((80, 16), np.float32)
        return [Imagination(stamp_ns, 7, frames, 0.1, zeros, hidden, timings_s={"denoising": 0.01})]


class Raising(StandIn):
    """Raises while ``broken``."""

    broken = True

    def imagine(self, observations, memories, seed=0):
        if self.broken:
            raise RuntimeError("out of memory, as a GPU would")
        return super().imagine(observations, memories, seed)


class NotFinite(StandIn):
    """Its latents hold a NaN."""

    def imagine(self, observations, memories, seed=0):
        [good] = super().imagine(observations, memories, seed)
        good.latents[3, 2, 1] = np.nan
        return [Imagination(good.stamp_ns, 1, good.frames, 0.1, good.latents, good.hidden)]


class Surprised(StandIn):
    """Imagines that all stays as it is; what it sees is ``code``."""

    code = 0.0

    def imagine(self, observations, memories, seed=0):
        [good] = super().imagine(observations, memories, seed)
        good.latents[:] = self.code
        return [good]


Serve = Callable[[StandIn], tuple[FakeCell, WorldModelNode]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Brings up the node around a model and listens to it."""
    running = []

    def start(model: StandIn) -> tuple[FakeCell, WorldModelNode]:
        context = graph(partial(WorldModelNode, model))
        cell, [node] = context.__enter__()
        running.append(context)
        cell.listen(ImaginationMsg, topics.IMAGINATION, LATEST)
        wait_for(lambda: node.active and cell.count_subscribers(topics.TASK), "active node")
        return cell, node

    yield start
    for context in running:
        context.__exit__(None, None, None)


def test_imagines_what_the_camera_sees_only_while_there_is_a_task(serve: Serve) -> None:
    model = StandIn()
    cell, _ = serve(model)
    cell.listen(Image, topics.PREVIEW, LATEST)
    heard = cell.heard[topics.IMAGINATION]
    for _ in range(6):
        cell.sense()
        time.sleep(0.05)
    assert not heard
    cell.set_task(1, "put the banana on the plate")
    wait_for(lambda: heard and cell.heard[topics.PREVIEW], "imagination and preview", meanwhile=lambda: cell.sense(grey=77))
    imagination = imagination_from_message(heard[-1])
    assert imagination.frames.shape == (13, 64, 80, 3) and (imagination.frames == 77).all()
    wait_for(lambda: len(heard) > 2, "more of them", meanwhile=cell.sense)
    ids = [message.imagination_id for message in heard]
    assert all(earlier < later for earlier, later in pairwise(ids)), "whatever the model and the clock that stamps say"
    assert imagination.stamp_ns in [call[0] for call in model.calls] and model.calls[0][1] == "put the banana on the plate"
    assert image_from_message(cell.heard[topics.PREVIEW][-1]).shape == (64, 5 * 80, 3)
    cell.set_task(0, "")
    time.sleep(0.3)
    heard.clear()
    for _ in range(6):
        cell.sense()
        time.sleep(0.05)
    assert not heard


def test_a_new_task_forgets_what_was_grounded(serve: Serve) -> None:
    model = StandIn()
    cell, _ = serve(model)
    for task_id, words in ((1, "stack the cans"), (2, "pick the pear")):
        cell.set_task(task_id, words)
        wait_for(lambda words=words: sum(c[1] == words for c in model.calls) >= 2, "two imaginations", meanwhile=cell.sense)
    memories = {words: {id(c[2]) for c in model.calls if c[1] == words} for words in ("stack the cans", "pick the pear")}
    assert [len(ids) for ids in memories.values()] == [1, 1]
    assert memories["stack the cans"] != memories["pick the pear"]


def test_a_slow_model_gets_the_newest_image_and_never_a_queue(serve: Serve) -> None:
    model = StandIn(delay_s=0.5)
    cell, node = serve(model)
    assert node.set_parameters([Parameter("rate", value=100.0)])[0].successful
    cell.set_task(1, "stack the cans")
    sent, end_s = [], time.monotonic() + 2.6
    while time.monotonic() < end_s:
        sent.append(cell.sense())
        time.sleep(0.05)
    stamps = [call[0] for call in model.calls]
    assert 2 <= len(stamps) <= 6, stamps
    # While one imagination took 0.5 s, about nine images came and went; the next began with one of the last of them.
    for earlier, later in pairwise(stamps[1:]):
        assert (later - earlier) * 1e-9 > 0.35
    values = wait_for(lambda: cell.diagnosis("world_model")[2].get("imagination p50 (ms)"), "diagnostics")
    assert float(values) >= 500


def test_the_rate_is_kept(serve: Serve) -> None:
    model = StandIn()
    cell, node = serve(model)
    assert node.set_parameters([Parameter("rate", value=4.0)])[0].successful
    cell.set_task(1, "stack the cans")
    wait_for(lambda: model.calls, "first imagination", meanwhile=cell.sense)
    begin = len(model.calls)
    end_s = time.monotonic() + 2.0
    while time.monotonic() < end_s:
        cell.sense()
        time.sleep(0.02)
    assert 3 <= len(model.calls) - begin <= 10


def test_a_model_that_raises_is_reported_and_the_node_recovers(serve: Serve) -> None:
    model = Raising()
    cell, node = serve(model)
    cell.set_task(1, "stack the cans")
    wait_for(lambda: cell.diagnosis("world_model")[0] == 2, "error in the diagnostics", meanwhile=cell.sense)
    assert "imagination: RuntimeError: out of memory" in cell.diagnosis("world_model")[1]
    assert node.active and not cell.heard[topics.IMAGINATION]
    model.broken = False
    wait_for(lambda: cell.heard[topics.IMAGINATION], "imagination", meanwhile=cell.sense)
    wait_for(lambda: cell.diagnosis("world_model")[0] == 0, "recovery in the diagnostics", meanwhile=cell.sense)


def test_a_nan_never_leaves_the_node(serve: Serve) -> None:
    cell, node = serve(NotFinite())
    cell.set_task(1, "stack the cans")
    wait_for(lambda: cell.diagnosis("world_model")[0] == 2, "error in the diagnostics", meanwhile=cell.sense)
    assert "latents[3, 2, 1] is nan" in cell.diagnosis("world_model")[1]
    assert node.active and not cell.heard[topics.IMAGINATION]


def test_drift_is_low_while_all_comes_as_imagined_and_high_after_a_surprise(serve: Serve) -> None:
    model = Surprised()
    cell, _ = serve(model)
    cell.listen(DriftMsg, topics.DRIFT, LATEST)
    heard = cell.heard[topics.DRIFT]
    cell.set_task(1, "stack the cans")
    wait_for(lambda: heard, "drift", meanwhile=cell.sense)
    assert drift_from_message(heard[-1]).score == 0 and 0.3 < drift_from_message(heard[-1]).horizon_s <= 1.2
    model.code = 3.0
    wait_for(lambda: drift_from_message(heard[-1]).score > 1, "drift after a surprise", meanwhile=cell.sense)
    wait_for(lambda: "not what was imagined" in cell.diagnosis("world_model")[1], "a warning", meanwhile=lambda: surprise(model, cell))
    assert cell.diagnosis("world_model")[0] == 1 and float(cell.diagnosis("world_model")[2]["drift score"]) > 1
    wait_for(lambda: cell.diagnosis("world_model")[0] == 0, "calm again", meanwhile=cell.sense)


def surprise(model: Surprised, cell: FakeCell) -> None:
    """Something else is seen every time."""
    model.code += 3.0
    cell.sense()


def test_without_a_calibration_drift_is_missing_and_that_is_said(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_model_node, "load_calibration", lambda _: load_calibration(tmp_path))
    cell, node = serve(StandIn())
    wait_for(lambda: cell.diagnosis("world_model")[0] == 1, "a warning in the diagnostics")
    assert "drift: not published: no calibration of drift at" in cell.diagnosis("world_model")[1] and node.active
    cell.set_task(1, "stack the cans")
    wait_for(lambda: len(cell.heard[topics.IMAGINATION]) > 2, "imaginations all the same", meanwhile=cell.sense)


@pytest.mark.parametrize(
    ("sense", "named"),
    [
        ({"joint_offset": float("nan")}, "joint_states.position of 'left_fr3_joint1' is nan"),
        ({"height": 32}, "camera 'scene': camera image is 160x32"),
    ],
)
def test_bad_sensors_are_named(serve: Serve, sense, named) -> None:
    cell, node = serve(StandIn())
    cell.set_task(1, "stack the cans")
    wait_for(lambda: named in cell.diagnosis("world_model")[1], f"'{named}'", meanwhile=lambda: cell.sense(**sense))
    assert node.active and not cell.heard[topics.IMAGINATION]


def test_walks_down_and_up_again(serve: Serve) -> None:
    model = StandIn()
    cell, node = serve(model)
    for transition in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure, node.trigger_activate):
        assert transition().name == "SUCCESS"
    cell.set_task(3, "stack the cans")
    wait_for(lambda: cell.heard[topics.IMAGINATION], "imagination", meanwhile=cell.sense)


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    arguments = ["--ros-args", "-p", "autostart_attempts:=1", "-p", f"weights_directory:={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "harmowam_world_model.world_model_node", *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(random.randint(1, 100))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"CheckpointError: no weights at {tmp_path}/world_model.safetensors" in done.stderr + done.stdout
