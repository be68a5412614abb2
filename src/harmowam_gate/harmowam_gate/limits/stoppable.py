"""From every point on, braking at once stays inside the limits of place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.brake import ACCELERATION_SHARE, JERK_SHARE
from harmowam_gate.limits.clearance import ClearanceLimit
from harmowam_gate.limits.keep_out import KeepOutLimit
from harmowam_gate.limits.limit import Context, Limit, Motion, PlaceLimit, Verdict
from harmowam_gate.limits.position import PositionLimit
from harmowam_gate.limits.tool_tilt import ToolTiltLimit
from harmowam_gate.limits.workspace import WorkspaceLimit

Float64 = NDArray[np.float64]


class StoppableLimit(Limit):
    """All joints brake in the time of the slowest, so an arm that brakes goes on along its velocity: where it comes to rest is checked."""

    def __init__(self, context: Context) -> None:
        cell = context.cell
        self._acceleration = np.tile(cell.limits.acceleration, len(cell.arms)) * ACCELERATION_SHARE
        self._jerk = np.tile(cell.limits.jerk, len(cell.arms)) * JERK_SHARE
        self._body = context.body
        self._limits: tuple[PlaceLimit, ...] = tuple(
            kind(context) for kind in (PositionLimit, WorkspaceLimit, KeepOutLimit, ToolTiltLimit, ClearanceLimit)
        )

    def check(self, motion: Motion) -> Verdict:
        """Refuse where a brake would end outside."""
        sparse = motion.sparse
        q, v, a = (rows[sparse] for rows in (motion.spline.positions, motion.spline.velocities, motion.spline.accelerations))
        if not v.any():
            return Verdict()
        rests = np.concatenate([q[:1], q + v * self._brake_s(v, a)[:, None]])  # after where it is now
        places = self._body.places(rests, np.zeros_like(rests))
        for limit in self._limits:
            verdict = limit.compare(limit.outside(places))
            if not verdict.ok:
                text = f"braking on the way would end outside: {verdict.text}"
                return Verdict.refused(Reason.NOT_STOPPABLE, verdict.measured, verdict.limit, text)
        return Verdict()

    def _brake_s(self, v: Float64, a: Float64) -> Float64:
        """(S,) the time at the present velocity that covers the way to rest: half of the braking, and the build-up of the deceleration."""
        build_up = (self._acceleration + np.abs(a)) / self._jerk
        faster = np.abs(v) + np.abs(a) * build_up / 2
        return np.asarray((faster / self._acceleration / 2 + build_up / 2).max(axis=1), dtype=np.float64)
