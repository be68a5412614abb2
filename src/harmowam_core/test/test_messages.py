"""Codecs: what goes in comes out, through the wire format too; what is malformed is refused by name."""

from __future__ import annotations

import dataclasses
import math
from array import array
from typing import Any

import numpy as np
import pytest
from harmowam_msgs.action import ExecuteTask
from harmowam_msgs.msg import GateState as GateStateMsg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from harmowam_core import messages as codec
from harmowam_core.cell import load_cell
from harmowam_core.stages import ActionChunk, Drift, Expert, GroundedPoint, Imagination, JointState, JointTrajectory, Phase, StageError
from harmowam_core.status import GateState, Outcome, Reason, Status, Task

stamps = st.integers(0, 2**31 * codec.NS - 1)
ids = st.integers(0, 2**64 - 1)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
unit = st.floats(0, 1, width=32)
known_or_nan = st.one_of(st.just(math.nan), st.floats(0, 1e6, width=32))
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def over_the_wire(message: Any) -> Any:
    """The message as another process gets it."""
    return deserialize_message(serialize_message(message), type(message))


def assert_same(a: Any, b: Any) -> None:
    """Equal dataclasses: arrays bit by bit, NaN equal to NaN."""
    assert type(a) is type(b)
    for field in dataclasses.fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype, field.name
            np.testing.assert_array_equal(x, y, err_msg=field.name)
        elif isinstance(x, tuple) and x and dataclasses.is_dataclass(x[0]):
            assert len(x) == len(y)
            for p, q in zip(x, y, strict=True):
                assert_same(p, q)
        else:
            assert x == y or (isinstance(x, float) and math.isnan(x) and math.isnan(y)), field.name


@st.composite
def chunks(draw: st.DrawFn) -> ActionChunk:
    rng = draw(seeds)
    steps = draw(st.integers(1, 16))
    arms = draw(st.sampled_from([("left",), ("left", "right"), ("a", "b", "c")]))
    q = rng.normal(size=(steps, len(arms), 4))
    return ActionChunk(
        stamp_ns=draw(stamps),
        chunk_id=draw(ids),
        source=draw(st.sampled_from(list(Expert))),
        period_s=draw(st.floats(1e-3, 10)),
        arms=arms,
        positions=rng.normal(size=(steps, len(arms), 3)).astype(np.float32),
        orientations=(q / np.linalg.norm(q, axis=-1, keepdims=True)).astype(np.float32),
        grippers=rng.random((steps, len(arms)), np.float32),
    )


@st.composite
def imaginations(draw: st.DrawFn) -> Imagination:
    rng = draw(seeds)
    frames, tokens, channels, hidden = (draw(st.integers(1, n)) for n in (13, 80, 12, 16))
    points = tuple(
        GroundedPoint(draw(words), rng.normal(size=2).astype(np.float32), rng.normal(size=3).astype(np.float32), draw(unit))
        for _ in range(draw(st.integers(0, 2)))
    )
    return Imagination(
        stamp_ns=draw(stamps),
        imagination_id=draw(ids),
        frames=rng.integers(0, 256, (frames, 4, 5, 3), dtype=np.uint8),
        frame_period_s=draw(st.floats(1e-3, 10)),
        latents=rng.normal(size=(frames, tokens, channels)).astype(np.float32),
        hidden=rng.normal(size=(tokens, hidden)).astype(np.float32),
        grounding=points,
        timings_s=draw(st.dictionaries(words, st.floats(0, 10), max_size=3)),
    )


@st.composite
def trajectories(draw: st.DrawFn) -> JointTrajectory:
    rng = draw(seeds)
    points, joints = draw(st.integers(1, 8)), draw(st.integers(1, 14))
    times_ns = np.cumsum(draw(st.lists(st.integers(1, 10**9), min_size=points, max_size=points)))
    p, v, a = rng.normal(size=(3, points, joints))
    return JointTrajectory(draw(stamps), tuple(f"joint{k}" for k in range(joints)), times_ns / codec.NS, p, v, a)


@st.composite
def joint_states(draw: st.DrawFn) -> JointState:
    n = draw(st.integers(0, 16))
    p, v = draw(seeds).normal(size=(2, n))
    return JointState(draw(stamps), tuple(f"joint{k}" for k in range(n)), p, v)


