"""``harmowam audit`` of bags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import JointState
from trajectories import ARM_TOPIC, ARMS, HOME, NOW_NS, move, parting
from typer.testing import CliRunner

from harmowam_bringup.bags.bag_writer import BagWriter, RecordedTopic
from harmowam_bringup.cli import app
from harmowam_core import topics

SECOND, MS = 10**9, 10**6
TYPES = get_typestore(Stores.ROS2_JAZZY)
KINDS = {"JointTrajectory": "trajectory_msgs/msg/JointTrajectory", "JointState": "sensor_msgs/msg/JointState"}
run = CliRunner().invoke


def write(path: Path, *messages: tuple[str, int, object], storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A bag of (topic, time, message), serialized by ROS itself."""
    with Writer(path, version=9, storage_plugin=storage) as bag:
        kinds = {topic: KINDS[type(message).__name__] for topic, _, message in messages}
        connections = {topic: bag.add_connection(topic, kind, typestore=TYPES) for topic, kind in kinds.items()}
        for topic, time_ns, message in messages:
            bag.write(connections[topic], time_ns, serialize_message(message))
    return path


@pytest.mark.parametrize("storage", list(StoragePlugin))
def test_a_bag_is_judged(tmp_path: Path, storage: StoragePlugin) -> None:
    later = NOW_NS + SECOND
    bag = write(tmp_path / "bag", (ARM_TOPIC, NOW_NS, move()), (ARM_TOPIC, later, move(begin=HOME + 0.2, stamp_ns=later)), storage=storage)
    result = run(app, ["audit", str(bag), "--json", str(tmp_path / "verdict.json")])
    assert result.exit_code == 1 and "1 violations in 2 trajectories" in result.output and "position_jump" in result.output
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["by_rule"] == {"position_jump": 1} and verdict["first"][0].startswith("arm #1 position_jump")
    [file] = [path for path in bag.iterdir() if path.suffix != ".yaml"]
    assert json.loads(run(app, ["audit", str(file), "--json", "-"]).stdout) == verdict


def test_joint_states_explain_a_new_beginning(tmp_path: Path) -> None:
    later = NOW_NS + SECOND
    state = JointState(name=list(ARMS.joints), position=(HOME + 0.2).tolist())
    commands = (ARM_TOPIC, NOW_NS, move()), (ARM_TOPIC, later, move(begin=HOME + 0.2, stamp_ns=later))
    bag = write(tmp_path / "bag", commands[0], (topics.JOINT_STATES, later - 1, state), commands[1])
    assert run(app, ["audit", str(bag)]).exit_code == 0


@pytest.mark.parametrize(("sent_after_ms", "judged"), [(200, 0), (380, 1), (-3_600_000, 1)])
def test_a_recorder_that_is_late_makes_no_trajectory_late(tmp_path: Path, sent_after_ms: int, judged: int) -> None:
    """Recorded 400 ms after the one that it replaces; when it was sent counts, unless by another clock."""
    commands = ((NOW_NS, NOW_NS, move()), (NOW_NS + 400 * MS, NOW_NS + sent_after_ms * MS, parting()))
    with BagWriter(tmp_path / "bag", {}) as writer:
        channel = writer.add_topic(RecordedTopic(ARM_TOPIC, KINDS["JointTrajectory"]))
        for received_ns, sent_ns, command in commands:
            writer.write(channel, received_ns, sent_ns, serialize_message(command))
    result = run(app, ["audit", str(tmp_path / "bag")])
    assert result.exit_code == judged and ("position_jump" in result.output) == bool(judged)


def test_what_is_no_bag_of_a_cell_is_named(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", (topics.JOINT_STATES, NOW_NS, JointState()))
    for path, words in ((bag, "no trajectories on /arm_controller"), (tmp_path / "none", "none"), (Path(__file__), "not a readable")):
        result = run(app, ["audit", str(path)])
        assert result.exit_code == 2 and words in result.output.replace("\n", " ")
    (bag / "metadata.yaml").write_text("no: bag")
    assert run(app, ["audit", str(bag)]).exit_code == 2
