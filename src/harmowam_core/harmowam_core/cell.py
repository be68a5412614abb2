"""The robot cell: arms, limits, cameras, controllers, read from one YAML profile (lengths m, angles rad)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.spatial.transform import Rotation

from harmowam_core.robot import Controllers, Driver, Gripper, Quaternion, Tool, Vector3
from harmowam_core.robot import Strict as _Strict

CELLS_DIR = Path(__file__).parent / "config" / "cells"
_Positive = Annotated[float, Field(gt=0)]
OWN_CELLS = "HARMOWAM_CELLS"
"""Environment variable: a folder whose profiles come before ours of the same name."""


class Arm(_Strict):
    """One arm: where its base stands and where its tool waits, in the base frame.

    joint_prefix: what its driver puts before the joints' names; by default the arm's name and an underscore.
    """

    name: str
    joint_prefix: str | None = None
    base_position: Vector3
    base_orientation: Quaternion
    home_tcp_position: Vector3
    home_tcp_orientation: Quaternion

    @property
    def prefix(self) -> str:
        """Before the names of its joints."""
        return f"{self.name}_" if self.joint_prefix is None else self.joint_prefix

    def named(self, joints: tuple[str, ...]) -> tuple[str, ...]:
        """Joints of the profile as its driver calls them."""
        return tuple(f"{self.prefix}{joint}" for joint in joints)


class Limits(_Strict):
    """Joint limits of one arm: rad, rad/s, rad/s^2, rad/s^3."""

    position_lower: tuple[float, ...]
    position_upper: tuple[float, ...]
    velocity: tuple[_Positive, ...]
    acceleration: tuple[_Positive, ...]
    jerk: tuple[_Positive, ...]


class Box(_Strict):
    """A box along the axes of its frame: a link's for its solids, else the base frame."""

    lower: Vector3
    upper: Vector3

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        for axis, lower, upper in zip("xyz", self.lower, self.upper, strict=True):
            if not lower < upper:
                raise ValueError(f"{self.called}: lower {axis} {lower} is not below upper {axis} {upper}; swap or correct them")
        return self

    @property
    def called(self) -> str:
        """What errors call it."""
        return "box"


class Obstacle(Box):
    """Something that always stands in the cell, such as the table."""

    name: str

    @property
    def called(self) -> str:
        """What errors call it."""
        return f"obstacle '{self.name}'"

    @property
    def middle(self) -> NDArray[np.float64]:
        """(3,) of the box."""
        return (np.array(self.lower) + np.array(self.upper)) / 2


class Plane(_Strict):
    """What lies behind it (``normal`` . x < ``offset``) is out of bounds; the normal is a unit vector, base frame."""

    name: str
    normal: Vector3
    offset: float

    @model_validator(mode="after")
    def _unit(self) -> Plane:
        if not abs(np.linalg.norm(self.normal) - 1) <= 1e-6:
            raise ValueError(f"the normal of plane '{self.name}' has length {np.linalg.norm(self.normal):.3f}, expected 1")
        return self


class Zone(_Strict):
    """A value at which to slow down and one at which to stop."""

    slow: float = Field(gt=0)
    stop: float = Field(gt=0)


class Safety(_Strict):
    """What the arbiter keeps the arms to, besides ``Limits`` and ``workspace``; see docs/safety.md.

    limits: names of all limits in the order in which they are asked; position_margin: rad, kept from the position limits;
    tcp_speed, elbow_speed: m/s; tool_tilt: rad from straight down; singularity: condition numbers of the Jacobian;
    self_clearance, scene_clearance: m; may_touch: links that may come near obstacles.
    """

    limits: tuple[str, ...]
    position_margin: float = Field(ge=0, lt=0.2)
    tcp_speed: float = Field(gt=0, le=2)
    elbow_speed: float = Field(gt=0, le=2)
    elbow_link: str
    tool_tilt: float = Field(gt=0, le=np.pi)
    keep_out: tuple[Plane, ...]
    singularity: Zone
    self_clearance: Zone
    scene_clearance: Zone
    may_touch: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Safety:
        if not self.singularity.slow < self.singularity.stop:
            raise ValueError("singularity.slow must be below singularity.stop")
        for name in ("self_clearance", "scene_clearance"):
            if not getattr(self, name).stop < getattr(self, name).slow:
                raise ValueError(f"{name}.stop must be below {name}.slow")
        return self


