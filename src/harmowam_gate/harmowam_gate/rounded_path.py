"""A path of straight lines in joint space with its corners rounded: what the arms really follow through way-points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

DEVIATION_RAD = 0.01
"""How far from a way-point, in joint space, a rounded corner may pass."""
_SHORTEST_RAD = 1e-6
_CORNER = 5 / 32  # a corner's deviation, over the rounding's half width and the change of direction


class RoundedPath:
    """Through way-points (P, N); the way along it ``s`` runs from 0 to ``length``, in rad (Euclidean, all joints).

    The direction turns by a smooth step around every corner, so that position, tangent, curvature and its derivative are
    continuous. Start and end are exact; roundings never reach beyond the middle of a line.
    """

    def __init__(self, waypoints: Float64, deviation_rad: float = DEVIATION_RAD) -> None:
        steps = np.diff(waypoints, axis=0)
        lengths = np.linalg.norm(steps, axis=1)
        steps, lengths = steps[lengths > _SHORTEST_RAD], lengths[lengths > _SHORTEST_RAD]
        self._start, self._end = waypoints[0], waypoints[-1]
        self.length = float(lengths.sum())
        directions = steps / lengths[:, None] if len(lengths) else np.zeros((1, waypoints.shape[1]))
        self._direction = directions[0]
        self._turns = np.diff(directions, axis=0)  # (C, N)
        self._corners = np.cumsum(lengths)[:-1]  # (C,)
        sharpness = np.linalg.norm(self._turns, axis=1)
        half = np.minimum(lengths[:-1], lengths[1:]) / 2
        self._half = np.maximum(np.minimum(half, deviation_rad / (_CORNER * np.maximum(sharpness, 1e-9))), 1e-9)

    def chords(self, pieces: int = 8) -> Float64:
        """(K, N) points whose straight connections follow the path within ``deviation_rad`` / 20, for collision checks."""
        around = self._corners[:, None] + self._half[:, None] * np.linspace(-1, 1, pieces + 1)
        return self.at(np.concatenate([[0.0], around.ravel(), [self.length]]))[0]

    def at(self, s: Float64) -> tuple[Float64, Float64, Float64]:
        """Positions (S, N), and their first and second derivative along the way, at ``s`` (S,)."""
        x = (s[:, None] - self._corners) / self._half  # (S, C)
        inside = np.clip(x, -1.0, 1.0)
        # The turn's share is the integral of the bump 15/16 (1 - x^2)^2; the position's is the integral of that share.
        bump = 15 / 16 * (1 - inside**2) ** 2 / self._half
        share = 0.5 + 15 / 16 * (inside - 2 / 3 * inside**3 + inside**5 / 5)
        moved = 15 / 16 * (inside**2 / 2 - inside**4 / 6 + inside**6 / 30) + inside / 2 + _CORNER
        moved = (moved + np.maximum(x - 1, 0.0)) * self._half
        positions = self._start + s[:, None] * self._direction + moved @ self._turns
        positions[s >= self.length] = self._end
        return positions, self._direction + share @ self._turns, bump @ self._turns
