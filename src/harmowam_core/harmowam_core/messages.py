"""Codecs between the stages and the ROS messages, both ways. A malformed message raises StageError naming field, value, expectation.

Array fields are filled with ``array.array``: a list or a NumPy array would be checked element by element.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import Drift as DriftMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from harmowam_msgs.msg import GroundedPoint as GroundedPointMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg
from harmowam_msgs.msg import Task as TaskMsg
from harmowam_msgs.msg import Tensor as TensorMsg
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg
from trajectory_msgs.msg import JointTrajectoryPoint

from harmowam_core.cell import Camera
from harmowam_core.image_codec import pixels
from harmowam_core.stages import (
    ActionChunk,
    Drift,
    Expert,
    GroundedPoint,
    Imagination,
    JointState,
    JointTrajectory,
    NotFiniteError,
    Phase,
    StageError,
    UInt8,
)
from harmowam_core.status import GateState, Reason, Status, Task

BASE_FRAME = "base"
NS = 1_000_000_000
IMAGE_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2, None), "bgra8": (2, 1, 0, None), "mono8": (0,)}
"""Encoding to the RGB channel that each byte of a pixel holds (None: dropped)."""
TENSOR_DTYPES = ("uint8", "int64", "float16", "float32", "float64")
EXPERT_CODES = {
    Expert.PREDICTIVE: GateStateMsg.EXPERT_PREDICTIVE,
    Expert.REACTIVE: GateStateMsg.EXPERT_REACTIVE,
    None: GateStateMsg.EXPERT_NONE,
}
PHASE_CODES = {Phase.TRANSIT: GateStateMsg.PHASE_TRANSIT, Phase.INTERACTION: GateStateMsg.PHASE_INTERACTION}


# ---- time and header ---------------------------------------------------------------------------------------------------


def stamp_to_message(stamp_ns: int) -> Time:
    """Nanoseconds since the epoch as a message; StageError where the message cannot hold it."""
    if not 0 <= stamp_ns < 2**31 * NS:
        raise StageError(f"stamp_ns is {stamp_ns}, expected [0, 2^31 s)")
    return Time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)


def stamp_from_message(message: Time) -> int:
    """Nanoseconds since the epoch."""
    if message.sec < 0 or message.nanosec >= NS:
        raise StageError(f"stamp is {message.sec} s + {message.nanosec} ns, expected sec >= 0 and nanosec < 10^9")
    return int(message.sec) * NS + int(message.nanosec)


def _header(stamp_ns: int, frame_id: str = BASE_FRAME) -> Header:
    return Header(stamp=stamp_to_message(stamp_ns), frame_id=frame_id)


def _check_base_frame(what: str, message: Any) -> None:
    if message.header.frame_id != BASE_FRAME:
        raise StageError(f"{what}.header.frame_id is '{message.header.frame_id}', expected '{BASE_FRAME}'")


def _choose(what: str, value: int, codes: dict[Any, int]) -> Any:
    for key, code in codes.items():
        if code == value:
            return key
    raise StageError(f"{what} is {value}, expected one of {sorted(codes.values())}")


# ---- cameras -------------------------------------------------------------------------------------------------------------


def image_to_message(image: UInt8, stamp_ns: int, frame_id: str) -> Image:
    """(H, W, 3) uint8 RGB to an rgb8 message."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise StageError(f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    height, width = image.shape[:2]
    return Image(
        header=_header(stamp_ns, frame_id), height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", image.tobytes())
    )


def image_from_message(message: Image | CompressedImage) -> UInt8:
    """An 8-bit colour or grey message, rows padded or not, or a compressed one, to (H, W, 3) uint8 RGB.

    ``is_bigendian`` says nothing about bytes, so it is not read. The result may share the message's memory.
    """
    if hasattr(message, "format"):
        return _decompressed(message)
    channels = IMAGE_CHANNELS.get(message.encoding)
    if channels is None:
        raise StageError(f"image.encoding is '{message.encoding}', expected one of {sorted(IMAGE_CHANNELS)}")
    decoded = pixels(message)
    if message.encoding == "mono8":
        return np.repeat(decoded[:, :, None], 3, axis=2)
    order = [channels.index(c) for c in range(3)]
    return np.ascontiguousarray(decoded[:, :, order] if order != [0, 1, 2] else decoded[:, :, :3])


def depth_to_message(depth_mm: NDArray[np.uint16], stamp_ns: int, frame_id: str) -> Image:
    """(H, W) uint16 depth in mm, 0 where unknown, to a 16UC1 message."""
    if depth_mm.ndim != 2 or depth_mm.dtype != np.uint16:
        raise StageError(f"depth is {depth_mm.dtype} {depth_mm.shape}, expected uint16 (H, W)")
    height, width = depth_mm.shape
    data = array("B", depth_mm.astype("<u2", copy=False).tobytes())
    return Image(header=_header(stamp_ns, frame_id), height=height, width=width, encoding="16UC1", step=2 * width, data=data)


