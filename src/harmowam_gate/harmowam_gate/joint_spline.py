"""Set-points in time as the arm driver executes them: quintic pieces through points with velocity and acceleration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harmowam_core.stages import JointTrajectory

Float64 = NDArray[np.float64]
GRID_NS = 20_000_000
"""All points of a trajectory but its first lie on multiples of this, so that a repeated stretch has the same pieces."""

SHORTEST_NS = 1_000_000
"""No piece of a trajectory is shorter."""

DERIVATIVES = np.array([[1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5], [0, 0, 2, 6, 12, 20]])
EXPONENTS = np.array([[0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4], [0, 0, 0, 1, 2, 3]])
"""Of a quintic and its first two derivatives: the factors and powers that its six coefficients come with."""

PLACES = np.array([0.0, 0.25, 0.5, 0.75])
PIECE = DERIVATIVES[:2, None] * PLACES[:, None] ** EXPONENTS[:2, None]
"""(2, 4, 6) what each coefficient contributes to position and velocity at each of these shares of a piece."""


@dataclass(frozen=True)
class JointMotion:
    """Joint positions (N,) rad, velocities rad/s, accelerations rad/s^2 of one moment."""

    positions: Float64
    velocities: Float64
    accelerations: Float64

    @staticmethod
    def resting(positions: Float64) -> JointMotion:
        """Still at ``positions`` (N,)."""
        return JointMotion(np.array(positions, dtype=np.float64), np.zeros(len(positions)), np.zeros(len(positions)))

    @property
    def at_rest(self) -> bool:
        """Exactly still."""
        return not (self.velocities.any() or self.accelerations.any())


@dataclass(frozen=True)
class DenseMotion:
    """A spline sampled: (D, N) positions, velocities."""

    positions: Float64
    velocities: Float64


@dataclass(frozen=True)
class JointSpline:
    """Points at ``times_ns`` (P,) int64, increasing; positions, velocities, accelerations (P, N). It rests after its end."""

    times_ns: NDArray[np.int64]
    positions: Float64
    velocities: Float64
    accelerations: Float64

    @staticmethod
    def through(times_ns: Sequence[int], motions: Sequence[JointMotion]) -> JointSpline:
        """Through these moments."""
        return JointSpline(
            np.array(times_ns, dtype=np.int64),
            np.array([motion.positions for motion in motions]),
            np.array([motion.velocities for motion in motions]),
            np.array([motion.accelerations for motion in motions]),
        )

    @property
    def start_ns(self) -> int:
        """Time of the first point."""
        return int(self.times_ns[0])

    @property
    def end_ns(self) -> int:
        """Time of the last point."""
        return int(self.times_ns[-1])

    @cached_property
    def _seconds(self) -> Float64:
        return (self.times_ns - self.times_ns[0]) * 1e-9

    @cached_property
    def _spans(self) -> Float64:
        """(P - 1,) s."""
        return np.diff(self._seconds)

    @cached_property
    def _shares(self) -> Float64:
        """(6, P - 1, N) coefficients of the powers of the share of each piece that is over."""
        h = self._spans[:, None]
        p0, v0, a0 = self.positions[:-1], self.velocities[:-1] * h, self.accelerations[:-1] * h**2
        p1, v1, a1 = self.positions[1:], self.velocities[1:] * h, self.accelerations[1:] * h**2
        step = p1 - p0
        return np.stack(
            [
                p0,
                v0,
                a0 / 2,
                10 * step - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1,
                -15 * step + 8 * v0 + 7 * v1 + 1.5 * a0 - a1,
                6 * step - 3 * (v0 + v1) - 0.5 * (a0 - a1),
            ]
        )

    @cached_property
    def _coefficients(self) -> Float64:
        """(6, P - 1, N) of the powers of the time since each piece's first point, s."""
        return self._shares / self._spans[:, None] ** np.arange(6)[:, None, None]

    def peak_jerks(self) -> Float64:
        """(P - 1, N) largest |jerk| of each piece, exactly: a parabola that jumps from piece to piece."""
        h = self._spans[:, None]
        _, _, _, c3, c4, c5 = self._coefficients
        with np.errstate(divide="ignore", invalid="ignore"):
            vertex = _within(-c4 / (5 * c5), h)
        peaks = [np.abs(6 * c3 + t * (24 * c4 + t * 60 * c5)) for t in (np.zeros_like(h), vertex, h)]
        return np.asarray(np.maximum.reduce(peaks), dtype=np.float64)

    def peak_accelerations(self) -> Float64:
        """(P, N) largest |acceleration| from each point until the next, exactly: a cubic turns where the jerk is zero."""
        _, _, c2, c3, c4, c5 = self._shares
        with np.errstate(divide="ignore", invalid="ignore"):
            # Of 6 c3 + 24 c4 u + 60 c5 u^2, in the form that keeps its digits where c5 is small.
            root = -(2 * c4 + np.copysign(np.sqrt(4 * c4**2 - 10 * c3 * c5), c4))
            turns = _within(np.stack([root / (10 * c5), c3 / root]), 1.0)  # (2, P - 1, N) shares of the piece
        inner = np.abs(2 * c2 + turns * (6 * c3 + turns * (12 * c4 + turns * 20 * c5))).max(axis=0) / self._spans[:, None] ** 2
        peaks = np.abs(self.accelerations)
        peaks[:-1] = np.maximum(peaks[:-1], inner)
        return peaks

    def dense(self) -> DenseMotion:
        """Sampled evenly, four times each piece, and at the end."""
        joints = self.positions.shape[1]
        inner = PIECE.reshape(-1, len(self._shares)) @ self._shares.reshape(len(self._shares), -1)
        rows = inner.reshape(*PIECE.shape[:2], -1, joints).swapaxes(1, 2).reshape(len(PIECE), -1, joints)
        spans = np.repeat(self._spans, len(PLACES))[:, None]
        return DenseMotion(np.concatenate([rows[0], self.positions[-1:]]), np.concatenate([rows[1] / spans, self.velocities[-1:]]))

    def motion(self, time_ns: int) -> JointMotion:
        """The set-point at one time; before the start that of the start, after the end at rest."""
        if time_ns > self.end_ns:
            return JointMotion.resting(self.positions[-1])
        piece = max(int(np.searchsorted(self.times_ns, time_ns, side="right")) - 1, 0)
        t = max(time_ns - int(self.times_ns[piece]), 0) * 1e-9
        if t == 0:
            return JointMotion(self.positions[piece], self.velocities[piece], self.accelerations[piece])
        powers = np.array([1.0, t, t**2, t**3, t**4, t**5])
        position, velocity, acceleration = (DERIVATIVES * powers[EXPONENTS]) @ self._coefficients[:, piece]
        return JointMotion(position, velocity, acceleration)

    def between(self, start_ns: int, end_ns: int) -> JointSpline:
        """From ``start_ns`` up to its last point before ``end_ns``; at least the first point. It is exact when points lie on the grid.

        A point that follows ``start_ns`` at once is left out: over microseconds, rounding would look like jerk.
        """
        inside = (self.times_ns > start_ns + SHORTEST_NS) & (self.times_ns < end_ns)
        first = self.motion(start_ns)
        return JointSpline(
            np.concatenate([[start_ns], self.times_ns[inside]]),
            np.concatenate([first.positions[None], self.positions[inside]]),
            np.concatenate([first.velocities[None], self.velocities[inside]]),
            np.concatenate([first.accelerations[None], self.accelerations[inside]]),
        )

    def then(self, later: JointSpline) -> JointSpline:
        """This one's points followed by those of ``later``, which starts after this one's last."""
        return JointSpline(
            np.concatenate([self.times_ns, later.times_ns]),
            np.concatenate([self.positions, later.positions]),
            np.concatenate([self.velocities, later.velocities]),
            np.concatenate([self.accelerations, later.accelerations]),
        )

    def trajectory(self, names: tuple[str, ...]) -> JointTrajectory:
        """As the arm driver gets it, stamped with the first point's time."""
        return JointTrajectory(self.start_ns, names, self._seconds, self.positions, self.velocities, self.accelerations)


def on_grid(time_ns: int) -> int:
    """The first grid time at ``time_ns`` or later."""
    return -(-time_ns // GRID_NS) * GRID_NS


def _within(times: Float64, end: Float64 | float) -> Float64:
    """Times clipped to [0, end]; ``end`` where there is none."""
    return np.asarray(np.fmax(np.fmin(times, end), 0.0), dtype=np.float64)
