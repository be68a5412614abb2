"""The curve that joint_trajectory_controller makes of a trajectory's points.

Between two points it is quintic where both have accelerations, else cubic; before the first point it leads there from the set-point
of the moment; after the last one it rests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

DEGREE = 5
SHORTEST_JOIN_NS = 1_000_000
"""The driver's period: who comes to the first point sooner is there already."""
MOST_SAMPLES = 200
_ROUNDING = 1e-15  # of a joint position in float64


def _polynomial(conditions: int) -> Float64:
    """(6, 2 * conditions): values and derivatives at 0 and at 1 to the coefficients of the powers of u in [0, 1]."""
    rows = np.zeros((2 * conditions, 2 * conditions))
    for derivative in range(conditions):
        powers = np.polynomial.polynomial.polyder(np.eye(2 * conditions), derivative) if derivative else np.eye(2 * conditions)
        rows[derivative] = powers[0]
        rows[conditions + derivative] = powers.sum(axis=0)
    coefficients = np.zeros((DEGREE + 1, 2 * conditions))
    coefficients[: 2 * conditions] = np.round(2 * np.linalg.inv(rows)) / 2  # halves: exact without the inversion's rounding
    return coefficients


_CUBIC, _QUINTIC = _polynomial(2), _polynomial(3)


@lru_cache(maxsize=64)
def _basis(steps: int, derivative: int) -> Float64:
    """(steps + 1, 6): the derivative of each power of u, at 0, 1 / steps, ..., 1."""
    powers = np.polynomial.polynomial.polyder(np.eye(DEGREE + 1), derivative) if derivative else np.eye(DEGREE + 1)
    return np.polynomial.polynomial.polyvander(np.linspace(0, 1, steps + 1), len(powers) - 1) @ powers


@dataclass(frozen=True)
class State:
    """Positions, velocities, accelerations of one moment, (N,) each."""

    position: Float64
    velocity: Float64
    acceleration: Float64


@dataclass(frozen=True)
class Points:
    """A trajectory's points: times_ns (P,) of the ROS clock, increasing; the rest (P, N), accelerations NaN in points without.

    stamp_ns: the message's own time, which the points' times were relative to.
    """

    stamp_ns: int
    times_ns: Int64
    positions: Float64
    velocities: Float64
    accelerations: Float64

    @property
    def gives_accelerations(self) -> bool:
        """Whether all points have them, so that the driver's acceleration is continuous."""
        return bool(np.isfinite(self.accelerations).all())

    def after(self, state: State, time_ns: int) -> Points:
        """These points and before them ``state``."""
        return Points(
            self.stamp_ns,
            np.r_[time_ns, self.times_ns],
            np.vstack([state.position, self.positions]),
            np.vstack([state.velocity, self.velocities]),
            np.vstack([state.acceleration, self.accelerations]),
        )


@dataclass(frozen=True)
class Samples:
    """Along a curve, (M, N): position and its derivatives; and (M, 1): what rounding of positions makes of the higher ones."""

    positions: Float64
    velocities: Float64
    accelerations: Float64
    jerks: Float64
    acceleration_noise: Float64
    jerk_noise: Float64


class Curve:
    """Where the driver takes the joints from the first of ``points`` on."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self._seconds = np.diff(points.times_ns)[:, None] * 1e-9  # (P - 1, 1)
        self._coefficients = self._fit()

    @property
    def end_ns(self) -> int:
        """When it comes to rest."""
        return int(self.points.times_ns[-1])

    def at(self, time_ns: int) -> State:
        """At one time; resting outside."""
        times_ns = self.points.times_ns
        still = np.zeros(self.points.positions.shape[1])
        if not times_ns[0] <= time_ns < times_ns[-1]:
            return State(self.points.positions[0 if time_ns < times_ns[0] else -1], still, still)
        piece = int(np.searchsorted(times_ns, time_ns, side="right")) - 1
        h = self._seconds[piece, 0]
        u = np.polynomial.polynomial.polyvander((time_ns - times_ns[piece]) * 1e-9 / h, DEGREE)[0]
        slope, bend = (np.r_[np.zeros(k), u[:-k] * _factors(k)] for k in (1, 2))
        terms = self._coefficients[:, piece]  # (6, N)
        return State(self.points.positions[piece] + u @ terms, slope @ terms / h, bend @ terms / h**2)

    def samples(self, every_s: float, fewest: int) -> Samples:
        """Samples not further apart than ``every_s`` (as far as that is sensible), at least ``fewest`` + 1 on each piece."""
        points = self.points
        if len(points.times_ns) == 1:
            still, none = np.zeros_like(points.positions), np.zeros((1, 1))
            return Samples(points.positions, points.velocities, still, still, none, none)
        steps = int(np.clip(np.ceil(self._seconds.max() / every_s - 1e-6), fewest, MOST_SAMPLES))
        h = self._seconds  # (P - 1, 1), constant along the samples of a piece
        moved, *derivatives = (np.tensordot(_basis(steps, order), self._coefficients, axes=1) for order in range(4))
        joints = points.positions.shape[1]
        velocities, accelerations, jerks = (
            (values / h**order).reshape(-1, joints) for order, values in enumerate(derivatives, start=1)
        )  # (steps + 1, P - 1, N) to (M, N)
        return Samples(
            (points.positions[:-1] + moved).reshape(-1, joints),
            velocities,
            accelerations,
            jerks,
            np.tile(20 * _ROUNDING / h**2, (steps + 1, 1)),
            np.tile(120 * _ROUNDING / h**3, (steps + 1, 1)),
        )

    def moments(self, every_s: float) -> tuple[Float64, Float64]:
        """Positions and velocities (M, N), not further apart than ``every_s``: what is continuous is told once at each point."""
        samples, pieces = self.samples(every_s, 1), len(self._seconds)
        last = slice(len(samples.positions) - pieces, -1)  # where pieces end that others begin at
        return np.delete(samples.positions, last, axis=0), np.delete(samples.velocities, last, axis=0)

    def _fit(self) -> Float64:
        """(6, P - 1, N) coefficients of u, the share of the piece's time, for the way from the piece's first point."""
        points, h = self.points, self._seconds
        start = np.zeros_like(points.positions[:-1])
        ends = [
            (start, h * points.velocities[:-1], h**2 * points.accelerations[:-1]),
            (np.diff(points.positions, axis=0), h * points.velocities[1:], h**2 * points.accelerations[1:]),
        ]
        cubic = np.tensordot(_CUBIC, np.stack([*ends[0][:2], *ends[1][:2]]), axes=1)
        quintic = np.tensordot(_QUINTIC, np.stack([*ends[0], *ends[1]]), axes=1)
        return np.where(np.isfinite(quintic), quintic, cubic)  # NaN: an end without accelerations


def _factors(derivative: int) -> Float64:
    """What powers 5 - derivative, ..., 0 of u, rising, are multiplied with in a derivative."""
    n = np.arange(derivative, DEGREE + 1, dtype=np.float64)
    return n if derivative == 1 else n * (n - 1)