tasks = st.one_of(
    st.builds(Task, stamps, st.integers(1, 2**32 - 1), words.filter(lambda w: w.strip())), st.builds(Task, stamps, st.just(0), st.just(""))
)
gate_states = st.builds(
    GateState,
    stamp_ns=stamps,
    status=st.sampled_from(Status),
    text=words,
    task_id=st.integers(0, 2**32 - 1),
    instruction=words,
    score=st.one_of(st.just(math.nan), unit),
    phase=st.sampled_from(Phase),
    expert=st.one_of(st.none(), st.sampled_from(Expert)),
    reason=st.sampled_from(Reason),
    measured=st.floats(),
    limit=st.floats(),
    sub_stage=words,
    **{f"{name}_age_s": known_or_nan for name in ("observation", "imagination", "predictive_chunk", "reactive_chunk")},
    **{f"{name}_id": ids for name in ("imagination", "predictive_chunk", "reactive_chunk", "trajectory")},
)


# ---- round trips ---------------------------------------------------------------------------------------------------------


@given(chunks())
def test_chunk_round_trip(chunk: ActionChunk) -> None:
    assert_same(codec.chunk_from_message(over_the_wire(codec.chunk_to_message(chunk))), chunk)


@given(imaginations())
def test_imagination_round_trip(imagination: Imagination) -> None:
    assert_same(codec.imagination_from_message(over_the_wire(codec.imagination_to_message(imagination))), imagination)


@given(trajectories())
def test_trajectory_round_trip(trajectory: JointTrajectory) -> None:
    assert_same(codec.trajectory_from_message(over_the_wire(codec.trajectory_to_message(trajectory))), trajectory)


@given(joint_states())
def test_joint_state_round_trip(state: JointState) -> None:
    assert_same(codec.joint_state_from_message(over_the_wire(codec.joint_state_to_message(state))), state)


@given(tasks)
def test_task_round_trip(task: Task) -> None:
    assert_same(codec.task_from_message(over_the_wire(codec.task_to_message(task))), task)


@given(gate_states)
def test_gate_state_round_trip(state: GateState) -> None:
    assert_same(codec.gate_state_from_message(over_the_wire(codec.gate_state_to_message(state))), state)


@given(st.builds(Drift, stamps, ids, st.floats(0, 1e6), st.floats(0, 1e6, width=32)))
def test_drift_round_trip(drift: Drift) -> None:
    assert_same(codec.drift_from_message(over_the_wire(codec.drift_to_message(drift))), drift)


@given(hnp.arrays(st.sampled_from(codec.TENSOR_DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_side=5)))
def test_tensor_round_trip(value: np.ndarray) -> None:
    back = codec.tensor_from_message(over_the_wire(codec.tensor_to_message("x", value)))
    assert (back.dtype, back.shape, back.tobytes()) == (value.dtype, value.shape, value.tobytes())


def test_tensor_data_is_little_endian_whatever_the_array_is() -> None:
    message = codec.tensor_to_message("x", np.array([1.0], ">f4"))
    assert bytes(message.data) == b"\x00\x00\x80\x3f"
    assert codec.tensor_from_message(message)[0] == 1.0


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), stamps)
def test_image_round_trip(image: np.ndarray, stamp_ns: int) -> None:
    message = over_the_wire(codec.image_to_message(image, stamp_ns, "scene_color_optical_frame"))
    np.testing.assert_array_equal(codec.image_from_message(message), image)
    assert codec.stamp_from_message(message.header.stamp) == stamp_ns


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))),
    st.sampled_from(sorted(codec.IMAGE_CHANNELS)),
    st.integers(0, 7),
    st.booleans(),
)
def test_every_encoding_and_padding_decodes_to_the_same_rgb(rgb: np.ndarray, encoding: str, padding: int, bigendian: bool) -> None:
    alpha = np.full((*rgb.shape[:2], 1), 7, np.uint8)
    if encoding == "mono8":
        rgb = np.repeat(rgb[:, :, :1], 3, axis=2)
    pixels = {
        "rgb8": rgb,
        "bgr8": rgb[:, :, ::-1],
        "rgba8": np.concatenate([rgb, alpha], 2),
        "bgra8": np.concatenate([rgb[:, :, ::-1], alpha], 2),
        "mono8": rgb[:, :, :1],
    }[encoding]
    height, width, _ = pixels.shape
    rows = np.concatenate([pixels.reshape(height, -1), np.full((height, padding), 99, np.uint8)], axis=1)
    message = Image(
        height=height, width=width, encoding=encoding, is_bigendian=bigendian, step=rows.shape[1], data=array("B", rows.tobytes())
    )
    decoded = codec.image_from_message(message)
    np.testing.assert_array_equal(decoded, rgb)
    assert decoded.flags.c_contiguous


def test_joint_state_is_put_in_the_order_asked_for_and_others_left_out() -> None:
    state = JointState(5, ("c", "x", "a"), np.array([3.0, 9.0, 1.0]), np.array([0.3, 0.9, 0.1]))
    got = codec.joint_state_from_message(codec.joint_state_to_message(state), names=("a", "c"))
    assert_same(got, JointState(5, ("a", "c"), np.array([1.0, 3.0]), np.array([0.1, 0.3])))


