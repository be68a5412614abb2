"""The paper's action numbers: 3 of position (m), 3 Euler angles (rad) and 1 gripper an arm, absolute in the base frame.

Angles are counted from the arm's home orientation: a tool that points down lies at +-pi of the base frame, where angles jump.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor, nn, ones, zeros

from harmowam_core.cell import Cell

Float32 = NDArray[np.float32]
PER_ARM = 7


class EulerActions:
    """Poses to numbers and back for the arms of a cell."""

    def __init__(self, cell: Cell) -> None:
        self.arms = cell.arm_names
        self._home = Rotation.from_quat([arm.home_tcp_orientation for arm in cell.arms])

    @property
    def size(self) -> int:
        """Numbers of one target."""
        return PER_ARM * len(self.arms)

    def encode(self, positions: Float32, orientations: Float32, grippers: Float32) -> Float32:
        """Targets (K, A, 3), (K, A, 4), (K, A) to numbers (K, 7 A)."""
        angles = [(self._home[a].inv() * Rotation.from_quat(orientations[:, a])).as_euler("xyz") for a in range(len(self.arms))]
        numbers = np.concatenate([positions, np.stack(angles, 1), grippers[..., None]], -1)
        return numbers.reshape(len(numbers), -1).astype(np.float32)

    def decode(self, numbers: Float32) -> tuple[Float32, Float32, Float32]:
        """Inverse of ``encode``; openings are cut to [0, 1]."""
        per_arm = numbers.reshape(len(numbers), len(self.arms), PER_ARM)
        turned = [(self._home[a] * Rotation.from_euler("xyz", per_arm[:, a, 3:6])).as_quat() for a in range(len(self.arms))]
        orientations = np.stack(turned, 1).astype(np.float32)
        return per_arm[..., :3].astype(np.float32), orientations, np.clip(per_arm[..., 6], 0, 1).astype(np.float32)


class ActionStatistics(nn.Module):
    """Mean and deviation of the training actions; part of the weights, so that training and serving cannot drift apart."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", zeros(size))
        self.register_buffer("deviation", ones(size))

    def fit(self, actions: Tensor) -> None:
        """Set from training actions (n, size); what never moves keeps a deviation of 1e-3."""
        self.mean.copy_(actions.mean(0))
        self.deviation.copy_(actions.std(0).clamp(min=1e-3))

    def normalise(self, actions: Tensor) -> Tensor:
        """Actions (..., size) to numbers of order one."""
        return (actions - self.mean) / self.deviation

    def restore(self, numbers: Tensor) -> Tensor:
        """Inverse of ``normalise``."""
        return numbers * self.deviation + self.mean
