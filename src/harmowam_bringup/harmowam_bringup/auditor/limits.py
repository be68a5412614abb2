"""What the cell profile allows, and times and fingers' speed as here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell

Float64 = NDArray[np.float64]

UPDATE_PERIOD_S = 0.1
"""Longest time until the next trajectory is due."""
REST_WITHIN_S = UPDATE_PERIOD_S + 0.5
"""Every motion is at rest so long after it was published: the arm of a dead publisher stops by itself."""


FINGER_SPEED_M_S = 0.2 * 1.01
"""Fastest that the stack's settings let a finger move, which profiles do not say; a curve through samples of it is a little faster."""
POSITION_SLACK_RAD = 1e-4
"""A joint that turns round at its limit gets so far beyond it between samples a few ms apart."""


@dataclass(frozen=True)
class AxisLimits:
    """What a controller's joints may do, (N,) each: rad or m, per s, s^2, s^3; infinite where the profile says nothing.

    resync: a resting joint is where it was measured if it is this close to it.
    """

    joints: tuple[str, ...]
    lower: Float64
    upper: Float64
    velocity: Float64
    acceleration: Float64
    jerk: Float64
    resync: float


def arm_limits(cell: Cell) -> AxisLimits:
    """Limits of all arm joints of a cell, the margin of positions included."""
    limits = cell.limits
    lower, upper, velocity, acceleration, jerk = (
        np.tile(row, len(cell.arms))
        for row in (limits.position_lower, limits.position_upper, limits.velocity, limits.acceleration, limits.jerk)
    )
    margin = cell.safety.position_margin - POSITION_SLACK_RAD
    return AxisLimits(cell.arm_joint_names, lower + margin, upper - margin, velocity, acceleration, jerk, resync=0.02)


def gripper_limits(cell: Cell) -> AxisLimits:
    """Travel and speed of the finger joints."""
    ones = np.ones(len(cell.arms))
    endless = np.inf * ones
    return AxisLimits(cell.finger_joint_names, 0 * ones, cell.finger_travel * ones, FINGER_SPEED_M_S * ones, endless, endless, resync=0.005)
