"""What a motion planner is told and what it answers, whichever planner it is.

Joint vectors hold all arms one after the other, ``A * J`` rad, in the order of ``cell.arm_joint_names``; lengths m, times s,
quaternions xyzw, the cell's base frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell

Float64 = NDArray[np.float64]


class PlanningError(ValueError):
    """There is no plan; the message says why, and what would help."""


class PlanningCancelled(PlanningError):
    """The caller did not want it any more."""


@dataclass(frozen=True)
class Obstacle:
    """A box that stands in the cell: its full ``size`` (3,), and where its middle is."""

    name: str
    size: tuple[float, float, float]
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class PlanningScene:
    """The cell and everything in it that arms must not touch."""

    cell: Cell
    obstacles: tuple[Obstacle, ...] = ()

    @staticmethod
    def of(cell: Cell, clutter: tuple[Obstacle, ...] = ()) -> PlanningScene:
        """What the cell's profile names (its table), and ``clutter``."""
        fixed = tuple(
            Obstacle(thing.name, *(tuple(map(float, values)) for values in (np.subtract(thing.upper, thing.lower), thing.middle)))  # type: ignore[arg-type]
            for thing in cell.obstacles
        )
        return PlanningScene(cell, fixed + clutter)


@dataclass(frozen=True)
class Plan:
    """A way that touches nothing.

    path: (P, A*J) way-points, straight lines in joint space between them; the first is the start.
    method: which planner and which rung of its ladder found it. fallbacks: what was tried before, in words.
    """

    path: Float64
    method: str
    planning_s: float
    fallbacks: tuple[str, ...] = ()


class PathPlanner(Protocol):
    """Plans in one scene."""

    def plan(self, start: Float64, goal: Float64, *, cancelled: Callable[[], bool] = lambda: False) -> Plan:
        """From joints ``start`` (A*J,) to ``goal`` (A*J,). PlanningError says why there is no plan."""
        ...
