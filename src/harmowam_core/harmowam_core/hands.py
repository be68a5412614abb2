"""Hands as networks are told of them: where each is, how open and how turned, and its way to the grounded points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HANDS = 24  # per arm: position 3, opening, sine and cosine of the yaw, way to the grounded target 3 and goal 3; two arms
WORKSPACE_CENTRE = np.array([0.5, 0.0, 0.2], np.float32)
WORKSPACE_SCALE = 0.2
"""Positions are counted from the middle of the workspace, in this many metres."""


def hand_vector(
    position: NDArray[np.float32], orientation: NDArray[np.float32], opening: NDArray[np.float32], points: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What transformer and reactive expert are told of the hands, (..., 12 A).

    From poses (..., A, 3) m and (..., A, 4) xyzw, openings (..., A), and the grounded points (..., 2, 3) m: where each hand is, and how it
    would have to go to reach them. The way, unlike the place, looks the same everywhere on the table.
    """
    x, y, z, w = np.moveaxis(orientation, -1, 0)
    way = (points[..., None, :, :] - position[..., None, :]) / 0.15  # (..., A, 2, 3)
    per_arm = np.concatenate(
        [
            (position - WORKSPACE_CENTRE) / WORKSPACE_SCALE,
            opening[..., None] * 2 - 1,
            2 * (x * y + z * w)[..., None],  # sine and cosine of the tool's yaw
            (1 - 2 * (y * y + z * z))[..., None],
            way.reshape(*way.shape[:-2], 6).clip(-4, 4),
        ],
        -1,
    )
    return per_arm.reshape(*per_arm.shape[:-2], -1).astype(np.float32)
