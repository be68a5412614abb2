"""Moves the simulated arms towards end-effector targets; for demonstrators and data collection, never for a policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_core.kinematics import Kinematics
from harmowam_sim.cell import SimCell

Float64 = NDArray[np.float64]

CONTROL_PERIOD_S = 0.1
SET_POINT_PERIOD_S = 0.01


class UnreachableError(RuntimeError):
    """An end-effector target is out of an arm's reach; the message names the arm and the target."""


@dataclass(frozen=True)
class EndEffectorCommand:
    """Where the tools should be one control period from now: positions (A, 3) m, orientations (A, 4) xyzw, openings (A,) in [0, 1]."""

    positions: Float64
    orientations: Float64
    openings: Float64


class EndEffectorServo:
    """Follows one command a control period with joint set-points on a cubic, so that velocities have no steps."""

    def __init__(self, cell: SimCell, kinematics: Kinematics) -> None:
        self._cell = cell
        self._kinematics = kinematics
        self._positions = cell.arm_positions.copy()
        self._velocities = np.zeros_like(self._positions)

    def move(self, command: EndEffectorCommand) -> None:
        """Advance the cell by one control period. UnreachableError for a target more than 5 mm out of reach."""
        found = self._kinematics.inverse(command.positions, command.orientations, self._positions)
        if (found.position_error_m > 0.005).any():
            arm = int(found.position_error_m.argmax())
            raise UnreachableError(f"arm '{self._cell.cell.arm_names[arm]}' cannot reach {np.round(command.positions[arm], 3)}")
        # Central difference: the velocity at the end of the step is half this step's and half the last one's.
        move = found.q - self._positions
        end_velocities = 0.5 * (move / CONTROL_PERIOD_S + self._velocities) if move.any() else np.zeros_like(move)
        end_velocities[np.abs(move) < 1e-5] = 0.0
        self._cell.command_openings(command.openings)
        steps = round(CONTROL_PERIOD_S / SET_POINT_PERIOD_S)
        for step in range(1, steps + 1):
            positions, velocities = _hermite(step / steps, self._positions, found.q, self._velocities, end_velocities)
            self._cell.command_arms(positions, velocities)
            self._cell.step(SET_POINT_PERIOD_S)
        self._positions, self._velocities = found.q, end_velocities


def _hermite(t: float, a: Float64, b: Float64, velocity_a: Float64, velocity_b: Float64) -> tuple[Float64, Float64]:
    """Position and velocity at fraction ``t`` of the control period."""
    va, vb = velocity_a * CONTROL_PERIOD_S, velocity_b * CONTROL_PERIOD_S
    position = (2 * t**3 - 3 * t**2 + 1) * a + (t**3 - 2 * t**2 + t) * va + (3 * t**2 - 2 * t**3) * b + (t**3 - t**2) * vb
    slope = (6 * t**2 - 6 * t) * (a - b) + (3 * t**2 - 4 * t + 1) * va + (3 * t**2 - 2 * t) * vb
    return position, slope / CONTROL_PERIOD_S
