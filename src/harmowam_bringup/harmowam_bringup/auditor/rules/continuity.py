"""A trajectory goes on where the one before it has the joints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from harmowam_bringup.auditor.curve import Curve, Points
from harmowam_bringup.auditor.limits import AxisLimits
from harmowam_bringup.auditor.rules.check import Check, Motion, exceeding
from harmowam_bringup.auditor.verdict import Finding, Rule

POSITION_STEP, VELOCITY_STEP = 1e-4, 1e-3
"""Allowed at a seam: rad (fingers: m) and rad/s; far below what an arm shows."""


class Continuity(Check):
    """Position and velocity of the first point against the set-point published before.

    Where the first point is still to come, the joining segment leads there without a step and is judged like the rest of the curve.
    """

    def __init__(self, joints: tuple[str, ...]) -> None:
        self._joints = joints

    def check(self, motion: Motion) -> Iterator[Finding]:
        """Blame a step."""
        if motion.before is None or motion.is_joined:
            return
        new = motion.points
        old = motion.before.at(int(new.times_ns[0]))
        yield from exceeding(Rule.POSITION_JUMP, self._joints, np.abs(new.positions[:1] - old.position), POSITION_STEP)
        yield from exceeding(Rule.VELOCITY_JUMP, self._joints, np.abs(new.velocities[:1] - old.velocity), VELOCITY_STEP)


def begins_anew(points: Points, before: Curve | None, limits: AxisLimits, measured: Callable[[], Mapping[str, float] | None]) -> bool:
    """Whether a trajectory need not go on where the last one ended: there is none, or both rest there and these are the measured joints.

    The latter is how motion goes on after an operator has moved the arm, or fingers have closed on something.
    """
    if before is None:
        return True
    old = before.at(int(points.times_ns[0]))
    moving = np.abs([old.velocity, points.velocities[0]]).max()
    if moving > VELOCITY_STEP or np.abs(points.positions[0] - old.position).max() <= POSITION_STEP:
        return False
    known = measured() or {}
    there = np.array([known.get(joint, np.nan) for joint in limits.joints])
    return bool((np.abs(points.positions[0] - there) <= limits.resync).all())
