"""Distances between the arms, of an arm to itself, and to what stands in the cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.body import Places
from harmowam_gate.limits.limit import Context, Motion, PlaceLimit, Verdict

KINDS = ("self", "scene")


class ClearanceLimit(PlaceLimit):
    """From the profile's ``slow`` distance on, solids must close in ever more slowly; ``stop`` they must not pass.

    What begins nearer may part, but not come nearer still.
    """

    def __init__(self, context: Context) -> None:
        self._body, safety = context.body, context.cell.safety
        zones = (safety.self_clearance, safety.scene_clearance)
        self._stop, self._slow = np.array([zone.stop for zone in zones]), np.array([zone.slow for zone in zones])
        self._fastest = safety.tcp_speed
        self._names = [("", ""), ("", "")]

    def outside(self, places: Places) -> NDArray[np.float64]:
        """(S, 2) how far nearer than ``stop``, m."""
        return self._stop - self._distances(places.positions)

    def check(self, motion: Motion) -> Verdict:
        """Refuse to come nearer than ``stop``; ask for more time on the way there."""
        sparse = motion.sparse
        distances = self._distances(motion.spline.positions[sparse])
        verdict = self.compare(self._stop - distances)
        if not verdict.ok or not (distances < self._slow).any() or len(sparse) < 2:
            return verdict
        closing = -np.diff(distances, axis=0) / np.diff(motion.times_s[sparse])[:, None]  # (S' - 1, 2), m/s
        share = np.clip((distances[1:] - self._stop) / (self._slow - self._stop), 0.02, 1.0)
        limits = share * self._fastest
        if (closing <= limits).all():
            return Verdict()
        sample, kind = np.unravel_index(int(np.argmax(closing / limits)), closing.shape)
        first, second = self._names[kind]
        text = (
            f"{first} and {second} would close in at {closing[sample, kind]:.2f} m/s, {distances[sample + 1, kind]:.3f} m from each other"
        )
        return Verdict.too_fast(Reason.CLEARANCE, float(closing[sample, kind]), float(limits[sample, kind]), 1, text)

    def describe(self, part: int, outside: float) -> Verdict:
        """Names both."""
        measured, limit = float(self._stop[part] - outside), float(self._stop[part])
        first, second = self._names[part]
        text = f"{first} and {second} would come within {measured:.3f} m of each other ({KINDS[part]} clearance), limit {limit:.3f}"
        return Verdict.refused(Reason.CLEARANCE, measured, limit, text)

    def _distances(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, 2); zero where there are no numbers."""
        if not np.isfinite(positions).all():
            return np.full((len(positions), 2), -np.inf)
        distances, self._names = self._body.distances.least(positions)
        return distances
