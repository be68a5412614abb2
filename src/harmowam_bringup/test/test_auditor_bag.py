"""``harmowam audit`` of bags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import JointState
from trajectories import ARM_TOPIC, ARMS, HOME, NOW_NS, move
from typer.testing import CliRunner

from harmowam_bringup.cli import app
from harmowam_core import topics

SECOND = 10**9
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


def test_what_is_no_bag_of_a_cell_is_named(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", (topics.JOINT_STATES, NOW_NS, JointState()))
    for path, words in ((bag, "no trajectories on /arm_controller"), (tmp_path / "none", "none"), (Path(__file__), "not a readable")):
        result = run(app, ["audit", str(path)])
        assert result.exit_code == 2 and words in result.output.replace("\n", " ")
    (bag / "metadata.yaml").write_text("no: bag")
    assert run(app, ["audit", str(bag)]).exit_code == 2
