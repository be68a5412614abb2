"""A trajectory begins by now and ends at rest, and soon."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harmowam_bringup.auditor.limits import REST_WITHIN_S
from harmowam_bringup.auditor.rules.check import Check, Motion, exceeding
from harmowam_bringup.auditor.verdict import Finding, Rule


class Rest(Check):
    """The stamp is not in the future; the last point's velocity, its acceleration where given, and its time after the publication.

    Times count from the arrival: whatever the stamp says, so much later the arm of a dead publisher is at rest.
    """

    def __init__(self, joints: tuple[str, ...], within_s: float = REST_WITHIN_S) -> None:
        self._joints, self._within_s = joints, within_s

    def check(self, motion: Motion) -> Iterator[Finding]:
        """Blame a beginning that is late, an end that is late or moves."""
        points = motion.points
        yield from exceeding(Rule.FUTURE_STAMP, [""], [[(points.stamp_ns - motion.received_ns) * 1e-9]], 0.0)
        yield from exceeding(Rule.MOVING_END, self._joints, np.abs(points.velocities[-1:]), 0.0)
        if np.isfinite(points.accelerations[-1]).all():
            yield from exceeding(Rule.ACCELERATING_END, self._joints, np.abs(points.accelerations[-1:]), 0.0)
        yield from exceeding(Rule.LATE_REST, [""], [[(motion.curve.end_ns - motion.received_ns) * 1e-9]], self._within_s)
