"""What the stand-in experts want: the left tool goes round a circle, slowly and for ever; the right arm waits at home. Plain Python."""

from __future__ import annotations

import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.stages import ActionChunk, Expert

RADIUS_M = 0.06
ROUND_S = 3.0
AHEAD_M = 0.06
"""From the home position to the circle's centre, so that no part of the circle counts as parked."""
HORIZON, PERIOD_S = 12, 0.1


def circling(cell: Cell, source: Expert, stamp_ns: int, chunk_id: int) -> ActionChunk:
    """A chunk along the circle. Where on it the tool is depends on the time alone, so that both experts and their successors agree."""
    due_s = stamp_ns % 10**15 * 1e-9 + PERIOD_S * np.arange(1, HORIZON + 1)
    angle = 2 * np.pi * due_s / ROUND_S
    positions = np.tile(np.array([arm.home_tcp_position for arm in cell.arms], np.float32), (HORIZON, 1, 1))  # (K, A, 3)
    positions[:, 0, 0] += AHEAD_M + RADIUS_M * np.cos(angle)
    positions[:, 0, 1] += RADIUS_M * np.sin(angle)
    orientations = np.tile(np.array([arm.home_tcp_orientation for arm in cell.arms], np.float32), (HORIZON, 1, 1))
    grippers = np.ones((HORIZON, len(cell.arms)), np.float32)
    return ActionChunk(stamp_ns, chunk_id, source, PERIOD_S, cell.arm_names, positions, orientations, grippers)
