"""A trajectory goes on where the one before it has the joints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from harmowam_bringup.auditor.curve import Curve, Points
from harmowam_bringup.auditor.limits import AxisLimits
from harmowam_bringup.auditor.rules.check import Check, Float64, Motion, exceeding
from harmowam_bringup.auditor.verdict import Finding, Rule

POSITION_STEP, VELOCITY_STEP, ACCELERATION_STEP = 1e-4, 1e-3, 0.1
"""Allowed at a seam: rad (fingers: m), rad/s and rad/s^2; far below what an arm shows."""
DELIVERY_NS = 30_000_000
"""So much earlier than is known here a trajectory may have reached the driver: bags and middleware note times when they get to it."""
OTHER_CLOCK_NS = 10_000_000_000
"""What ended so long before it was published was stamped by another clock: how late it is cannot be told."""


class Continuity(Check):
    """A trajectory against the one that it replaces: position, velocity and, where all points of both give it, acceleration.

    Twice: where it begins, and where the driver switches to it, which is when it arrives. It begins by repeating the one before, to
    have time to arrive: one that arrives after that stretch is continuous where it begins, and yet makes the set-point step. When it
    reached the driver is not known here, but not sooner than ``DELIVERY_NS`` before it was published, or received where that is all
    that is known. Whatever is a step at that moment was one for the driver; a late auditor sees none in what was sent in time.
    Where the first point is still to come, the joining segment leads there without a step and is judged like the rest of the curve.
    """

    def __init__(self, joints: tuple[str, ...]) -> None:
        self._joints = joints

    def check(self, motion: Motion) -> Iterator[Finding]:
        """Blame a step."""
        if motion.before is None or motion.is_joined:
            return
        steps = [_step(motion.before, motion.curve, time_ns) for time_ns in _switches(motion)]
        positions, velocities, accelerations = (np.stack(rows) for rows in zip(*steps, strict=True))
        yield from exceeding(Rule.POSITION_JUMP, self._joints, positions, POSITION_STEP)
        yield from exceeding(Rule.VELOCITY_JUMP, self._joints, velocities, VELOCITY_STEP)
        if motion.before.points.gives_accelerations and motion.points.gives_accelerations:
            yield from exceeding(Rule.ACCELERATION_JUMP, self._joints, accelerations, ACCELERATION_STEP)


def _switches(motion: Motion) -> tuple[int, ...]:
    """Where the trajectory begins, and the first moment at which the driver may have switched to it."""
    first_ns = int(motion.points.times_ns[0])
    if motion.published_ns - motion.curve.end_ns > OTHER_CLOCK_NS:
        return (first_ns,)
    return first_ns, max(first_ns, motion.published_ns - DELIVERY_NS)


def _step(old: Curve, new: Curve, time_ns: int) -> tuple[Float64, Float64, Float64]:
    """(N,) each: by how much position, velocity and acceleration differ."""
    a, b = old.at(time_ns), new.at(time_ns)
    return np.abs(b.position - a.position), np.abs(b.velocity - a.velocity), np.abs(b.acceleration - a.acceleration)


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
