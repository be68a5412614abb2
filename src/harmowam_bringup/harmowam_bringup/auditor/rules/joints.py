"""Position, velocity, acceleration and jerk of every joint, all along the curve."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harmowam_bringup.auditor.limits import AxisLimits
from harmowam_bringup.auditor.rules.check import Check, Motion, Place, exceeding
from harmowam_bringup.auditor.verdict import Finding, Rule

EVERY_S, FEWEST = 0.005, 10
"""Samples are at most so far apart, and at least so many to a piece: a parabola's top is met within 0.3 %."""


class JointLimits(Check):
    """The profile's limits."""

    def __init__(self, limits: AxisLimits) -> None:
        self._limits = limits
        self._below, self._above = Place(), Place()

    def check(self, motion: Motion) -> Iterator[Finding]:
        """Blame the worst joint for each limit."""
        limits, samples = self._limits, motion.curve.samples(EVERY_S, FEWEST)
        positions, anew = samples.positions, motion.before is None
        upper = limits.upper + self._above.allowed(positions - limits.upper, anew)
        lower = limits.lower - self._below.allowed(limits.lower - positions, anew)
        yield from exceeding(Rule.POSITION_LIMIT, limits.joints, positions, upper)
        for below in exceeding(Rule.POSITION_LIMIT, limits.joints, -positions, -lower):
            yield Finding(below.rule, below.part, -below.measured, -below.limit)
        yield from exceeding(Rule.VELOCITY_LIMIT, limits.joints, np.abs(samples.velocities), limits.velocity)
        yield from exceeding(
            Rule.ACCELERATION_LIMIT, limits.joints, np.abs(samples.accelerations), limits.acceleration, samples.acceleration_noise
        )
        yield from exceeding(Rule.JERK_LIMIT, limits.joints, np.abs(samples.jerks), limits.jerk, samples.jerk_noise)
