"""The arms' joint states with the fingers' joined to them, in the one message that the graph wants."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from harmowam_bringup.gripper.commands import opening_of
from harmowam_core.cell import Cell
from harmowam_core.stages import JointState

MAX_AGE_S = 0.5
"""Oldest finger state that still counts; a driver of ten states a second may miss some."""


@dataclass
class JoinedStates:
    """Fingers by arm, m and ns; those of another unit (a knuckle's angle) are converted by the profile's ``open`` and ``closed``."""

    cell: Cell
    _fingers: dict[str, tuple[float, int]] = field(default_factory=dict)

    def measured(self, arm: str, position: float, stamp_ns: int) -> None:
        """Where the driver's joint of an arm's gripper is."""
        self._fingers[arm] = opening_of(self.cell.gripper, position) * self.cell.finger_travel, stamp_ns

    def missing(self, now_ns: int) -> list[str]:
        """Arms whose fingers were not heard lately."""
        return [arm for arm in self.cell.arm_names if abs(now_ns - self._fingers.get(arm, (0.0, 0))[1]) > MAX_AGE_S * 1e9]

    def join(self, arms: JointState) -> JointState | None:
        """The arms' state with the fingers', at the arms' stamp; None while a gripper is silent, so that nobody takes old for new."""
        if self.missing(arms.stamp_ns):
            return None
        fingers = np.array([self._fingers[arm][0] for arm in self.cell.arm_names])
        return JointState(
            arms.stamp_ns,
            arms.names + self.cell.finger_joint_names,
            np.concatenate([arms.positions, fingers]),
            np.concatenate([arms.velocities, np.zeros(len(fingers))]),
        )
