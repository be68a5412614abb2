"""The auditor finds every kind of bad trajectory, and nothing in good ones."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from harmowam_bringup.auditor import Auditor, arm_limits, audit, gripper_limits, summarise
from harmowam_core.cell import load_cell

CELL = load_cell()
LIMITS = arm_limits(CELL)
HOME = (LIMITS.lower + LIMITS.upper) / 2
NOW_S = 1_000.0


def smooth(start_s: float = NOW_S, begin: np.ndarray = HOME, move: float = 0.05, seconds: float = 0.5, points: int = 6) -> JointTrajectory:
    """A minimum-jerk move of every joint, at rest at both ends."""
    message = JointTrajectory(joint_names=list(LIMITS.joints))
    message.header.stamp.sec, message.header.stamp.nanosec = int(start_s), round((start_s % 1) * 1e9)
    for t in np.linspace(0, seconds, points):
        s = t / seconds
        position = begin + move * (10 * s**3 - 15 * s**4 + 6 * s**5)
        velocity = move / seconds * (30 * s**2 - 60 * s**3 + 30 * s**4)
        acceleration = move / seconds**2 * (60 * s - 180 * s**2 + 120 * s**3)
        point = JointTrajectoryPoint(
            positions=list(position), velocities=[velocity] * len(position), accelerations=[acceleration] * len(position)
        )
        point.time_from_start.sec, point.time_from_start.nanosec = int(t), round((t % 1) * 1e9)
        message.points.append(point)
    return message


def rules(*messages: Any, received_s: float = NOW_S) -> list[str]:
    return [violation.rule for violation in audit([(received_s, message) for message in messages], LIMITS).violations]


def test_sound_trajectories_pass() -> None:
    first = smooth()
    assert rules(first) == []
    follow_on = smooth(NOW_S + 0.6, begin=HOME + 0.05)
    assert [v.rule for v in audit([(NOW_S, first), (NOW_S + 0.6, follow_on)], LIMITS).violations] == []


def test_splitting_a_move_at_any_time_is_continuous() -> None:
    """The remainder of a move, sent again from where the arm is, has no seam."""
    whole = smooth(points=11)
    for split in range(1, 10):
        rest = smooth(points=11)
        rest.points = rest.points[split:]
        assert rules(whole, rest) == []


@given(joint=st.integers(0, 13), point=st.integers(0, 5), name=st.sampled_from(["positions", "velocities", "accelerations"]),
       value=st.sampled_from([math.nan, math.inf, -math.inf]))  # fmt: skip
def test_whatever_is_not_finite_is_found(joint: int, point: int, name: str, value: float) -> None:
    message = smooth()
    getattr(message.points[point], name)[joint] = value
    assert rules(message) == ["not finite"]


def damaged(kind: str) -> JointTrajectory:
    message = smooth()
    match kind:
        case "joint names":
            message.joint_names = message.joint_names[::-1]
        case "no points":
            message.points = []
        case "number of positions":
            message.points[2].positions = message.points[2].positions[:-1]
        case "number of velocities":
            message.points[2].velocities = []
        case "number of accelerations":
            message.points[2].accelerations = [0.0]
        case "times not increasing":
            message.points[3].time_from_start = message.points[2].time_from_start
        case "stamp in the future":
            message.header.stamp.sec += 1
        case "last point moves":
            message.points[-1].velocities[3] = 0.01
        case "position above limit":
            message = smooth(begin=LIMITS.upper - 0.04)
        case "position below limit":
            message = smooth(begin=LIMITS.lower + 0.04, move=-0.05)
        case "velocity":
            message = smooth(move=1.0)
    return message


@pytest.mark.parametrize(
    "kind",
    ["joint names", "no points", "number of positions", "number of velocities", "number of accelerations", "times not increasing",
     "stamp in the future", "last point moves", "position above limit", "position below limit", "velocity"],
)  # fmt: skip
def test_each_rule_finds_its_fault(kind: str) -> None:
    assert set(rules(damaged(kind))) == {kind}


def test_overshoot_between_points_is_found() -> None:
    """Both points are inside the limits, the spline between them is not."""
    message = smooth(begin=LIMITS.upper - 0.01, move=0.0, points=3)
    for point in message.points:
        point.accelerations = []
    message.points[1].velocities = [1.0] * 14
    assert "position above limit" in rules(message)


@pytest.mark.parametrize(("change", "rule"), [("position", "position jump"), ("velocity", "velocity jump")])
def test_seams_are_checked_against_what_was_published(change: str, rule: str) -> None:
    first, second = smooth(), smooth(NOW_S + 0.6, begin=HOME + 0.05)
    if change == "position":
        second = smooth(NOW_S + 0.6, begin=HOME + 0.05 + 0.2)
    else:
        second.points[0].velocities = [0.3] * 14
    violations = audit([(NOW_S, first), (NOW_S + 0.6, second)], LIMITS).violations
    assert [(v.index, v.rule) for v in violations] == [(1, rule)]


def test_a_refused_message_does_not_become_what_must_be_continued() -> None:
    auditor = Auditor(LIMITS)
    auditor.check(smooth(), NOW_S)
    auditor.check(SimpleNamespace(joint_names=["x"], points=[]), NOW_S)
    assert auditor.check(smooth(NOW_S + 0.6, begin=HOME + 0.05), NOW_S + 0.6) == []


def test_grippers_and_summary() -> None:
    limits = gripper_limits(CELL)
    message = JointTrajectory(joint_names=list(limits.joints))
    message.points = [JointTrajectoryPoint(positions=[0.02, 0.05], velocities=[0.0, 0.0])]
    gripper = audit([(NOW_S, message)], limits)
    summary = summarise([audit([(NOW_S, smooth())], LIMITS), gripper])
    assert summary["trajectories"] == 2 and summary["violations"] == 1 and summary["by_rule"] == {"position above limit": 1}
    assert summary["first"] == [f"#0 position above limit {limits.joints[1]}: 0.05, limit 0.04"]
