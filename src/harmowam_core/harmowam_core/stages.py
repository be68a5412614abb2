"""The stages of the data's way, each a frozen dataclass (docs/architecture.md).

    Observation -> Imagination -> ActionChunk -> JointTrajectory

Conventions: positions in m and orientations as unit quaternions xyzw, both in the cell's ``base`` frame; joint angles in
rad; ``stamp_ns`` is the time of the *observation* a stage derives from, in ns; a gripper is its opening in [0, 1]
(0 closed, 1 open). ``A`` is the number of arms, in the order of ``arms``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]


HELD_OPENING = (0.06, 0.90)
"""A gripper between these openings has closed on something, or is about to."""


class StageError(ValueError):
    """A stage value is malformed; the message names the field, what it is and what it must be."""


class NotFiniteError(StageError):
    """A number is NaN or infinite."""


class Expert(str, Enum):
    """Who made an action chunk."""

    PREDICTIVE = "predictive"
    REACTIVE = "reactive"


class Phase(str, Enum):
    """What the arm is doing, as the gate sees it (paper: gate)."""

    TRANSIT = "transit"
    INTERACTION = "interaction"


def check_array(name: str, value: Any, shape: tuple[int | None, ...], kind: str = "f") -> None:
    """Raise StageError unless ``value`` is an array of this ``shape`` (None: any), dtype kind, and finite."""
    if not isinstance(value, np.ndarray):
        raise StageError(f"{name} must be a NumPy array, not {type(value).__name__}")
    wanted = tuple("any" if n is None else n for n in shape)
    if value.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, value.shape, strict=True)):
        raise StageError(f"{name} has shape {value.shape}, expected {wanted}")
    if value.dtype.kind != kind:
        raise StageError(f"{name} has dtype {value.dtype}, expected kind '{kind}'")
    if kind == "f" and not np.isfinite(value).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
        raise NotFiniteError(f"{name}{list(index)} is {value[index]}, expected finite numbers")


def check_positive(name: str, value: float) -> None:
    """Raise StageError unless ``value`` is a finite number above 0."""
    if not math.isfinite(value):
        raise NotFiniteError(f"{name} is {value}, expected a finite number > 0")
    if not value > 0:
        raise StageError(f"{name} is {value}, expected a finite number > 0")


def check_unit_quaternions(name: str, value: Float32) -> None:
    """Raise StageError unless every quaternion (..., 4) has unit length within 1e-3."""
    length = np.linalg.norm(value, axis=-1)
    if not (np.abs(length - 1.0) <= 1e-3).all():
        raise StageError(f"{name} holds a quaternion of length {length.flat[np.abs(length - 1).argmax()]:.4f}, expected 1")


@dataclass(frozen=True)
class Observation:
    """What the robot senses at one moment; nothing privileged.

    images: camera name ("scene", "wrist_left", "wrist_right") -> (H, W, 3) uint8 RGB, at the preset's size.
    ee_position: (A, 3) float32, measured tool centre points (forward kinematics of the joint states).
    ee_orientation: (A, 4) float32.
    gripper: (A,) float32 measured opening in [0, 1].
    instruction: what the operator asked for, in words.
    """

    stamp_ns: int
    images: Mapping[str, UInt8]
    ee_position: Float32
    ee_orientation: Float32
    gripper: Float32
    instruction: str

    def __post_init__(self) -> None:
        for name, image in self.images.items():
            check_array(f"image '{name}'", image, (None, None, 3), "u")
        arms = len(self.ee_position)
        check_array("ee_position", self.ee_position, (arms, 3))
        check_array("ee_orientation", self.ee_orientation, (arms, 4))
        check_unit_quaternions("ee_orientation", self.ee_orientation)
        check_array("gripper", self.gripper, (arms,))

    def image(self, name: str) -> UInt8:
        """The image of one camera; StageError names the cameras there are."""
        if name not in self.images:
            raise StageError(f"no image of camera '{name}' in this observation; it has {sorted(self.images)}")
        return self.images[name]


@dataclass(frozen=True)
class GroundedPoint:
    """Where the world model believes a part of the instruction lies.

    label: "target" (what to grasp) or "goal" (where to bring it).
    pixel: (2,) float32 (u right, v down), in pixels of the preset's scene image.
    position: (3,) float32 in the base frame, by the calibrated camera and the predicted height.
    confidence: in [0, 1].
    """

    label: str
    pixel: Float32
    position: Float32
    confidence: float


def new_imagination_id() -> int:
    """For one that is published: ms of the steady clock, so that ids grow also where a world model is started again, and where the clock
    that stamps is set back.
    """
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True)
class Imagination:
    """What the world model expects to see.

    imagination_id: grows; of those that are published see :func:`new_imagination_id`, else the observation's ms.
    frames: (13, H, W, 3) uint8 RGB; frame 0 is the current one, then ``frame_period_s`` apart.
    latents: (13, 80, C) float32 VAE latents of those frames, 80 = 8 x 10 spatial tokens, row by row.
    hidden: (80, D) float32 hidden tokens of the diffusion transformer at the last denoising step.
    grounding: the grounded parts of the instruction.
    timings_s: seconds per stage, for diagnostics.
    """

    stamp_ns: int
    imagination_id: int
    frames: UInt8
    frame_period_s: float
    latents: Float32
    hidden: Float32
    grounding: tuple[GroundedPoint, ...] = ()
    timings_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_array("frames", self.frames, (None, None, None, 3), "u")
        check_array("latents", self.latents, (len(self.frames), None, None))
        check_array("hidden", self.hidden, (self.latents.shape[1], None))
        check_positive("frame_period_s", self.frame_period_s)


@dataclass(frozen=True)
class ActionChunk:
    """End-effector targets of the next moments; target k is for ``stamp + (k + 1) * period_s``.

    positions: (K, A, 3) float32; orientations: (K, A, 4) float32; grippers: (K, A) float32 in [0, 1].
    """

    stamp_ns: int
    chunk_id: int
    source: Expert
    period_s: float
    arms: tuple[str, ...]
    positions: Float32
    orientations: Float32
    grippers: Float32

    def __post_init__(self) -> None:
        arms = len(self.arms)
        check_array("positions", self.positions, (None, arms, 3))
        steps = len(self.positions)
        check_array("orientations", self.orientations, (steps, arms, 4))
        check_unit_quaternions("orientations", self.orientations)
        check_array("grippers", self.grippers, (steps, arms))
        if not ((self.grippers >= 0) & (self.grippers <= 1)).all():
            raise StageError("grippers must be openings in [0, 1]")
        check_positive("period_s", self.period_s)

    @property
    def horizon(self) -> int:
        """Number of targets, K."""
        return len(self.positions)

    def target_time_ns(self, index: int) -> int:
        """When target ``index`` is due, ns."""
        return self.stamp_ns + round((index + 1) * self.period_s * 1e9)


@dataclass(frozen=True)
class JointState:
    """Measured joints: positions and velocities (N,) float64 in the order of ``names``."""

    stamp_ns: int
    names: tuple[str, ...]
    positions: Float64
    velocities: Float64

    def __post_init__(self) -> None:
        check_array("joint positions", self.positions, (len(self.names),))
        check_array("joint velocities", self.velocities, (len(self.names),))


@dataclass(frozen=True)
class JointTrajectory:
    """Set-points for the arm driver: P points over N joints, times from ``stamp_ns``.

    times_s: (P,) float64 strictly increasing; positions, velocities, accelerations: (P, N) float64.
    """

    stamp_ns: int
    names: tuple[str, ...]
    times_s: Float64
    positions: Float64
    velocities: Float64
    accelerations: Float64

    def __post_init__(self) -> None:
        points, joints = len(self.times_s), len(self.names)
        check_array("times_s", self.times_s, (points,))
        for name in ("positions", "velocities", "accelerations"):
            check_array(name, getattr(self, name), (points, joints))
        if points == 0:
            raise StageError("a joint trajectory needs at least one point")
        if not (np.diff(self.times_s) > 0).all():
            raise StageError("times_s must be strictly increasing")


@dataclass(frozen=True)
class Drift:
    """How far what came is from what was imagined ``horizon_s`` before; stamp_ns: of the observation that was compared.

    score: 0 as imagined, 1 as wrong as the worst that is normal, above: drift.
    """

    stamp_ns: int
    imagination_id: int
    horizon_s: float
    score: float

    def __post_init__(self) -> None:
        for name in ("horizon_s", "score"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise StageError(f"drift.{name} is {value}, expected a finite number >= 0")
