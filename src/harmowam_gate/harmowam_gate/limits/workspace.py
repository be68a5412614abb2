"""The box that every tool stays in; its lower face keeps the fingers off the table."""

from __future__ import annotations

import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Limit, Motion, Verdict

TOLERANCE_M = 0.003  # smoothed and blended paths cut corners by less


class WorkspaceLimit(Limit):
    """The profile's workspace. A tool that begins outside may come back, but not go further out."""

    def __init__(self, cell: Cell) -> None:
        self._arms = cell.arm_names
        self._lower, self._upper = np.array(cell.workspace.lower), np.array(cell.workspace.upper)

    def check(self, motion: Motion) -> Verdict:
        """Refuse to leave the box."""
        outside = np.maximum(self._lower - motion.tools, motion.tools - self._upper).max(axis=-1)  # (S, A), m
        allowed = np.maximum(outside[0], 0.0) + TOLERANCE_M
        if (outside <= allowed).all():
            return Verdict()
        sample, arm = np.unravel_index(int(np.argmax(outside - allowed)), outside.shape)
        where = np.round(motion.tools[sample, arm], 3).tolist()
        text = f"the tool of arm '{self._arms[arm]}' would leave the workspace by {outside[sample, arm]:.3f} m at {where}"
        return Verdict.refused(Reason.WORKSPACE, float(outside[sample, arm]), float(allowed[arm]), text)
