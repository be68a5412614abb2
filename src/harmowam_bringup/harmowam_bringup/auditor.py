"""An independent check of what was commanded: every joint trajectory on the wire, against the cell profile.

It shares no code with the arbiter, and reads messages as they came: nothing is decoded or repaired before it is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BPoly

from harmowam_core.cell import Cell

Float64 = NDArray[np.float64]

REST_SPEED = 1e-3
"""Largest speed of a last point, rad/s."""
SEAM_S = 0.01
"""A seam may jump by no more than what an axis at its limits does in this time, s."""
SAMPLES = 10
"""Checked points on the spline between two trajectory points."""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Violation:
    """A rule that the trajectory number ``index`` broke; ``measured`` and ``limit`` in the rule's unit."""

    index: int
    rule: str
    joint: str
    measured: float
    limit: float


@dataclass(frozen=True)
class AxisLimits:
    """What a controller's joints may do, (N,) each: rad (or m), rad/s, rad/s^2; infinite where the profile says nothing."""

    joints: tuple[str, ...]
    lower: Float64
    upper: Float64
    velocity: Float64
    acceleration: Float64


def arm_limits(cell: Cell) -> AxisLimits:
    """Limits of all arm joints of a cell."""
    arms, limits = len(cell.arms), cell.limits
    return AxisLimits(
        cell.arm_joint_names,
        *(np.tile(values, arms) for values in (limits.position_lower, limits.position_upper, limits.velocity, limits.acceleration)),
    )


def gripper_limits(cell: Cell) -> AxisLimits:
    """Travel of the finger joints; the profile has no speeds for them."""
    ones = np.ones(len(cell.arms))
    return AxisLimits(cell.finger_joint_names, 0 * ones, cell.finger_travel * ones, np.inf * ones, np.inf * ones)


class _Curve:
    """A sound trajectory, as joint_trajectory_controller follows it: splines through the points, at rest after the last.

    start_s: ROS clock; offsets_s: (P,) from start_s; derivatives: (P, 2 or 3, N) positions, velocities, accelerations if given.
    """

    def __init__(self, start_s: float, offsets_s: Float64, derivatives: Float64) -> None:
        self.start_s, self.offsets_s = start_s, offsets_s
        self.first, self.last = derivatives[0], derivatives[-1]
        self._spline = BPoly.from_derivatives(offsets_s, list(derivatives)) if len(offsets_s) > 1 else None

    def at(self, time_s: float) -> tuple[Float64, Float64]:
        """Position and velocity at a time of the ROS clock, (N,) each; resting outside."""
        offset = time_s - self.start_s
        still = np.zeros_like(self.last[0])
        if offset < self.offsets_s[0]:
            return self.first[0], still
        if self._spline is None or offset > self.offsets_s[-1]:
            return self.last[0], still
        return self._spline(offset), self._spline(offset, nu=1)

    def samples(self) -> tuple[Float64, Float64]:
        """Positions and velocities at the points and between them, (M, N) each."""
        if self._spline is None:
            return self.last[None, 0], self.last[None, 1]
        steps = np.linspace(0, 1, SAMPLES, endpoint=False)
        between = self.offsets_s[:-1, None] + np.diff(self.offsets_s)[:, None] * steps  # (P - 1, SAMPLES)
        times = np.append(between.ravel(), self.offsets_s[-1])
        return self._spline(times), self._spline(times, nu=1)


