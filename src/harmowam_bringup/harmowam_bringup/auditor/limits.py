"""What is allowed: joints as in the cell profile; tools and times as here."""

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


@dataclass(frozen=True)
class ToolLimits:
    """How an arm may move in space, in the base frame.

    table_height_m: top of the table, which elbow, wrist and hand stay above; workspace_slack_m: how far the TCP may be outside
    the profile's workspace (paths cut corners); tool_tilt_rad: of the tool's axis from straight down.
    """

    tcp_speed_m_s: float = 0.7
    elbow_speed_m_s: float = 0.7
    tool_tilt_rad: float = 0.8
    workspace_slack_m: float = 0.005
    table_height_m: float = 0.0


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
    """Limits of all arm joints of a cell."""
    limits = cell.limits
    lower, upper, velocity, acceleration, jerk = (
        np.tile(row, len(cell.arms))
        for row in (limits.position_lower, limits.position_upper, limits.velocity, limits.acceleration, limits.jerk)
    )
    return AxisLimits(cell.arm_joint_names, lower, upper, velocity, acceleration, jerk, resync=0.02)


def gripper_limits(cell: Cell) -> AxisLimits:
    """Travel of the finger joints; the profile has no speeds for them."""
    ones = np.ones(len(cell.arms))
    endless = np.inf * ones
    return AxisLimits(cell.finger_joint_names, 0 * ones, cell.finger_travel * ones, endless, endless, endless, resync=0.005)