def test_camera_info_projects_as_the_cell_does() -> None:
    camera = load_cell().camera("scene")
    info = codec.camera_info_from(camera, 7)
    point = np.array([0.1, -0.2, 1.3])  # m, optical frame
    u, v, w = np.array(info.p).reshape(3, 4) @ [*point, 1]
    world = camera.rotation @ point + camera.position
    np.testing.assert_allclose([u / w + 0.5, v / w + 0.5], camera.project(world))  # ours count from the first pixel's corner
    assert (info.width, info.height, info.header.frame_id) == (camera.width, camera.height, "scene_color_optical_frame")


# ---- one meaning of each number ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("enum", "owner", "prefix"), [(Status, GateStateMsg, "STATUS_"), (Reason, GateStateMsg, "REASON_"), (Outcome, ExecuteTask.Result, "")]
)
def test_enums_and_message_constants_agree(enum: Any, owner: Any, prefix: str) -> None:
    constants = {name.removeprefix(prefix): getattr(owner, name) for name in constant_names(owner) if name.startswith(prefix)}
    assert constants == {member.name: member.value for member in enum}


def constant_names(message_type: Any) -> list[str]:
    return [name for name in dir(type(message_type)) if name.isupper() and not name.startswith("_")]


# ---- malformed messages --------------------------------------------------------------------------------------------------

QUATERNIONS = np.tile(np.array([0, 0, 0, 1], np.float32), (2, 1, 1))
CHUNK = ActionChunk(1, 1, Expert.REACTIVE, 0.1, ("left",), np.zeros((2, 1, 3), np.float32), QUATERNIONS, np.zeros((2, 1), np.float32))
IMAGINATION = Imagination(
    *(1, 1, np.zeros((2, 4, 5, 3), np.uint8), 0.1, np.zeros((2, 6, 3), np.float32), np.zeros((6, 4), np.float32)),
    grounding=(GroundedPoint("target", np.zeros(2, np.float32), np.zeros(3, np.float32), 0.5),),
    timings_s={"encode": 0.1},
)
TRAJECTORY = JointTrajectory(1, ("a", "b"), np.array([0.1, 0.2]), *np.zeros((3, 2, 2)))
STATE = JointState(1, ("a", "b"), np.zeros(2), np.zeros(2))


def change(message: Any, path: str, value: Any) -> Any:
    """Set a field given as ``points.1.positions``; numbers index sequences."""
    *parents, last = path.split(".")
    owner = message
    for part in parents:
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    if last.isdigit():
        owner[int(last)] = value
    else:
        setattr(owner, last, value)
    return message


def test_messages_are_in_the_profiles_base_frame() -> None:
    assert load_cell().base_frame == codec.BASE_FRAME


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("header.frame_id", "world", "chunk.header.frame_id is 'world', expected 'base'"),
        ("header.stamp.sec", -1, "stamp is -1 s"),
        ("header.stamp.nanosec", 2_000_000_000, "nanosec < 10"),
        ("source", 0, r"chunk.source is 0, expected one of \[1, 2\]"),
        ("arms", [], "chunk.arms is empty"),
        ("arms", ["left", "left"], "chunk.arms names 'left' more than once"),
        ("grippers", array("f"), "chunk.grippers has 0 values"),
        ("grippers", array("f", [0.5, 1.5]), r"openings in \[0, 1\]"),
        ("positions", array("f", [0.0] * 5), "chunk.positions has 5 values, expected 6 for 2 steps of 1 arms"),
        ("positions.4", math.nan, r"positions\[1, 0, 1\] is nan"),
        ("orientations", array("f", [0.0] * 8), "quaternion of length 0"),
        ("period_s", 0.0, "period_s is 0.0, expected a finite number > 0"),
        ("period_s", math.nan, "period_s is nan, expected a finite number > 0"),
    ],
)
def test_malformed_chunk_is_refused_by_name(path: str, value: Any, match: str) -> None:
    with pytest.raises(StageError, match=match):
        codec.chunk_from_message(change(codec.chunk_to_message(CHUNK), path, value))


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("frames.dtype", "complex64", "tensor 'frames' has dtype 'complex64'"),
        ("frames.dtype", "float16", "tensor 'frames' has 120 bytes of data, expected 240"),
        ("latents.shape", array("I", [2, 6, 4]), "tensor 'latents' has 144 bytes of data, expected 192"),
        ("latents.shape", array("I", [2**32 - 1] * 4), "tensor 'latents' has 144 bytes"),
        ("latents.shape", array("I", [36]), "latents has shape"),
        ("hidden.dtype", "int64", "tensor 'hidden' has 96 bytes of data, expected 192"),
        ("frame_period_s", -1.0, "frame_period_s is -1.0"),
        ("timings_s", array("d"), "imagination.timings_s has 0 values, expected 1"),
        ("grounding.0.confidence", math.nan, "confidence nan"),
        ("grounding.0.position.1", math.inf, "'target' is at"),
    ],
)
def test_malformed_imagination_is_refused_by_name(path: str, value: Any, match: str) -> None:
    with pytest.raises(StageError, match=match):
        codec.imagination_from_message(change(codec.imagination_to_message(IMAGINATION), path, value))


