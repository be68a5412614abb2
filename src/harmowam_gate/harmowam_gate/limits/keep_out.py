"""Planes behind which no part of an arm may get, such as the table's top."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.body import Places
from harmowam_gate.limits.limit import Context, PlaceLimit, Verdict


class KeepOutLimit(PlaceLimit):
    """The profile's planes, for all solids of an arm but its base, its shoulder and the fingers, which the workspace keeps.

    What begins behind a plane may come back, but not go further.
    """

    def __init__(self, context: Context) -> None:
        self._arms, self._planes = context.cell.arm_names, context.cell.safety.keep_out

    def outside(self, places: Places) -> NDArray[np.float64]:
        """(S, planes * A), m."""
        behind = [plane.offset - places.lowest(np.array(plane.normal)) for plane in self._planes]
        return np.concatenate([np.full((len(places.positions), 1), -np.inf), *behind], axis=1)

    def describe(self, part: int, outside: float) -> Verdict:
        """Names plane and arm."""
        plane, arm = divmod(part - 1, len(self._arms))
        text = f"arm '{self._arms[arm]}' would get {outside:.3f} m behind the plane '{self._planes[plane].name}'"
        return Verdict.refused(Reason.WORKSPACE, outside, 0.0, text)
