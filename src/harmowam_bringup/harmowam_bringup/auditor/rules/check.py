"""What a rule looks at and how it compares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmowam_bringup.auditor.curve import Curve, Points
from harmowam_bringup.auditor.verdict import Finding, Rule

Float64 = NDArray[np.float64]

_ROUNDING = 1e-6  # of a limit, relative; absolute below 1


@dataclass(frozen=True)
class Motion:
    """A trajectory and how it is followed.

    points: as published; curve: through them, and to them from the set-point at the arrival if they begin later; before: what it
    replaces, None where it begins anew (the first one, or from where a resting arm was measured); published_ns: when it was sent, as
    far as that is known better than by its reception.
    """

    points: Points
    curve: Curve
    received_ns: int
    published_ns: int
    before: Curve | None

    @property
    def is_joined(self) -> bool:
        """Whether a segment leads to the first point."""
        return self.curve.points is not self.points


class Place:
    """How far parts may be outside where they should stay.

    What begins outside may come back, but not go further out; where the next trajectories begin, that only shrinks.
    """

    def __init__(self) -> None:
        self._begun: Float64 = np.zeros(1)

    def allowed(self, outside: Float64, begins_anew: bool) -> Float64:
        """(P,) of (M, P) along a trajectory, inside where not above 0."""
        self._begun = np.maximum(0.0, outside[0] if begins_anew else np.minimum(outside[0], self._begun))
        return self._begun


class Check(ABC):
    """One rule, or a few that look at the same samples."""

    @abstractmethod
    def check(self, motion: Motion) -> Iterator[Finding]:
        """What the motion breaks."""


def exceeding(rule: Rule, parts: Sequence[str], measured: ArrayLike, limit: ArrayLike, noise: Float64 | float = 0.0) -> Iterator[Finding]:
    """The worst of (M, N) ``measured`` that is above its ``limit`` by more than ``noise``; NaN is above every limit."""
    values, limits = np.asarray(measured, dtype=np.float64), np.asarray(limit, dtype=np.float64)
    excess = values - (limits + noise + _ROUNDING * np.maximum(1.0, np.abs(limits)))
    if (excess <= 0).all():
        return
    sample, part = divmod(int(np.argmax(excess)), excess.shape[1])
    yield Finding(rule, parts[part], float(values[sample, part]), float(np.broadcast_to(limits, excess.shape)[sample, part]))
