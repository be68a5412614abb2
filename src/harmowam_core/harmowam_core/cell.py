"""The robot cell: arms, limits, cameras, controllers, read from one YAML profile (lengths m, angles rad)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

CELLS_DIR = Path(__file__).parent / "config" / "cells"

Vector3 = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
Quaternion = Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Arm(_Strict):
    """One arm: where its base stands and where its tool waits, in the base frame."""

    name: str
    base_position: Vector3
    base_orientation: Quaternion
    home_tcp_position: Vector3
    home_tcp_orientation: Quaternion


class Limits(_Strict):
    """Joint limits of one arm: rad, rad/s, rad/s^2, rad/s^3."""

    position_lower: tuple[float, ...]
    position_upper: tuple[float, ...]
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]


class Box(_Strict):
    """An axis-aligned box in the base frame."""

    lower: Vector3
    upper: Vector3


class Obstacle(Box):
    """Something that always stands in the cell, such as the table."""

    name: str

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


class Camera(_Strict):
    """A pin-hole camera; ``position`` and ``look_at`` are in the base frame, or in the TCP frame of ``mounted_on``.

    The image's up direction is away from gravity (fixed cameras) or away from the tool's -x side (wrist cameras).
    """

    name: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    fovy: float = Field(gt=0, lt=np.pi)
    position: Vector3
    look_at: Vector3
    mounted_on: str | None = None

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """(3, 3) camera matrix in pixels at the native size, square pixels, centred."""
        f = self.height / 2 / np.tan(self.fovy / 2)
        return np.array([[f, 0, self.width / 2], [0, f, self.height / 2], [0, 0, 1.0]])

    @property
    def rotation(self) -> NDArray[np.float64]:
        """(3, 3) optical frame (x right, y down, z forward) expressed in the parent frame."""
        z = np.subtract(self.look_at, self.position)
        z = z / np.linalg.norm(z)
        up = np.array([0.0, 0, 1]) if self.mounted_on is None else np.array([1.0, 0, 0])
        x = np.cross(z, up)
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(z, x), z], axis=1)

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Parent-frame points (..., 3) to native pixels (..., 2)."""
        seen = (np.asarray(points) - self.position) @ self.rotation @ self.intrinsics.T
        return seen[..., :2] / seen[..., 2:]

    def unproject(self, pixels: NDArray[np.float64], height: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Native pixels (..., 2) to the parent-frame points (..., 3) where their rays meet z = ``height``."""
        pixels = np.asarray(pixels, dtype=np.float64)
        rays = np.concatenate([pixels, np.ones_like(pixels[..., :1])], -1) @ np.linalg.inv(self.intrinsics).T @ self.rotation.T
        distance = (np.asarray(height) - self.position[2]) / rays[..., 2]
        return np.asarray(self.position) + rays * distance[..., None]


class Controllers(_Strict):
    """Topics the arm driver listens to."""

    arm_topic: str
    gripper_topic: str


class Cell(_Strict):
    """A whole cell; see config/cells/franka_dual.yaml."""

    name: str
    base_frame: str
    urdf: str
    arms: tuple[Arm, ...]
    joints: tuple[str, ...]
    finger_joint: str
    finger_travel: float = Field(gt=0)
    limits: Limits
    workspace: Box
    obstacles: tuple[Obstacle, ...] = ()
    safety: Safety
    cameras: tuple[Camera, ...]
    controllers: Controllers

    @model_validator(mode="after")
    def _consistent(self) -> Cell:
        for name in Limits.model_fields:
            if len(getattr(self.limits, name)) != len(self.joints):
                raise ValueError(f"limits.{name} has {len(getattr(self.limits, name))} values for {len(self.joints)} joints")
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
        return tuple(f"{arm.name}_{joint}" for arm in self.arms for joint in self.joints)

    @property
    def finger_joint_names(self) -> tuple[str, ...]:
        """One finger joint an arm."""
        return tuple(f"{arm.name}_{self.finger_joint}" for arm in self.arms)

    def camera(self, name: str) -> Camera:
        """A camera by name; KeyError names those there are."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"cell '{self.name}' has no camera '{name}'; it has {[c.name for c in self.cameras]}")


def load_cell(name_or_path: str | Path = "franka_dual") -> Cell:
    """Read a cell profile by name (config/cells) or path; errors name the file and the field."""
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = CELLS_DIR / f"{name_or_path}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"no cell profile '{path}'; known: {sorted(p.stem for p in CELLS_DIR.glob('*.yaml'))}")
    try:
        return Cell.model_validate(yaml.safe_load(path.read_text()))
    except ValueError as error:
        raise ValueError(f"cell profile {path}: {error}") from error