def test_imagination_of_another_dtype_is_refused() -> None:
    message = codec.imagination_to_message(IMAGINATION)
    message.latents = codec.tensor_to_message("latents", IMAGINATION.latents.astype(np.float64))
    with pytest.raises(StageError, match="imagination.latents has dtype float64, expected float32"):
        codec.imagination_from_message(message)


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("joint_names", [], "joint_names is empty"),
        ("joint_names", ["a", "a"], "joint_names names 'a' more than once"),
        ("points", [], "at least one point"),
        ("points.1.positions", array("d", [0.0]), r"points\[1\].positions has 1 values, expected 2"),
        ("points.0.velocities", array("d"), r"points\[0\].velocities has 0 values, expected 2"),
        ("points.0.positions.1", math.inf, r"positions\[0, 1\] is inf"),
        ("points.1.time_from_start.sec", -1, r"points\[1\].time_from_start is -1 s"),
        ("points.1.time_from_start.nanosec", 0, "strictly increasing"),
    ],
)
def test_malformed_trajectory_is_refused_by_name(path: str, value: Any, match: str) -> None:
    with pytest.raises(StageError, match=match):
        codec.trajectory_from_message(change(codec.trajectory_to_message(TRAJECTORY), path, value))


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("name", ["a", "a"], "joint_states.name names 'a' more than once"),
        ("position", array("d", [0.0]), "joint_states.position has 1 values, expected 2"),
        ("velocity", array("d"), "joint_states.velocity has 0 values, expected 2"),
        ("velocity.1", math.nan, "joint_states.velocity of 'b' is nan"),
    ],
)
def test_malformed_joint_states_are_refused_by_name(path: str, value: Any, match: str) -> None:
    with pytest.raises(StageError, match=match):
        codec.joint_state_from_message(change(codec.joint_state_to_message(STATE), path, value))


def test_missing_joints_are_named() -> None:
    with pytest.raises(StageError, match=r"lacks \['c'\]; it has \['a', 'b'\]"):
        codec.joint_state_from_message(codec.joint_state_to_message(STATE), names=("a", "c"))


def test_a_joint_nobody_asked_for_may_be_broken() -> None:
    message = change(codec.joint_state_to_message(STATE), "position.1", math.nan)
    assert codec.joint_state_from_message(message, names=("a",)).positions == [0.0]


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        ("encoding", "16UC1", "image.encoding is '16UC1', expected one of"),
        ("height", 0, "at least one pixel"),
        ("step", 14, "image.step is 14, expected at least 15"),
        ("data", array("B", b"\0" * 59), "image.data has 59 bytes, expected 60"),
    ],
)
def test_malformed_image_is_refused_by_name(path: str, value: Any, match: str) -> None:
    message = codec.image_to_message(np.zeros((4, 5, 3), np.uint8), 1, "scene")
    with pytest.raises(StageError, match=match):
        codec.image_from_message(change(message, path, value))


@pytest.mark.parametrize(("field", "value"), [("phase", 2), ("expert", 3), ("status", 9), ("reason", 255), ("score", 1.5)])
def test_malformed_gate_state_is_refused_by_name(field: str, value: Any) -> None:
    message = codec.gate_state_to_message(GateState(1, Status.IDLE, "resting"))
    with pytest.raises(StageError, match=f"{field} is {value}"):
        codec.gate_state_from_message(change(message, field, value))


@pytest.mark.parametrize(("field", "value"), [("instruction", " "), ("task_id", 0)])
def test_malformed_task_is_refused(field: str, value: Any) -> None:
    with pytest.raises(StageError, match="expected words"):
        codec.task_from_message(change(codec.task_to_message(Task(1, 3, "pick the pear")), field, value))


@pytest.mark.parametrize(
    "encode",
    [
        lambda: codec.image_to_message(np.zeros((4, 5)), 1, "scene"),
        lambda: codec.tensor_to_message("x", np.zeros(2, np.complex64)),
        lambda: codec.stamp_to_message(-1),
        lambda: codec.trajectory_to_message(dataclasses.replace(TRAJECTORY, times_s=np.array([-0.1, 0.2]))),
    ],
)
def test_what_no_message_can_hold_is_not_encoded(encode: Any) -> None:
    with pytest.raises(StageError, match="expected"):
        encode()