def _decompressed(message: CompressedImage) -> UInt8:
    data = np.frombuffer(message.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if data.size else None
    if image is None:
        raise StageError(f"compressed image of format '{message.format}' with {data.size} bytes cannot be decoded, expected JPEG or PNG")
    return np.asarray(image, dtype=np.uint8)


def optical_frame(camera: str) -> str:
    """Frame id of a camera's images, as realsense-ros names it."""
    return f"{camera}_color_optical_frame"


def camera_info_from(camera: Camera, stamp_ns: int) -> CameraInfo:
    """The calibration of a cell's camera, or a pin hole without distortion. CameraInfo counts pixels from the first one's centre."""
    k = camera.intrinsics - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    return camera_info(camera.name, (camera.height, camera.width), k, camera.distortion, stamp_ns)


def camera_info(name: str, size: tuple[int, int], k: NDArray[np.float64], d: NDArray[np.float64], stamp_ns: int) -> CameraInfo:
    """A camera's calibration: ``size`` = (height, width), matrix ``k`` (3, 3) in pixels, distortion ``d`` (5,) or (8,)."""
    return CameraInfo(
        header=_header(stamp_ns, optical_frame(name)),
        height=size[0],
        width=size[1],
        distortion_model="plumb_bob" if len(d) == 5 else "rational_polynomial",
        d=array("d", d),
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )


# ---- joints --------------------------------------------------------------------------------------------------------------


def _check_names(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise StageError(f"{what} names '{next(n for n in names if list(names).count(n) > 1)}' more than once")


def joint_state_to_message(state: JointState) -> JointStateMsg:
    """Measured joints; efforts stay empty."""
    return JointStateMsg(
        header=_header(state.stamp_ns, ""),
        name=list(state.names),
        position=array("d", state.positions.tobytes()),
        velocity=array("d", state.velocities.tobytes()),
    )


def joint_state_from_message(message: JointStateMsg, names: Sequence[str] | None = None) -> JointState:
    """Measured joints; with ``names``, these alone and in this order, whatever order the driver chose.

    StageError names the joints that are missing, the joint that is not finite, or the field of the wrong size.
    """
    _check_names("joint_states.name", message.name)
    for field in ("position", "velocity"):
        if len(getattr(message, field)) != len(message.name):
            raise StageError(f"joint_states.{field} has {len(getattr(message, field))} values, expected {len(message.name)}, one a name")
    wanted = tuple(message.name if names is None else names)
    index_of = {name: i for i, name in enumerate(message.name)}
    if missing := [name for name in wanted if name not in index_of]:
        raise StageError(f"joint_states.name lacks {missing}; it has {list(message.name)}")
    index = [index_of[name] for name in wanted]
    values = {}
    for field in ("position", "velocity"):
        values[field] = np.array(getattr(message, field), np.float64)[index]
        for name, value in zip(wanted, values[field], strict=True):
            if not np.isfinite(value):
                raise NotFiniteError(f"joint_states.{field} of '{name}' is {value}, expected a finite number")
    return JointState(stamp_from_message(message.header.stamp), wanted, values["position"], values["velocity"])


def trajectory_to_message(trajectory: JointTrajectory) -> JointTrajectoryMsg:
    """Set-points for a joint trajectory controller; the header's stamp is when time 0 is."""
    points = []
    for time_s, *rows in zip(trajectory.times_s, trajectory.positions, trajectory.velocities, trajectory.accelerations, strict=True):
        ns = round(float(time_s) * NS)
        if not 0 <= ns < 2**31 * NS:
            raise StageError(f"times_s holds {time_s}, expected [0, 2^31)")
        positions, velocities, accelerations = (array("d", row.tobytes()) for row in rows)
        points.append(
            JointTrajectoryPoint(
                positions=positions,
                velocities=velocities,
                accelerations=accelerations,
                time_from_start=Duration(sec=ns // NS, nanosec=ns % NS),
            )
        )
    return JointTrajectoryMsg(header=_header(trajectory.stamp_ns), joint_names=list(trajectory.names), points=points)


def trajectory_from_message(message: JointTrajectoryMsg) -> JointTrajectory:
    """Set-points with positions, velocities and accelerations at every point; anything less is malformed here."""
    names = tuple(message.joint_names)
    if not names:
        raise StageError("joint_trajectory.joint_names is empty, expected the joints")
    _check_names("joint_trajectory.joint_names", names)
    values: dict[str, NDArray[np.float64]] = {}
    for field in ("positions", "velocities", "accelerations"):
        for k, point in enumerate(message.points):
            if len(getattr(point, field)) != len(names):
                raise StageError(f"joint_trajectory.points[{k}].{field} has {len(getattr(point, field))} values, expected {len(names)}")
        values[field] = np.array([getattr(point, field) for point in message.points], np.float64).reshape(len(message.points), len(names))
    times_ns = []
    for k, point in enumerate(message.points):
        duration = point.time_from_start
        if duration.sec < 0 or duration.nanosec >= NS:
            raise StageError(f"joint_trajectory.points[{k}].time_from_start is {duration.sec} s + {duration.nanosec} ns, expected >= 0")
        times_ns.append(duration.sec * NS + duration.nanosec)
    stamp_ns = stamp_from_message(message.header.stamp)
    return JointTrajectory(stamp_ns, names, np.array(times_ns, np.float64) / NS, **values)


# ---- world model ---------------------------------------------------------------------------------------------------------


def tensor_to_message(name: str, value: NDArray[Any]) -> TensorMsg:
    """A dense array; StageError for a dtype that the message does not know."""
    if value.dtype.name not in TENSOR_DTYPES:
        raise StageError(f"tensor '{name}' has dtype {value.dtype}, expected one of {TENSOR_DTYPES}")
    little = value.astype(value.dtype.newbyteorder("<"), copy=False)
    return TensorMsg(name=name, dtype=value.dtype.name, shape=array("I", value.shape), data=array("B", little.tobytes()))


def tensor_from_message(message: TensorMsg) -> NDArray[Any]:
    """A dense array in native byte order; it shares the message's memory."""
    if message.dtype not in TENSOR_DTYPES:
        raise StageError(f"tensor '{message.name}' has dtype '{message.dtype}', expected one of {TENSOR_DTYPES}")
    dtype = np.dtype(message.dtype).newbyteorder("<")
    shape = tuple(int(n) for n in message.shape)
    size = dtype.itemsize
    for n in shape:
        size *= n
    if len(message.data) != size:
        raise StageError(f"tensor '{message.name}' has {len(message.data)} bytes of data, expected {size} for {message.dtype} {shape}")
    return np.frombuffer(message.data, dtype).reshape(shape).astype(message.dtype, copy=False)


def _tensor_of(message: TensorMsg, what: str, dtype: str) -> NDArray[Any]:
    value = tensor_from_message(message)
    if value.dtype.name != dtype:
        raise StageError(f"imagination.{what} has dtype {value.dtype}, expected {dtype}")
    return value


def imagination_to_message(imagination: Imagination) -> ImaginationMsg:
    """What the world model expects."""
    return ImaginationMsg(
        header=_header(imagination.stamp_ns),
        imagination_id=imagination.imagination_id,
        frame_period_s=imagination.frame_period_s,
        frames=tensor_to_message("frames", imagination.frames),
        latents=tensor_to_message("latents", imagination.latents),
        hidden=tensor_to_message("hidden", imagination.hidden),
        grounding=[
            GroundedPointMsg(label=p.label, pixel=p.pixel, position=p.position, confidence=float(p.confidence))
            for p in imagination.grounding
        ],
        timing_names=list(imagination.timings_s),
        timings_s=array("d", imagination.timings_s.values()),
    )


def imagination_from_message(message: ImaginationMsg) -> Imagination:
    """What the world model expects; its arrays share the message's memory."""
    if len(message.timing_names) != len(message.timings_s):
        raise StageError(f"imagination.timings_s has {len(message.timings_s)} values, expected {len(message.timing_names)}, one a name")
    grounding = []
    for point in message.grounding:
        position, pixel = np.array(point.position, np.float32), np.array(point.pixel, np.float32)
        if not (np.isfinite(position).all() and np.isfinite(pixel).all()):
            raise StageError(f"imagination.grounding '{point.label}' is at {position}, pixel {pixel}, expected finite numbers")
        if not 0 <= point.confidence <= 1:
            raise StageError(f"imagination.grounding '{point.label}' has confidence {point.confidence}, expected [0, 1]")
        grounding.append(GroundedPoint(point.label, pixel, position, point.confidence))
    return Imagination(
        stamp_ns=stamp_from_message(message.header.stamp),
        imagination_id=message.imagination_id,
        frames=_tensor_of(message.frames, "frames", "uint8"),
        frame_period_s=message.frame_period_s,
        latents=_tensor_of(message.latents, "latents", "float32"),
        hidden=_tensor_of(message.hidden, "hidden", "float32"),
        grounding=tuple(grounding),
        timings_s=dict(zip(message.timing_names, message.timings_s, strict=True)),
    )


def drift_to_message(drift: Drift) -> DriftMsg:
    """How far the world is from what was imagined."""
    return DriftMsg(
        header=_header(drift.stamp_ns), imagination_id=drift.imagination_id, horizon_s=drift.horizon_s, score=float(drift.score)
    )


def drift_from_message(message: DriftMsg) -> Drift:
    """How far the world is from what was imagined."""
    return Drift(stamp_from_message(message.header.stamp), message.imagination_id, message.horizon_s, message.score)


# ---- experts and gate ----------------------------------------------------------------------------------------------------


def chunk_to_message(chunk: ActionChunk) -> ActionChunkMsg:
    """An expert's targets."""
    return ActionChunkMsg(
        header=_header(chunk.stamp_ns),
        chunk_id=chunk.chunk_id,
        source=EXPERT_CODES[chunk.source],
        period_s=chunk.period_s,
        arms=list(chunk.arms),
        positions=array("f", chunk.positions.astype(np.float32, copy=False).tobytes()),
        orientations=array("f", chunk.orientations.astype(np.float32, copy=False).tobytes()),
        grippers=array("f", chunk.grippers.astype(np.float32, copy=False).tobytes()),
    )


def chunk_from_message(message: ActionChunkMsg) -> ActionChunk:
    """An expert's targets; its arrays share the message's memory."""
    _check_base_frame("chunk", message)
    arms = tuple(message.arms)
    if not arms:
        raise StageError("chunk.arms is empty, expected the arms' names")
    _check_names("chunk.arms", arms)
    source = _choose("chunk.source", message.source, {e: c for e, c in EXPERT_CODES.items() if e is not None})
    steps, rest = divmod(len(message.grippers), len(arms))
    if steps == 0 or rest:
        raise StageError(f"chunk.grippers has {len(message.grippers)} values, expected a multiple of {len(arms)} arms, at least one")
    arrays = {}
    for field, shape in (("positions", (steps, len(arms), 3)), ("orientations", (steps, len(arms), 4)), ("grippers", (steps, len(arms)))):
        data = getattr(message, field)
        if len(data) != np.prod(shape):
            raise StageError(f"chunk.{field} has {len(data)} values, expected {np.prod(shape)} for {steps} steps of {len(arms)} arms")
        arrays[field] = np.frombuffer(data, np.float32).reshape(shape)
    return ActionChunk(stamp_from_message(message.header.stamp), message.chunk_id, source, message.period_s, arms, **arrays)


def failure_to_message(stamp_ns: int, source: Expert) -> ActionChunkMsg:
    """A chunk without targets: the expert has failed on the observation of this stamp, and says so at once."""
    return ActionChunkMsg(header=_header(stamp_ns), source=EXPERT_CODES[source])


def is_failure(message: ActionChunkMsg) -> bool:
    """Whether an expert says that it has failed."""
    return not (message.arms or message.positions or message.orientations or message.grippers)


def task_to_message(task: Task) -> TaskMsg:
    """The operator's task."""
    return TaskMsg(header=_header(task.stamp_ns, ""), task_id=task.task_id, instruction=task.instruction)


def task_from_message(message: TaskMsg) -> Task:
    """The operator's task."""
    return Task(stamp_from_message(message.header.stamp), message.task_id, message.instruction)


GATE_PLAIN_FIELDS = (
    *("text", "task_id", "instruction", "score", "measured", "limit", "sub_stage"),
    *("observation_age_s", "imagination_age_s", "predictive_chunk_age_s", "reactive_chunk_age_s"),
    *("imagination_id", "predictive_chunk_id", "reactive_chunk_id", "trajectory_id"),
)
"""Fields that message and dataclass hold in the same form."""


def gate_state_to_message(state: GateState) -> GateStateMsg:
    """What the arbiter does."""
    return GateStateMsg(
        header=_header(state.stamp_ns),
        phase=PHASE_CODES[state.phase],
        expert=EXPERT_CODES[state.expert],
        status=int(state.status),
        reason=int(state.reason),
        **{field: getattr(state, field) for field in GATE_PLAIN_FIELDS},
    )


def gate_state_from_message(message: GateStateMsg) -> GateState:
    """What the arbiter does."""
    return GateState(
        stamp_ns=stamp_from_message(message.header.stamp),
        phase=_choose("gate_state.phase", message.phase, PHASE_CODES),
        expert=_choose("gate_state.expert", message.expert, EXPERT_CODES),
        status=_choose("gate_state.status", message.status, {s: s.value for s in Status}),
        reason=_choose("gate_state.reason", message.reason, {r: r.value for r in Reason}),
        **{field: getattr(message, field) for field in GATE_PLAIN_FIELDS},
    )
