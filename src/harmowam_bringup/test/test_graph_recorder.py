"""``harmowam record`` over DDS: everything that was sent is in the bag, with its quality of service, and what the run was about."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from sensor_msgs.msg import Image
from typer.testing import CliRunner

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.graph_recorder import Counter
from harmowam_bringup.bags.record import describe
from harmowam_bringup.cli import app
from harmowam_bringup.session import free_domain, isolated_environment
from harmowam_core import topics
from harmowam_core.messages import camera_info_from, depth_to_message, image_from_message
from harmowam_core.qos import SENSOR
from harmowam_core.testing import FakeCell

IMAGE, DEPTH = topics.camera_image("scene"), "/camera/scene/depth/image_rect_raw"


@pytest.fixture
def cell() -> Iterator[FakeCell]:
    rclpy.init(domain_id=free_domain())
    node = FakeCell()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def record(cell: FakeCell, folder: Path, *options: str) -> subprocess.Popen[str]:
    """The command, listening to all that the cell publishes."""
    command = [sys.executable, "-c", "from harmowam_bringup.cli import main; main()", "record", "--out", str(folder), *options]
    environment = isolated_environment(cell.context.get_domain_id())
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end_s = time.monotonic() + 30
    while any(cell.count_subscribers(topic) == 0 for topic in (IMAGE, topics.JOINT_STATES, topics.TASK)):
        assert process.poll() is None and time.monotonic() < end_s
        time.sleep(0.1)
    time.sleep(0.3)
    return process


@pytest.mark.parametrize("options", [(), ("--compress-images", "jpeg", "--all")])
def test_what_was_sent_is_in_the_bag(options: tuple[str, ...], cell: FakeCell, tmp_path: Path) -> None:
    infos = cell.create_publisher(type(camera_info_from(cell.cell.cameras[0], 0)), topics.camera_info("scene"), SENSOR)
    depth = cell.create_publisher(Image, DEPTH, SENSOR)
    cell.set_task(1, "put the lime on the plate")  # latched: it was given before the recorder came
    with record(cell, tmp_path / "bag", *options) as process:
        stamps = []
        for k in range(20):
            stamps.append(cell.sense(grey=10 * k))
            infos.publish(camera_info_from(cell.cell.cameras[0], stamps[-1]))
            depth.publish(depth_to_message(np.full((4, 5), k, np.uint16), stamps[-1], "scene"))
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM if options else signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and re.search(r"\d+ messages, .* 0 lost", output), output
    image = IMAGE + "/compressed" if options else IMAGE
    with Bag(tmp_path / "bag") as bag:
        images = {item.stamp_ns: image_from_message(item.message) for item in bag.messages([image])}
        assert list(images) == stamps and [round(float(np.mean(pixels))) for pixels in images.values()] == [10 * k for k in range(20)]
        if options:  # what is no colour is stored as it came
            assert [item.message.data[0] for item in bag.messages([DEPTH])] == list(range(20)) and f"{DEPTH}/compressed" not in bag.topics
        joints = list(bag.messages([topics.JOINT_STATES]))
        assert [item.stamp_ns for item in joints] == stamps and all(0 <= item.time_ns - item.stamp_ns < 10**9 for item in joints)
        assert bag.topics[topics.TASK].count == 1
        [profile] = yaml.safe_load(bag.topics[image].qos)
        assert profile["reliability"] == "best_effort" and yaml.safe_load(bag.topics[topics.TASK].qos)[0]["durability"] == "transient_local"
        assert json.loads(bag.custom_data["tasks"]) == [{"task_id": 1, "instruction": "put the lime on the plate"}]
        assert json.loads(bag.custom_data["calibration"])[topics.camera_info("scene")]["width"] == 160
        assert json.loads(bag.custom_data["cell_profile"])["name"] == "franka_dual" and bag.custom_data["preset"] == "compact"
        assert "commit" in bag.custom_data and not len(bag.problems)
    alone = describe("compact", cell_name="ur5e_robotiq")
    assert alone["cell"] == "ur5e_robotiq" and not {"preset", "contract"} & set(alone), "a robot without the policy"
    assert process.args and (tmp_path / "bag/metadata.yaml").is_file()


def test_a_killed_recorder_leaves_a_bag(cell: FakeCell, tmp_path: Path) -> None:
    with record(cell, tmp_path / "bag") as process:
        cell.set_task(1, "put the lime on the plate")
        for k in range(40):
            cell.sense(grey=k)
            time.sleep(0.05)
        process.kill()
    with Bag(tmp_path / "bag") as bag:
        assert "put the lime on the plate" in bag.custom_data["tasks"]
        seen = [round(float(np.mean(image_from_message(item.message)))) for item in bag.messages([IMAGE])]
    assert seen == list(range(len(seen))) and len(seen) >= 20  # the last second may be missing


def test_losses_are_counted_by_the_publishers_numbers() -> None:
    counter = Counter()
    for sequence in (1, 2, 5, 6, 1, 2):  # two are missing; then the publisher starts again
        counter.receive(sequence)
    assert (counter.received, counter.lost) == (6, 2)
    several = Counter(publishers=2)
    for sequence in (1, 40, 2):
        several.receive(sequence)
    assert (several.received, several.lost) == (3, 0)  # whose numbers they are is not known


def test_the_folder_must_be_new(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["record", "--out", str(tmp_path)])
    assert result.exit_code == 2 and "exists already" in result.output
