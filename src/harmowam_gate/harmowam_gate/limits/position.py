"""Joint positions, along the whole spline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.body import Places
from harmowam_gate.limits.limit import Context, Motion, PlaceLimit, Verdict


class PositionLimit(PlaceLimit):
    """The profile's range of each joint, less the margin. A joint that begins outside may come back, but not go further out."""

    def __init__(self, context: Context) -> None:
        cell, margin = context.cell, context.cell.safety.position_margin
        self._names = cell.arm_joint_names
        self._lower = np.tile(cell.limits.position_lower, len(cell.arms)) + margin
        self._upper = np.tile(cell.limits.position_upper, len(cell.arms)) - margin

    def outside(self, places: Places) -> NDArray[np.float64]:
        """(S, 2 N): below, then above."""
        return self._beyond(places.positions)

    def check(self, motion: Motion) -> Verdict:
        """Refuse to leave the range, between the points, too."""
        return self.compare(self._beyond(motion.dense.positions))

    def _beyond(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([self._lower - positions, positions - self._upper], axis=1)

    def describe(self, part: int, outside: float) -> Verdict:
        """Names the joint."""
        above, joint = divmod(part, len(self._names))
        limit = float((self._upper if above else self._lower)[joint])
        measured = limit + outside if above else limit - outside
        text = f"{self._names[joint]} would reach {measured:.3f} rad, limit {limit:.3f}"
        return Verdict.refused(Reason.POSITION_LIMIT, measured, limit, text)
