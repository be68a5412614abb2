"""How an arm driver follows joint trajectories: the documented behaviour of ros2_control's joint_trajectory_controller (Jazzy).

A new trajectory replaces the old one; its first segment starts from the current set-point. Segments are quintic where both
ends have velocities and accelerations, cubic where both have velocities, else linear. The last point is held. Times are
seconds of one clock that the caller chooses; a trajectory stamped 0 starts when it is accepted.
Beyond the original: numbers that are not finite are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmowam_core.stages import JointTrajectory

Float64 = NDArray[np.float64]
AT_REST_RAD_S = 1e-6  # the controller's tolerance is float's epsilon; stated trajectories go through float64 arithmetic


class Refusal(str, Enum):
    """Why a trajectory is not followed."""

    JOINTS = "joints"
    EMPTY = "empty"
    SIZE = "size"
    NOT_FINITE = "not_finite"
    TIMES = "times"
    PAST = "past"
    MOVING_END = "moving_end"


class TrajectoryRefused(ValueError):
    """A trajectory is not followed; the set-point stays what it was."""

    def __init__(self, reason: Refusal, text: str) -> None:
        super().__init__(f"trajectory refused ({reason.value}): {text}")
        self.reason = reason


@dataclass(frozen=True)
class _Knot:
    """One point of a trajectory: absolute time, s, positions, and derivatives where given; (N,) each."""

    time_s: float
    position: Float64
    velocity: Float64 | None
    acceleration: Float64 | None


class TrajectoryDriver:
    """Follows trajectories of one joint set; rests at ``positions`` until the first one."""

    def __init__(self, names: Sequence[str], positions: ArrayLike) -> None:
        self.names = tuple(names)
        self._before: _Knot
        self._knots: tuple[_Knot, ...]
        self.hold(positions)

    def accept(self, trajectory: Any, now_s: float, shift_s: float = 0.0) -> None:
        """Replace the current trajectory; TrajectoryRefused says why not.

        ``trajectory``: the stage JointTrajectory, or anything shaped like a trajectory_msgs/JointTrajectory message.
        ``shift_s``: from its stamp to the clock of ``now_s``.
        """
        stamp_s, names, points = _from_stage(trajectory) if isinstance(trajectory, JointTrajectory) else _from_message(trajectory)
        order = self._order(names)
        _check(points, len(names))
        start_s = now_s if stamp_s == 0.0 else stamp_s + shift_s
        if start_s + points[-1].time_s < now_s:
            raise TrajectoryRefused(Refusal.PAST, f"its end is {now_s - start_s - points[-1].time_s:.3f} s in the past")
        self._before = self._knot(now_s)
        self._knots = tuple(_reorder(point, start_s, order) for point in points)

    def sample(self, now_s: float) -> tuple[Float64, Float64]:
        """Set-points at ``now_s``: positions (N,) and velocities (N,)."""
        knot = self._knot(now_s)
        return knot.position, np.zeros(len(self.names)) if knot.velocity is None else knot.velocity

    def hold(self, positions: ArrayLike) -> None:
        """Forget the trajectory and rest at ``positions`` (N,)."""
        start = np.array(positions, dtype=np.float64)
        if start.shape != (len(self.names),) or not np.isfinite(start).all():
            raise ValueError(f"positions must be {len(self.names)} finite numbers, got {start}")
        rest = np.zeros(len(self.names))
        self._before = _Knot(-np.inf, start, rest, rest)
        self._knots = (self._before,)

    def _order(self, names: Sequence[str]) -> list[int]:
        if len(names) != len(self.names) or set(names) != set(self.names):
            missing, unknown = sorted(set(self.names) - set(names)), sorted(set(names) - set(self.names))
            raise TrajectoryRefused(
                Refusal.JOINTS, f"{len(names)} joints; missing {missing}, unknown {unknown}; expected each of {len(self.names)} once"
            )
        return [list(names).index(name) for name in self.names]

    def _knot(self, now_s: float) -> _Knot:
        if now_s >= self._knots[-1].time_s:
            last = self._knots[-1]
            rest = np.zeros(len(self.names))
            return _Knot(now_s, last.position, rest, rest)
        after = next(i for i, knot in enumerate(self._knots) if now_s < knot.time_s)
        return _interpolate(self._knots[after - 1] if after else self._before, self._knots[after], now_s)


def _from_stage(trajectory: JointTrajectory) -> tuple[float, Sequence[str], list[_Knot]]:
    rows = zip(trajectory.times_s, trajectory.positions, trajectory.velocities, trajectory.accelerations, strict=True)
    return trajectory.stamp_ns / 1e9, trajectory.names, [_Knot(float(time), *row) for time, *row in rows]


def _from_message(message: Any) -> tuple[float, Sequence[str], list[_Knot]]:
    def seconds(time: Any) -> float:
        return float(time.sec + time.nanosec * 1e-9)

    def row(values: Any) -> Float64 | None:
        return np.array(values, dtype=np.float64) if len(values) else None

    points = [
        _Knot(seconds(p.time_from_start), np.array(p.positions, dtype=np.float64), row(p.velocities), row(p.accelerations))
        for p in message.points
    ]
    return seconds(message.header.stamp), list(message.joint_names), points


def _check(points: list[_Knot], joints: int) -> None:
    if not points:
        raise TrajectoryRefused(Refusal.EMPTY, "it has no points (that is no way to stop: send a point to rest at)")
    for k, point in enumerate(points):
        if not np.isfinite(point.time_s):
            raise TrajectoryRefused(Refusal.NOT_FINITE, f"point {k} is at {point.time_s} s")
        for name in ("position", "velocity", "acceleration"):
            values = getattr(point, name)
            if values is None:
                continue
            if len(values) != joints:
                raise TrajectoryRefused(Refusal.SIZE, f"point {k} has {len(values)} values of {name}, expected {joints}")
            if not np.isfinite(values).all():
                raise TrajectoryRefused(Refusal.NOT_FINITE, f"point {k} has a {name} of {values[~np.isfinite(values)][0]}")
        if point.time_s < 0 or (k and not point.time_s > points[k - 1].time_s):
            raise TrajectoryRefused(Refusal.TIMES, f"point {k} is at {point.time_s} s; times must be >= 0 and strictly increase")
    end = points[-1].velocity
    if end is not None and np.abs(end).max() > AT_REST_RAD_S:
        raise TrajectoryRefused(Refusal.MOVING_END, f"the last point moves at {np.abs(end).max():.4f}; it must be at rest")


def _reorder(point: _Knot, start_s: float, order: list[int]) -> _Knot:
    velocity = None if point.velocity is None else point.velocity[order]
    # Accelerations count only together with velocities.
    acceleration = None if point.acceleration is None or velocity is None else point.acceleration[order]
    return _Knot(start_s + point.time_s, point.position[order], velocity, acceleration)


def _interpolate(a: _Knot, b: _Knot, now_s: float) -> _Knot:
    """The state at ``now_s`` between two knots, as a knot."""
    duration, t = b.time_s - a.time_s, now_s - a.time_s
    step = b.position - a.position
    if a.velocity is None or b.velocity is None:
        speed = step / duration
        return _Knot(now_s, a.position + speed * t, speed, np.zeros_like(step))
    # Polynomial coefficients c0 + c1 t + ... that meet position, velocity (and acceleration) at both ends.
    c = [a.position, a.velocity]
    v0, v1, d = a.velocity, b.velocity, duration
    if a.acceleration is None or b.acceleration is None:
        c += [(3 * step - (2 * v0 + v1) * d) / d**2, (-2 * step + (v0 + v1) * d) / d**3]
    else:
        a0, a1 = a.acceleration, b.acceleration
        c += [
            a0 / 2,
            (20 * step - (12 * v0 + 8 * v1) * d + (a1 - 3 * a0) * d**2) / (2 * d**3),
            (-30 * step + (16 * v0 + 14 * v1) * d + (3 * a0 - 2 * a1) * d**2) / (2 * d**4),
            (12 * step - 6 * (v0 + v1) * d + (a1 - a0) * d**2) / (2 * d**5),
        ]
    powers = np.arange(len(c), dtype=np.float64)
    terms = np.array(c)  # (order + 1, N)
    position: Float64 = (t**powers) @ terms
    velocity: Float64 = (powers[1:] * t ** np.arange(len(c) - 1)) @ terms[1:]
    acceleration: Float64 = (powers[2:] * powers[1:-1] * t ** np.arange(len(c) - 2)) @ terms[2:]
    return _Knot(now_s, position, velocity, acceleration)
