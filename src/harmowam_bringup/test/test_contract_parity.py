"""One contract: the same messages give exactly the same tensors live over DDS and from a bag."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from bag_writers import by_humble, by_mcap
from mcap.writer import CompressionType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.session import free_domain
from harmowam_core.cell import load_cell
from harmowam_core.contract import load_contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_to_message, joint_state_to_message, task_to_message
from harmowam_core.observation_feed import ObservationFeed
from harmowam_core.policy_node import PolicyNode
from harmowam_core.presets import load_preset
from harmowam_core.qos import LATCHED
from harmowam_core.stages import JointState, Observation
from harmowam_core.status import Task

CELL, PRESET, CONTRACT = load_cell(), load_preset(), load_contract()
KINEMATICS = Kinematics(CELL)
START_NS = 1_700_000_000 * 10**9
STAMPS_NS = [START_NS + k * 100_000_000 for k in range(4)]


def messages() -> list[tuple[str, int, Any]]:
    """A task, then four moments: joint states in the driver's order, cameras of three sizes and encodings, a little apart in time."""
    rng = np.random.default_rng(5)
    found: list[tuple[str, int, Any]] = [
        (CONTRACT.observation.instruction.topic, START_NS - 1, task_to_message(Task(START_NS, 1, "reach the lime")))
    ]
    names = CELL.finger_joint_names + CELL.arm_joint_names[::-1]
    for stamp_ns in STAMPS_NS:
        positions = np.concatenate([rng.uniform(-0.001, 0.041, 2), (KINEMATICS.home() + rng.normal(0, 0.05, 14))[::-1]])
        state = JointState(stamp_ns + 3_000_000, names, positions, rng.normal(size=16))
        found.append((CONTRACT.observation.joints.topic, stamp_ns + 4 * 10**6, joint_state_to_message(state)))
        for number, (camera, source) in enumerate(CONTRACT.observation.images.items()):
            height, width = ((480, 640), (96, 96), (120, 97))[number]
            image = rng.integers(0, 256, (height, width, 3), np.uint8)
            message = image_to_message(image, stamp_ns - number * 2_000_000, camera)
            message.encoding = ("rgb8", "bgr8", "rgb8")[number]
            found.append((source.topic, stamp_ns + 5 * 10**6 + number, message))
    return found


class Listener(PolicyNode):
    """The node that live models are served by, without a model."""

    def assembled(self) -> list[Observation]:
        """Observations of the four moments."""
        return [self._assembler.assemble(stamp_ns) for stamp_ns in STAMPS_NS]

    def complete(self) -> bool:
        """Whether the last moment has come by all topics."""
        return self.task is not None and self._assembler.covers(STAMPS_NS[-1] - 4_000_000)


@pytest.fixture(scope="module")
def live() -> list[Observation]:
    """What a live node assembles of messages that come over DDS."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=free_domain())
    rclpy.init(args=["--ros-args", "-p", "autostart:=false"], domain_id=context.get_domain_id())
    node, sender = Listener("listener", model=object()), Node("sender", context=context)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    publishers = {
        topic: sender.create_publisher(type(message), topic, LATCHED)
        for topic, message in {item[0]: item[2] for item in messages()}.items()
    }
    end_s = time.monotonic() + 30
    while any(publisher.get_subscription_count() == 0 for publisher in publishers.values()) and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.05)
    for topic, _, message in messages():
        publishers[topic].publish(message)
        executor.spin_once(timeout_sec=0.1)
    while not node.complete() and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.05)
    observations = node.assembled()
    node.destroy_node()
    sender.destroy_node()
    rclpy.shutdown()
    rclpy.shutdown(context=context)
    return observations


@pytest.mark.parametrize("layout", ["mcap", "mcap zstd", "sqlite3"])
def test_live_and_bag_give_the_same_tensors(layout: str, live: list[Observation], tmp_path: Path) -> None:
    if layout == "sqlite3":
        path = by_humble(tmp_path / "bag", messages())
    else:
        path = by_mcap(tmp_path / "a.mcap", messages(), CompressionType.ZSTD if "zstd" in layout else CompressionType.NONE)
    feed = ObservationFeed(CONTRACT, PRESET)
    with Bag(path) as bag:
        for item in bag.messages(feed.topics):
            feed.put(item.topic, item.message)
        assert not len(bag.problems)
    for stamp_ns, seen in zip(STAMPS_NS, live, strict=True):
        read = feed.observation(stamp_ns)
        assert read.images.keys() == seen.images.keys() and read.instruction == seen.instruction == "reach the lime"
        for camera, image in read.images.items():
            assert image.std() > 5 and image.dtype == seen.images[camera].dtype
            assert np.array_equal(image, seen.images[camera])
        for name in ("ee_position", "ee_orientation", "gripper"):
            assert getattr(read, name).dtype == getattr(seen, name).dtype
            assert np.array_equal(getattr(read, name), getattr(seen, name))
