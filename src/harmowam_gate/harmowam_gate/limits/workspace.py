"""The box that every tool stays in; its lower face keeps the fingers off the table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.body import Places
from harmowam_gate.limits.limit import Context, PlaceLimit, Verdict


class WorkspaceLimit(PlaceLimit):
    """The profile's workspace. A tool that begins outside may come back, but not go further out."""

    tolerance = 0.003  # m: smoothed and blended paths cut corners by less

    def __init__(self, context: Context) -> None:
        self._arms = context.cell.arm_names
        self._lower, self._upper = np.array(context.cell.workspace.lower), np.array(context.cell.workspace.upper)

    def outside(self, places: Places) -> NDArray[np.float64]:
        """(S, A), m."""
        return np.maximum(self._lower - places.tools, places.tools - self._upper).max(axis=-1)

    def describe(self, part: int, outside: float) -> Verdict:
        """Names the arm."""
        text = f"the tool of arm '{self._arms[part]}' would leave the workspace by {outside:.3f} m"
        return Verdict.refused(Reason.WORKSPACE, outside, 0.0, text)
