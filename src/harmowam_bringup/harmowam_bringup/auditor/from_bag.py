"""Judges what a rosbag2 recorded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harmowam_bringup.auditor.audit import Measured, audit
from harmowam_bringup.bags.bag import Bag
from harmowam_core import topics
from harmowam_core.cell import Cell

TRAJECTORY, JOINT_STATE = "trajectory_msgs/msg/JointTrajectory", "sensor_msgs/msg/JointState"


class NothingToJudgeError(ValueError):
    """A bag has no commands."""


def audit_bag(path: Path, cell: Cell) -> dict[str, Any]:
    """The verdict on a bag's command topics, and the reader's ``problems``. NothingToJudgeError if there are no commands."""
    commands = (cell.controllers.arm_topic, cell.controllers.gripper_topic)
    kinds = {**dict.fromkeys(commands, TRAJECTORY), topics.JOINT_STATES: JOINT_STATE}
    trajectories: list[tuple[str, int, Any]] = []
    states: list[tuple[int, Any]] = []
    with Bag(path) as bag:
        there = [topic for topic, kind in kinds.items() if topic in bag.topics and bag.topics[topic].msgtype == kind]
        if not set(there) & set(commands):
            raise NothingToJudgeError(f"{path} has no trajectories on {' or '.join(commands)}; it has {sorted(bag.topics)}")
        for item in bag.messages({topic: (kind,) for topic, kind in kinds.items()}):
            if item.topic == topics.JOINT_STATES:
                states.append((item.time_ns, item.message))
            else:
                trajectories.append((item.topic, item.published_ns, item.message))
        return {**audit(cell, trajectories, _measured(states)).to_json(), "problems": bag.problems.to_json()}


def _measured(states: list[tuple[int, Any]]) -> Measured:
    """The joint state that was recorded last."""

    def at(time_ns: int) -> Mapping[str, float] | None:
        index = bisect_right(states, time_ns, key=lambda item: item[0]) - 1
        return None if index < 0 else dict(zip(states[index][1].name, states[index][1].position, strict=False))

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
    for problem in verdict["problems"]:
        console.print(Text(f"  {problem['topic']}: {problem['trouble']}, {problem['count']} times: {problem['text']}", style="dim"))


def _most_first(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda item: -item[1])
