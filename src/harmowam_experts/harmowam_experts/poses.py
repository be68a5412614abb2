"""End-effector poses to network numbers and back. Rotations are quaternions xyzw outside, rotation vectors or 6-D inside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Float32 = NDArray[np.float32]


def horizon_scales(horizon: int) -> tuple[Float32, Float32]:
    """How far target k may be from the current pose: position (K,) in m and rotation (K,) in rad."""
    k = np.arange(1, horizon + 1, dtype=np.float32)
    return 0.02 + 0.015 * k, 0.05 + 0.02 * k


def encode_deltas(position: Float32, orientation: Float32, positions: Float32, orientations: Float32, grippers: Float32) -> Float32:
    """Targets relative to the current pose, as numbers of order one.

    position (..., A, 3), orientation (..., A, 4); targets (..., K, A, 3), (..., K, A, 4), (..., K, A). Returns (..., K, 7 A).
    """
    position_scale, rotation_scale = horizon_scales(positions.shape[-3])
    moved = (positions - position[..., None, :, :]) / position_scale[:, None, None]
    start = np.broadcast_to(orientation[..., None, :, :], orientations.shape)
    turned = Rotation.from_quat(orientations.reshape(-1, 4)) * Rotation.from_quat(start.reshape(-1, 4)).inv()
    rotated = turned.as_rotvec().reshape(moved.shape) / rotation_scale[:, None, None]
    numbers = np.concatenate([moved, rotated, grippers[..., None] * 2 - 1], -1)
    return numbers.reshape(*numbers.shape[:-2], -1).astype(np.float32)


def decode_deltas(position: Float32, orientation: Float32, numbers: Float32) -> tuple[Float32, Float32, Float32]:
    """Inverse of ``encode_deltas``: numbers (..., K, 7 A) to positions, orientations and grippers in [0, 1]."""
    horizon, arms = numbers.shape[-2], position.shape[-2]
    position_scale, rotation_scale = horizon_scales(horizon)
    per_arm = numbers.reshape(*numbers.shape[:-1], arms, 7).astype(np.float64)
    positions = position[..., None, :, :] + per_arm[..., :3] * position_scale[:, None, None]
    rotated = Rotation.from_rotvec((per_arm[..., 3:6] * rotation_scale[:, None, None]).reshape(-1, 3))
    start = np.broadcast_to(orientation[..., None, :, :], (*per_arm.shape[:-1], 4))
    orientations = (rotated * Rotation.from_quat(start.reshape(-1, 4))).as_quat().reshape(start.shape)
    grippers = np.clip((per_arm[..., 6] + 1) / 2, 0, 1)
    return positions.astype(np.float32), orientations.astype(np.float32), grippers.astype(np.float32)


def rotation_6d(orientation: Float32) -> Float32:
    """Quaternions (..., 4) to the first two columns of the rotation matrix (..., 6): continuous, so easy to regress."""
    matrix = Rotation.from_quat(orientation.reshape(-1, 4)).as_matrix()[:, :, :2]  # (n, 3, 2)
    return np.moveaxis(matrix, -1, -2).reshape(*orientation.shape[:-1], 6).astype(np.float32)


def rotation_from_6d(numbers: NDArray[np.float32]) -> Rotation:
    """(n, 6) to rotations by Gram-Schmidt."""
    a, b = numbers[:, :3].astype(np.float64), numbers[:, 3:].astype(np.float64)
    x = a / np.linalg.norm(a, axis=1, keepdims=True)
    y = b - (x * b).sum(1, keepdims=True) * x
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], -1))
