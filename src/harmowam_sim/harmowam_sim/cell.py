"""The simulated cell: two Franka arms at a table in MuJoCo, with cameras and contact grasps (interface only so far)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import numpy as np
from harmowam_core.cell import Cell
from harmowam_core.stages import JointState
from numpy.typing import NDArray

from harmowam_sim.scene import Scene

Float64 = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]


class SimCell:
    """SimCell(scene, cell=None, *, start_arm_positions=(14,) rad or None for home, start_openings=(1, 1)).

    Attributes: time_s, cell, arm_positions (14,), arm_velocities (14,), openings (A,) measured, in [0, 1].
    """

    def __init__(
        self, scene: Scene, cell: Cell | None = None, *, start_arm_positions: Float64 | None = None, start_openings: tuple[float, ...] = (1.0, 1.0)
    ) -> None: ...

    def joint_state(self) -> JointState: ...
    def tcp_pose(self) -> tuple[Float64, Float64]: ...
    def command_arms(self, positions: Float64, velocities: Float64) -> None: ...
    def command_openings(self, openings: Float64) -> None: ...
    def step(self, duration_s: float) -> None: ...
    def render(self, camera: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]: ...
    def object_pose(self, name: str) -> tuple[Float64, Float64]: ...
    def object_velocity(self, name: str) -> tuple[Float64, Float64]: ...  # linear m/s, angular rad/s, base frame
    def in_contact(self, name_a: str, name_b: str) -> bool: ...  # object names, "table", or "left_hand"/"right_hand"
    def grasped(self, name: str, arm: str) -> bool: ...  # touched by both fingers of the arm
    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> SimCell: ...
    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
