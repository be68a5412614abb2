"""How far a tool leans from pointing straight down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.body import Places
from harmowam_gate.limits.limit import Context, PlaceLimit, Verdict


class ToolTiltLimit(PlaceLimit):
    """The profile's angle. A tool that begins beyond it may come back, but not lean further."""

    def __init__(self, context: Context) -> None:
        self._arms, self._limit = context.cell.arm_names, context.cell.safety.tool_tilt

    def outside(self, places: Places) -> NDArray[np.float64]:
        """(S, A), rad."""
        return np.arccos(np.clip(places.tool_down, -1.0, 1.0)) - self._limit

    def describe(self, part: int, outside: float) -> Verdict:
        """Names the arm."""
        measured = self._limit + outside
        text = f"the tool of arm '{self._arms[part]}' would lean {measured:.2f} rad from straight down, limit {self._limit:.2f}"
        return Verdict.refused(Reason.TOOL_TILT, measured, self._limit, text)
