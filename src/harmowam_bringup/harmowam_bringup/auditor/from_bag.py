"""Judges what a rosbag2 recorded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rclpy.serialization import deserialize_message  # rosbags' own refuses the padding that ROS leaves after a message
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rosbags.rosbag2 import Reader, ReaderError
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.auditor.audit import Measured, audit
from harmowam_core import topics
from harmowam_core.cell import Cell

TRAJECTORY, JOINT_STATE = "trajectory_msgs/msg/JointTrajectory", "sensor_msgs/msg/JointState"


def audit_bag(path: Path, cell: Cell) -> dict[str, Any]:
    """The verdict on a bag's command topics: a folder, or one .mcap or .db3 file of it. ValueError if it cannot be read."""
    commands = (cell.controllers.arm_topic, cell.controllers.gripper_topic)
    trajectories: list[tuple[str, int, Any]] = []
    joint_states: list[tuple[int, bytes]] = []
    try:
        with Reader(path) as bag:
            kinds = {**dict.fromkeys(commands, TRAJECTORY), topics.JOINT_STATES: JOINT_STATE}
            wanted = [connection for connection in bag.connections if kinds.get(connection.topic) == connection.msgtype]
            if not {connection.topic for connection in wanted} & set(commands):
                raise ValueError(f"{path} has no trajectories on {' or '.join(commands)}; it has {sorted(bag.topics)}")
            for connection, received_ns, data in bag.messages(connections=wanted):
                if connection.topic == topics.JOINT_STATES:
                    joint_states.append((received_ns, bytes(data)))
                else:
                    trajectories.append((connection.topic, received_ns, deserialize_message(bytes(data), JointTrajectory)))
    except (ReaderError, RuntimeError) as error:  # RuntimeError: what ROS raises for bytes that are no message
        raise ValueError(f"{path} is not a readable rosbag2: {error}") from error
    return audit(cell, trajectories, _measured(joint_states)).to_json()


def _measured(joint_states: list[tuple[int, bytes]]) -> Measured:
    """The joint state that was recorded last; decoded only when asked for."""

    def at(time_ns: int) -> Mapping[str, float] | None:
        index = bisect_right(joint_states, time_ns, key=lambda item: item[0]) - 1
        if index < 0:
            return None
        state = deserialize_message(joint_states[index][1], JointState)
        return dict(zip(state.name, state.position, strict=False))

    return at


def print_verdict(verdict: Mapping[str, Any], console: Console) -> None:
    """Broken rules with their counts, and the first violations."""
    console.print(f"{verdict['violations']} violations in {verdict['trajectories']} trajectories")
    if verdict["by_rule"]:
        table = Table("rule", "violations", box=None, pad_edge=False)
        for rule, count in _most_first(verdict["by_rule"].items()):
            table.add_row(rule, str(count))
        console.print(table)
    for text in verdict["first"]:
        console.print(Text(f"  {text}", style="yellow"))


def _most_first(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda item: -item[1])
