"""Joint positions, along the whole spline."""

from __future__ import annotations

import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Limit, Motion, Verdict


class PositionLimit(Limit):
    """The profile's range of each joint."""

    def __init__(self, cell: Cell) -> None:
        self._lower = np.tile(cell.limits.position_lower, len(cell.arms))
        self._upper = np.tile(cell.limits.position_upper, len(cell.arms))

    def check(self, motion: Motion) -> Verdict:
        """Refuse to leave the range."""
        low, high = motion.dense.positions.min(axis=0), motion.dense.positions.max(axis=0)
        if (low >= self._lower).all() and (high <= self._upper).all():
            return Verdict()
        joint = int(np.argmax(np.maximum(self._lower - low, high - self._upper)))
        below = bool(self._lower[joint] - low[joint] > high[joint] - self._upper[joint])
        measured, limit = (low[joint], self._lower[joint]) if below else (high[joint], self._upper[joint])
        text = f"{motion.names[joint]} would reach {measured:.3f} rad, limit {limit:.3f}"
        return Verdict.refused(Reason.POSITION_LIMIT, float(measured), float(limit), text)
