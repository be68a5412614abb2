"""What a limit looks at and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.stages import Expert
from harmowam_core.status import Reason
from harmowam_gate.body import Body, Places
from harmowam_gate.joint_spline import DenseMotion, JointSpline
from harmowam_gate.settings import ArbiterSettings

Float64 = NDArray[np.float64]
ROUNDING = 1e-9
SPARSE = 4
"""Singularity, distances and stopping are looked at on every so many points of the grid, 80 ms: they change as slowly as the tools."""


@dataclass(frozen=True)
class Verdict:
    """One limit's answer: fine (reason NONE), fine when ``slow_down`` (> 1) times slower, or refused.

    measured, limit: the value that decided and what it had to keep to, in the limit's unit.
    """

    reason: Reason = Reason.NONE
    measured: float = np.nan
    limit: float = np.nan
    slow_down: float = 1.0
    text: str = ""

    @property
    def ok(self) -> bool:
        """May be sent as it is."""
        return self.reason is Reason.NONE

    @property
    def can_slow_down(self) -> bool:
        """May be sent when stretched in time by ``slow_down``."""
        return self.slow_down > 1

    @staticmethod
    def refused(reason: Reason, measured: float, limit: float, text: str) -> Verdict:
        """Not to be sent, at no speed."""
        return Verdict(reason, measured, limit, 1.0, text)

    @staticmethod
    def too_fast(reason: Reason, measured: float, limit: float, order: int, text: str) -> Verdict:
        """Too much of a quantity that falls with the ``order``-th power of time."""
        return Verdict(reason, measured, limit, (measured / limit) ** (1 / order), text)


@dataclass(frozen=True)
class Source:
    """What a motion derives from. age_s: of the oldest observation; off_rad: how far the arm is from its set-point; expert: None for
    both, or for none.
    """

    age_s: float
    off_rad: float
    expert: Expert | None = None


@dataclass(frozen=True)
class Motion:
    """A motion that is to be commanded, and what it begins from.

    names: joints in the spline's order; before: the last published spline, if any; source: None for a brake.
    """

    names: tuple[str, ...]
    spline: JointSpline
    body: Body
    before: JointSpline | None = None
    source: Source | None = None

    @cached_property
    def dense(self) -> DenseMotion:
        """Sampled every few ms along the pieces that the driver will execute."""
        return self.spline.dense()

    @cached_property
    def places(self) -> Places:
        """At the points of the spline, 20 ms apart: a tool at its limit moves 12 mm in that time."""
        return self.body.places(self.spline.positions, self.spline.velocities)

    @property
    def times_s(self) -> Float64:
        """(S,) of the points."""
        return np.asarray((self.spline.times_ns - self.spline.start_ns) * 1e-9, dtype=np.float64)

    @property
    def sparse(self) -> NDArray[np.int64]:
        """(S',) every fourth point, and the last."""
        last = len(self.spline.times_ns) - 1
        return np.unique(np.append(np.arange(0, last, SPARSE), last))


@dataclass(frozen=True)
class Context:
    """What limits are made from."""

    cell: Cell
    body: Body
    settings: ArbiterSettings


class Limit(ABC):
    """One thing that a commanded motion must keep to. Comparisons are written so that NaN fails."""

    for_plans = True
    """Whether it is asked of plans, too, and not of what is published alone."""

    @abstractmethod
    def check(self, motion: Motion) -> Verdict:
        """Judge one motion; never raises for a bad one."""


class PlaceLimit(Limit):
    """That something stays where it may be. What begins outside may come back, but not go further out."""

    reason: Reason
    tolerance = 0.0

    @abstractmethod
    def outside(self, places: Places) -> Float64:
        """(S, P) how far each part is outside; inside where not above 0."""

    @abstractmethod
    def describe(self, part: int, outside: float) -> Verdict:
        """The refusal of a part that would get so far outside."""

    def check(self, motion: Motion) -> Verdict:
        """Refuse to go outside."""
        return self.compare(self.outside(motion.places))

    def compare(self, outside: Float64) -> Verdict:
        """Judge (S, P); the first sample is where it is now."""
        allowed = np.maximum(self.tolerance, outside[0]) + ROUNDING
        if (outside <= allowed).all():
            return Verdict()
        sample, part = np.unravel_index(int(np.nanargmax(np.nan_to_num(outside - allowed, nan=np.inf))), outside.shape)
        return self.describe(int(part), float(outside[sample, part]))


def judge_joints(reason: Reason, names: tuple[str, ...], values: Float64, limits: Float64, order: int, unit: str) -> Verdict:
    """Compare |values| (D, N) with limits (N,); ``order`` as in Verdict.too_fast."""
    worst = np.abs(values).max(axis=0)
    if (worst <= limits).all():
        return Verdict()
    joint = int(np.argmax(worst / limits))
    measured, limit = float(worst[joint]), float(limits[joint])
    return Verdict.too_fast(reason, measured, limit, order, f"{names[joint]} would reach {measured:.2f} {unit}, limit {limit:.2f}")


def judge_speeds(reason: Reason, part: str, arm_names: tuple[str, ...], speeds: Float64, limit: float) -> Verdict:
    """Compare speeds (S, A), m/s, of a part of each arm."""
    if (speeds <= limit).all():
        return Verdict()
    arm, fastest = int(speeds.max(axis=0).argmax()), float(speeds.max())
    return Verdict.too_fast(
        reason, fastest, limit, 1, f"the {part} of arm '{arm_names[arm]}' would move at {fastest:.2f} m/s, limit {limit:.2f}"
    )
