"""Random smooth motion passes; one corrupted number or time in it does not."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trajectories import ARM_TOPIC, ARMS, CELL, HOME, NOW_NS, message, minimum_jerk, set_time
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.auditor import CellAuditor

AUDITOR = CellAuditor(CELL)
JOINTS = st.integers(0, len(HOME) - 1)
MOST_WAY = 0.04
"""At home, a tool moves at less than 0.6 m/s if every joint moves by no more in 0.45 s or longer, rad."""


def found(*messages: JointTrajectory) -> bool:
    """Whether messages that arrive at their stamps break any rule."""
    AUDITOR.forget()
    stamps = [sent.header.stamp.sec * 10**9 + sent.header.stamp.nanosec for sent in messages]
    return bool(sum(len(AUDITOR.check(ARM_TOPIC, sent, stamp)) for sent, stamp in zip(messages, stamps, strict=True)))


@st.composite
def smooth(draw: st.DrawFn) -> list[JointTrajectory]:
    """A move at random times from near home, and its remainder sent again from anywhere on it, with other points."""
    seconds = draw(st.integers(450, 600)) / 1000
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    begin, way = HOME + random.uniform(-0.02, 0.02, len(HOME)), random.uniform(-MOST_WAY, MOST_WAY, len(HOME))
    path = minimum_jerk(begin, way, seconds)
    whole = np.round(np.linspace(0, seconds, draw(st.integers(6, 25))), 9)
    split = round(draw(st.floats(0.01, 0.9)) * seconds, 9)
    rest = np.round(np.linspace(split, seconds, draw(st.integers(4, 20))), 9)
    return [message(path, whole), message(path, rest, NOW_NS + round(split * 1e9))]


@settings(max_examples=50)
@given(smooth())
def test_smooth_motion_passes(sent: list[JointTrajectory]) -> None:
    assert not found(*sent), AUDITOR.verdict.first


@settings(max_examples=100)
@given(smooth(), st.integers(0, 1), JOINTS, st.data())
def test_any_corruption_is_found(sent: list[JointTrajectory], which: int, joint: int, data: st.DataObject) -> None:
    assume(not found(*sent))
    bad = deepcopy(sent)
    points = bad[which].points
    point = data.draw(st.sampled_from(points))
    match data.draw(
        st.sampled_from(["name", "size", "nan", "position", "velocity", "acceleration", "end", "time", "stamp", "late", "cut"])
    ):
        case "name":
            bad[which].joint_names[joint] = data.draw(st.sampled_from(["", "joint", bad[which].joint_names[joint - 1]]))
        case "size":
            getattr(point, data.draw(st.sampled_from(["positions", "velocities", "accelerations"]))).pop()
        case "nan":
            values = getattr(point, data.draw(st.sampled_from(["positions", "velocities", "accelerations"])))
            values[joint] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
        case "position":
            point.positions[joint] += data.draw(st.sampled_from([-1, 1])) * data.draw(st.floats(0.2, 100))
            assume(len(points) > 1)
        case "velocity":
            point.velocities[joint] = data.draw(st.sampled_from([-1, 1])) * ARMS.velocity[joint] * data.draw(st.floats(1.01, 100))
        case "acceleration":
            point.accelerations[joint] = data.draw(st.sampled_from([-1, 1])) * ARMS.acceleration[joint] * data.draw(st.floats(1.01, 100))
        case "end":
            points[-1].velocities[joint] = data.draw(st.floats(1e-4, 1))
        case "time":
            set_time(points[-1], data.draw(st.integers(-(10**9), 0)))
        case "stamp":
            bad[which].header.stamp.sec += data.draw(st.integers(1, 1000))
            assert AUDITOR.check(ARM_TOPIC, bad[which], NOW_NS + 10**9)
            return
        case "late":
            set_time(points[-1], 610_000_000 + data.draw(st.integers(0, 10**10)))
        case "cut":
            bad[which].points = points[: data.draw(st.integers(0, len(points) - 2))]
            assume(not bad[which].points or max(np.abs(bad[which].points[-1].velocities)) > 1e-5)
    assert found(*bad)
