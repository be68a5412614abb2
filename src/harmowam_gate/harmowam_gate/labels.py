"""Automatic gate labels from gripper events and end-effector height (paper: gate).

A frame is *interaction* when it lies within ``window`` frames of a gripper event and the hand is below the height at which its
phase changes hands; all else is *transit*. With several arms either triggers. The height makes the boundary visible in the image: a bare
count of frames would depend on how fast the demonstrator happened to be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class GateLabelSettings:
    """window: frames before and after an event; height_m: of the tool above where the event happened."""

    window: int = 20
    height_m: float = 0.125


def gripper_events(commanded: NDArray[np.float32]) -> NDArray[np.int64]:
    """Frames (n,) at which a gripper's commanded opening (T,) crosses one half."""
    return np.flatnonzero(np.diff((commanded > 0.5).astype(np.int8)) != 0) + 1


def interaction_labels(
    commanded: NDArray[np.float32], height_m: NDArray[np.float32], settings: GateLabelSettings | None = None
) -> NDArray[np.bool_]:
    """Commanded openings (T, A) and tool heights (T, A), m, to labels (T,): True for interaction."""
    settings = settings or GateLabelSettings()
    labels = np.zeros(len(commanded), bool)
    for arm in range(commanded.shape[1]):
        for event in gripper_events(commanded[:, arm]):
            near = slice(max(event - settings.window, 0), event + settings.window + 1)
            labels[near] |= height_m[near, arm] < height_m[event, arm] + settings.height_m
    return labels
