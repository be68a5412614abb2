"""Spoilt messages: of every relayed type, wrong in the way that was asked for, and still fit for the wire."""

from __future__ import annotations

import copy
from array import array
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harmowam_msgs.msg import ActionChunk, GroundedPoint, Imagination, Tensor
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from harmowam_bringup.drill.garbage import Garbage, garbled, restamped
from harmowam_bringup.drill.relayed import relayed_topics
from harmowam_core.cell import load_cell
from harmowam_core.messages import chunk_from_message, image_from_message, joint_state_from_message
from harmowam_core.stages import StageError


def floats(typecode: str, *values: float) -> array:
    return array(typecode, values)


def tensor(values: np.ndarray) -> Tensor:
    return Tensor(dtype=str(values.dtype), shape=array("I", values.shape), data=array("B", values.tobytes()))


CHUNK = ActionChunk(
    chunk_id=7, source=1, period_s=0.1, arms=["left"], positions=floats("f", *[0.4] * 36),
    orientations=floats("f", *[1.0, 0.0, 0.0, 0.0] * 12), grippers=floats("f", *[1.0] * 12),
)  # fmt: skip
JOINTS = JointState(name=["a", "b"], position=floats("d", 1.0, 2.0), velocity=floats("d", 0.0, 0.0))
IMAGE = Image(height=2, width=3, encoding="rgb8", step=9, data=array("B", range(18)))
POINT = JointTrajectoryPoint(positions=floats("d", 1.0, 2.0), velocities=floats("d", 0.0, 0.0))
MESSAGES: list[Any] = [
    CHUNK,
    JOINTS,
    IMAGE,
    CameraInfo(height=2, width=3, d=floats("d", 0.0), k=np.arange(9.0)),
    JointTrajectory(joint_names=["a", "b"], points=[POINT, POINT]),
    Imagination(
        imagination_id=3, frames=tensor(np.zeros((13, 2, 2, 3), np.uint8)), latents=tensor(np.ones((13, 4, 2), np.float32)),
        grounding=[GroundedPoint(label="target")], timing_names=["all"], timings_s=floats("d", 0.1),
    ),
    DiagnosticArray(status=[DiagnosticStatus(level=b"\1", name="x", values=[KeyValue(key="a", value="b")])]),  # any type will do
]  # fmt: skip
for message in MESSAGES:
    message.header.frame_id, message.header.stamp.sec = "base", 17

any_message, any_kind, any_seed = st.sampled_from(MESSAGES), st.sampled_from([None, *Garbage]), st.integers(0, 2**32 - 1)


def spoil(message: Any, kind: Garbage | None, seed: int) -> Any:
    return garbled(message, kind, np.random.default_rng(seed))


def test_all_relayed_types_are_tried() -> None:
    assert {topic.kind for topic in relayed_topics(load_cell()).values()} <= {type(message) for message in MESSAGES}


@given(any_message, any_kind, any_seed)
def test_garbage_leaves_header_and_original_alone_and_goes_over_the_wire(message: Any, kind: Garbage | None, seed: int) -> None:
    before = copy.deepcopy(message)
    spoilt = spoil(message, kind, seed)
    assert repr(spoilt) != repr(message) and message == before and spoilt.header == message.header
    assert repr(deserialize_message(serialize_message(spoilt), type(message))) == repr(spoilt)  # NaN is not equal to itself
    assert repr(spoil(message, kind, seed)) == repr(spoilt)


@given(any_seed)
def test_not_finite_is_somewhere_in_every_float_field(seed: int) -> None:
    chunk, joints = spoil(CHUNK, Garbage.NOT_FINITE, seed), spoil(JOINTS, Garbage.NOT_FINITE, seed)
    for values in (chunk.positions, chunk.orientations, chunk.grippers, chunk.period_s, joints.position, joints.velocity):
        assert (~np.isfinite(values)).sum() == 1
    assert chunk.chunk_id == 7 and chunk.arms == ["left"]
    with pytest.raises(StageError, match="finite"):
        joint_state_from_message(joints)
    imagination = spoil(MESSAGES[5], Garbage.NOT_FINITE, seed)
    latents = np.frombuffer(imagination.latents.data, np.float32)
    assert (~np.isfinite(latents)).sum() == 1 and imagination.frames == MESSAGES[5].frames


@given(any_seed)
def test_wrong_lengths_are_refused_by_those_who_read_them(seed: int) -> None:
    for message, read in ((CHUNK, chunk_from_message), (IMAGE, image_from_message), (JOINTS, joint_state_from_message)):
        with pytest.raises(StageError):
            read(spoil(message, Garbage.LENGTHS, seed))


@given(any_seed)
def test_a_jump_is_sound_in_form(seed: int) -> None:
    spoilt = joint_state_from_message(spoil(JOINTS, Garbage.JUMP, seed))
    moved = np.abs(spoilt.positions - JOINTS.position)
    assert (moved >= 0.5).all() and (moved <= 2.0).all() and np.ptp(moved) < 1e-9


def test_what_has_no_floats_gets_random_bytes() -> None:
    spoilt = spoil(IMAGE, Garbage.NOT_FINITE, 0)
    assert len(spoilt.data) == 18 and spoilt.data != IMAGE.data and spoilt.encoding != "rgb8"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_restamped_keeps_all_but_the_stamp(message: Any) -> None:
    fresh = type(message)()
    fresh.header.stamp.sec, fresh.header.frame_id = 99, "elsewhere"
    result = restamped(message, fresh)
    assert result.header.stamp.sec == 99 and result.header.frame_id == "base" and message.header.stamp.sec == 17
    result.header.stamp.sec = 17
    assert result == message
    assert restamped(Tensor(name="a"), Tensor()) == Tensor(name="a")  # no header