class Auditor:
    """Checks one controller's trajectories in the order of their arrival."""

    def __init__(self, limits: AxisLimits) -> None:
        self.limits = limits
        self.trajectories = 0
        self.violations: list[Violation] = []
        self._previous: _Curve | None = None

    def check(self, message: Any, received_s: float) -> list[Violation]:
        """Check a trajectory_msgs/JointTrajectory received at ``received_s`` (ROS clock); returns its violations."""
        before = len(self.violations)
        curve = self._read(message, received_s)
        if curve is not None:
            self._check_rest(curve)
            self._check_limits(curve)
            if self._previous is not None:
                self._check_seam(self._previous, curve)
            # Only a sound trajectory is followed, so only such a one is what the next has to continue.
            self._previous = curve
        self.trajectories += 1
        return self.violations[before:]

    def _blame(self, rule: str, joint: str = "", measured: float = math.nan, limit: float = math.nan) -> None:
        self.violations.append(Violation(self.trajectories, rule, joint, measured, limit))

    def _read(self, message: Any, received_s: float) -> _Curve | None:
        """Structure and finiteness; None where the rest cannot be checked."""
        joints = self.limits.joints
        if tuple(message.joint_names) != joints:
            self._blame("joint names", ",".join(message.joint_names))
            return None
        if not message.points:
            self._blame("no points")
            return None
        for point in message.points:
            for name in ("positions", "velocities"):
                if len(getattr(point, name)) != len(joints):
                    self._blame(f"number of {name}", "", len(getattr(point, name)), len(joints))
                    return None
            if len(point.accelerations) not in (0, len(joints)):
                self._blame("number of accelerations", "", len(point.accelerations), len(joints))
                return None
        offsets = np.array([point.time_from_start.sec + point.time_from_start.nanosec * 1e-9 for point in message.points])
        positions = np.array([point.positions for point in message.points], dtype=np.float64)
        velocities = np.array([point.velocities for point in message.points], dtype=np.float64)
        derivatives = np.stack([positions, velocities], axis=1)  # (P, 2, N)
        if all(len(point.accelerations) for point in message.points):
            accelerations = np.array([point.accelerations for point in message.points], dtype=np.float64)
            derivatives = np.concatenate([derivatives, accelerations[:, None]], axis=1)
        if not np.isfinite(derivatives).all():
            self._blame("not finite")
            return None
        if not (offsets[0] >= 0 and (np.diff(offsets) > 0).all()):
            self._blame("times not increasing", "", float(np.diff(offsets, prepend=0).min()), 0.0)
            return None
        stamp_s = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        if stamp_s > received_s:
            self._blame("stamp in the future", "", stamp_s - received_s, 0.0)
        return _Curve(stamp_s or received_s, offsets, derivatives)

    def _check_rest(self, curve: _Curve) -> None:
        self._compare("last point moves", np.abs(curve.last[None, 1]), np.full(len(self.limits.joints), REST_SPEED))

    def _check_limits(self, curve: _Curve) -> None:
        positions, velocities = curve.samples()
        self._compare("position above limit", positions, self.limits.upper)
        self._compare("position below limit", -positions, -self.limits.lower)
        self._compare("velocity", np.abs(velocities), self.limits.velocity)

    def _check_seam(self, previous: _Curve, curve: _Curve) -> None:
        position, velocity = previous.at(curve.start_s + float(curve.offsets_s[0]))
        self._compare("position jump", np.abs(curve.first[None, 0] - position), self.limits.velocity * SEAM_S)
        self._compare("velocity jump", np.abs(curve.first[None, 1] - velocity), self.limits.acceleration * SEAM_S)

    def _compare(self, rule: str, measured: Float64, limit: Float64) -> None:
        """Blame the worst joint if any of (M, N) exceeds (N,)."""
        excess = (measured - limit).max(axis=0)
        worst = int(excess.argmax())
        if not excess[worst] <= _TOLERANCE:
            self._blame(rule, self.limits.joints[worst], float(measured[:, worst].max()), float(limit[worst]))


def audit(messages: Iterable[tuple[float, Any]], limits: AxisLimits) -> Auditor:
    """Check (received_s, message) pairs in order."""
    auditor = Auditor(limits)
    for received_s, message in messages:
        auditor.check(message, received_s)
    return auditor


def summarise(auditors: Sequence[Auditor]) -> dict[str, Any]:
    """{"trajectories", "violations", "by_rule", "first"}: totals, and the first few violations in words."""
    violations = [violation for auditor in auditors for violation in auditor.violations]
    by_rule: dict[str, int] = {}
    for violation in violations:
        by_rule[violation.rule] = by_rule.get(violation.rule, 0) + 1
    return {
        "trajectories": sum(auditor.trajectories for auditor in auditors),
        "violations": len(violations),
        "by_rule": by_rule,
        "first": [f"#{v.index} {v.rule} {v.joint}: {v.measured:.4g}, limit {v.limit:.4g}" for v in violations[:10]],
    }