class Calibration(_Strict):
    """What `harmowam calibrate` measured of one camera.

    fx, fy, cx, cy: pixels of the camera's height x width, as in sensor_msgs/CameraInfo: the first pixel's *centre* is (0, 0).
    distortion: k1, k2, p1, p2, k3 (plumb_bob), and k4, k5, k6 (rational_polynomial).
    position, orientation: of the optical frame (x right, y down, z forward) in the parent frame; m, quaternion xyzw.
    """

    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    distortion_model: Literal["plumb_bob", "rational_polynomial"] = "plumb_bob"
    distortion: tuple[float, ...] = (0.0,) * 5
    position: Vector3
    orientation: Quaternion

    @model_validator(mode="after")
    def _consistent(self) -> Calibration:
        wanted = {"plumb_bob": 5, "rational_polynomial": 8}[self.distortion_model]
        if len(self.distortion) != wanted:
            raise ValueError(f"distortion has {len(self.distortion)} values, expected {wanted} for {self.distortion_model}")
        if abs(np.linalg.norm(self.orientation) - 1) > 1e-3:
            raise ValueError(f"orientation {self.orientation} has norm {np.linalg.norm(self.orientation):.4f}, expected 1 (xyzw)")
        return self


class Camera(_Strict):
    """A camera; ``position`` and ``look_at`` are in the base frame, or in the TCP frame of ``mounted_on``.

    The nominal camera is a centred pin hole whose image's up direction is away from gravity (fixed cameras) or away from the tool's
    -x side (wrist cameras). Where there is a ``calibration``, it alone says where things are seen; ``height`` and ``width`` are then
    those of the calibrated stream. Pixels here count from the first pixel's outer *corner*, so that they scale with the image.
    """

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    fovy: float = Field(gt=0, lt=np.pi)
    position: Vector3
    look_at: Vector3
    mounted_on: str | None = None
    serial: str | None = None
    calibration: Calibration | None = None

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """(3, 3) camera matrix in pixels at the native size, counted from the first pixel's corner."""
        if (c := self.calibration) is not None:
            return np.array([[c.fx, 0, c.cx + 0.5], [0, c.fy, c.cy + 0.5], [0, 0, 1.0]])
        f = self.height / 2 / np.tan(self.fovy / 2)
        return np.array([[f, 0, self.width / 2], [0, f, self.height / 2], [0, 0, 1.0]])

    @property
    def distortion(self) -> NDArray[np.float64]:
        """(5,) or (8,) coefficients in OpenCV's order; zeros for a nominal camera."""
        return np.zeros(5) if self.calibration is None else np.array(self.calibration.distortion)

    @property
    def origin(self) -> NDArray[np.float64]:
        """(3,) where the optical centre is, m, parent frame."""
        return np.array(self.position if self.calibration is None else self.calibration.position)

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) optical frame (x right, y down, z forward) expressed in the parent frame."""
        if self.calibration is not None:
            return np.asarray(Rotation.from_quat(self.calibration.orientation).as_matrix())
        z = np.subtract(self.look_at, self.position)
        z = z / np.linalg.norm(z)
        up = np.array([0.0, 0, 1]) if self.mounted_on is None else np.array([1.0, 0, 0])
        x = np.cross(z, up)
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(z, x), z], axis=1)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Parent-frame points (..., 3) to native pixels (..., 2)."""
        seen = (np.asarray(points) - self.origin) @ self.rotation
        if self.distortion.any():
            pixels, _ = cv2.projectPoints(seen.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), self.intrinsics, self.distortion)
            return np.asarray(pixels, np.float64).reshape(*seen.shape[:-1], 2)
        seen = seen @ self.intrinsics.T
        return seen[..., :2] / seen[..., 2:]

    def unproject(self, pixels: NDArray[np.float64], height: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Native pixels (..., 2) to the parent-frame points (..., 3) where their rays meet z = ``height``."""
        pixels = np.asarray(pixels, dtype=np.float64)
        if self.distortion.any():
            # Undistorted by iteration; a lens of this kind needs about ten rounds for a millionth of a pixel.
            stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-10)
            flat = pixels.reshape(-1, 1, 2)
            pinhole = cv2.undistortPoints(flat, self.intrinsics, self.distortion, None, None, self.intrinsics, stop)
            pixels = np.asarray(pinhole, np.float64).reshape(pixels.shape)
        rays = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1) @ np.linalg.inv(self.intrinsics).T @ self.rotation.T
        distance = (np.asarray(height) - self.origin[2]) / rays[..., 2]
        return self.origin + rays * distance[..., None]


class Cell(_Strict):
    """A whole cell; see config/cells/franka_dual.yaml. ``base_frame``: the one that messages are in (harmowam_core.messages)."""

    name: str
    base_frame: Literal["base"]
    urdf: str
    arms: tuple[Arm, ...]
    joints: tuple[str, ...]
    posture: tuple[float, ...]
    tool: Tool
    finger_joint: str
    finger_travel: float = Field(gt=0)
    limits: Limits
    workspace: Box
    obstacles: tuple[Obstacle, ...] = ()
    safety: Safety
    cameras: tuple[Camera, ...]
    controllers: Controllers
    driver: Driver
    gripper: Gripper

    @model_validator(mode="after")
    def _consistent(self) -> Cell:
        if len(self.posture) != len(self.joints):
            raise ValueError(f"posture has {len(self.posture)} values for {len(self.joints)} joints")
        if set(self.driver.addresses) != set(self.arm_names):
            raise ValueError(f"driver.addresses are of {sorted(self.driver.addresses)}; arms are {self.arm_names}")
        if len(set(self.arm_joint_names)) != len(self.arm_joint_names):
            raise ValueError(f"two arms have joints of the same name; give them different prefixes: {self.arm_joint_names}")
        for name in Limits.model_fields:
            if len(getattr(self.limits, name)) != len(self.joints):
                raise ValueError(f"limits.{name} has {len(getattr(self.limits, name))} values for {len(self.joints)} joints")
        for joint, lower, upper in zip(self.joints, self.limits.position_lower, self.limits.position_upper, strict=True):
            if not lower < upper:
                raise ValueError(f"limits: position_lower {lower} of '{joint}' is not below position_upper {upper}; swap or correct them")
        for name, gains in self.controllers.gains or ():
            if len(gains) != len(self.joints):
                raise ValueError(f"controllers.gains.{name} has {len(gains)} values for {len(self.joints)} joints")
        for camera in self.cameras:
            if camera.mounted_on is not None and camera.mounted_on not in self.arm_names:
                raise ValueError(f"camera '{camera.name}' is mounted on '{camera.mounted_on}'; arms are {self.arm_names}")
        return self

    @property
    def arm_names(self) -> tuple[str, ...]:
        """Arms in their fixed order."""
        return tuple(arm.name for arm in self.arms)

    @property
    def arm_joint_names(self) -> tuple[str, ...]:
        """All arm joints, arm by arm."""
        return tuple(name for arm in self.arms for name in arm.named(self.joints))

    @property
    def finger_joint_names(self) -> tuple[str, ...]:
        """One finger joint an arm."""
        return tuple(f"{arm.prefix}{self.finger_joint}" for arm in self.arms)

    def camera(self, name: str) -> Camera:
        """A camera by name; KeyError names those there are."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"cell '{self.name}' has no camera '{name}'; it has {[c.name for c in self.cameras]}")


def cell_files() -> dict[str, Path]:
    """Profiles by name: those of the folder in HARMOWAM_CELLS come before ours."""
    own = os.environ.get(OWN_CELLS, "")
    folders = [CELLS_DIR, *([Path(own)] if own else [])]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def cell_path(name_or_path: str | Path) -> Path:
    """The profile's file; FileNotFoundError names the known ones."""
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = cell_files().get(str(name_or_path), CELLS_DIR / f"{name_or_path}.yaml")
    if not path.is_file():
        raise FileNotFoundError(f"no cell profile '{path}'; known: {sorted(cell_files())}")
    return path


def load_cell(name_or_path: str | Path = "franka_dual") -> Cell:
    """Read a cell profile by name (config/cells, or the folder in HARMOWAM_CELLS) or path; errors name the file and the field."""
    path = cell_path(name_or_path)
    try:
        return Cell.model_validate(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"cell profile {path}: {error}") from error
