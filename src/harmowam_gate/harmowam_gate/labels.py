"""Automatic gate labels from gripper events and where the end effector is (paper: gate).

A frame is *interaction* when it lies within ``window`` frames of a gripper event and the hand is close above the place of that event;
all else is *transit*. With several arms either triggers. The distances make the boundary visible in the image: a bare count of
frames would depend on how fast the demonstrator happened to be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GateLabelSettings:
    """window: frames before and after an event; height_m, beside_m: how far the tool may be above and beside its place.

    The paper's window is 20 frames; a can is let down here in up to 28.
    """

    window: int = 30
    height_m: float = 0.105
    beside_m: float = 0.06


def gripper_events(commanded: NDArray[np.float32]) -> NDArray[np.int64]:
    """Frames (n,) at which a gripper's commanded opening (T,) crosses one half."""
    return np.flatnonzero(np.diff((commanded > 0.5).astype(np.int8)) != 0) + 1


def interaction_labels(
    commanded: NDArray[np.float32], positions: NDArray[np.float32], settings: GateLabelSettings | None = None
) -> NDArray[np.bool_]:
    """Commanded openings (T, A) and tool positions (T, A, 3), m, base frame, to labels (T,): True for interaction."""
    settings = settings or GateLabelSettings()
    labels = np.zeros(len(commanded), bool)
    for arm in range(commanded.shape[1]):
        for event in gripper_events(commanded[:, arm]):
            near = slice(max(event - settings.window, 0), event + settings.window + 1)
            offset = positions[near, arm] - positions[event, arm]
            labels[near] |= (offset[:, 2] < settings.height_m) & (np.hypot(offset[:, 0], offset[:, 1]) < settings.beside_m)
    return labels
