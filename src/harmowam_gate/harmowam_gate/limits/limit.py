"""What a limit looks at and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harmowam_core.kinematics import Kinematics
from harmowam_core.status import Reason
from harmowam_gate.joint_spline import DenseMotion, JointSpline

Float64 = NDArray[np.float64]
TOOL_SAMPLE_STEP = 2  # every other point, 40 ms


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
class Motion:
    """A motion that is to be commanded, and what it begins from.

    names: joints in the spline's order; before: the last published spline, if any.
    """

    names: tuple[str, ...]
    spline: JointSpline
    kinematics: Kinematics
    before: JointSpline | None = None

    @cached_property
    def dense(self) -> DenseMotion:
        """Sampled every few ms along the pieces that the driver will execute."""
        return self.spline.dense()

    @cached_property
    def tool_times_s(self) -> Float64:
        """(S,) when the tools are looked at."""
        return np.asarray((self.spline.times_ns[self._tool_points] - self.spline.start_ns) * 1e-9, dtype=np.float64)

    @cached_property
    def tools(self) -> Float64:
        """(S, A, 3) tool positions, base frame."""
        return self.kinematics.tool_positions(self.spline.positions[self._tool_points])

    @cached_property
    def _tool_points(self) -> NDArray[np.int64]:
        last = len(self.spline.times_ns) - 1
        return np.unique(np.append(np.arange(0, last, TOOL_SAMPLE_STEP), last))


class Limit(ABC):
    """One thing that a commanded motion must keep to. Comparisons are written so that NaN fails."""

    @abstractmethod
    def check(self, motion: Motion) -> Verdict:
        """Judge one motion; never raises for a bad one."""


def judge_joints(reason: Reason, names: tuple[str, ...], values: Float64, limits: Float64, order: int, unit: str) -> Verdict:
    """Compare |values| (D, N) with limits (N,); ``order`` as in Verdict.too_fast."""
    worst = np.abs(values).max(axis=0)
    if (worst <= limits).all():
        return Verdict()
    joint = int(np.argmax(worst / limits))
    measured, limit = float(worst[joint]), float(limits[joint])
    return Verdict.too_fast(reason, measured, limit, order, f"{names[joint]} would reach {measured:.2f} {unit}, limit {limit:.2f}")
