"""From any motion to rest."""

from __future__ import annotations

import numpy as np
import ruckig

from harmowam_core.cell import Cell
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline

# Braking stays below the limits by this much, so that the driver's splines through the sampled points keep to them too.
ACCELERATION_SHARE = 0.8
JERK_SHARE = 0.5


class Brake:
    """The quickest way to rest within the limits, all joints in the same time."""

    def __init__(self, cell: Cell) -> None:
        arms = len(cell.arms)
        self._solver = ruckig.Ruckig(arms * len(cell.joints))
        self._input = ruckig.InputParameter(arms * len(cell.joints))
        self._input.control_interface = ruckig.ControlInterface.Velocity
        self._input.max_acceleration = list(np.tile(cell.limits.acceleration, arms) * ACCELERATION_SHARE)
        self._input.max_jerk = list(np.tile(cell.limits.jerk, arms) * JERK_SHARE)

    def plan(self, motion: JointMotion, start_ns: int) -> JointSpline:
        """From ``motion`` at a grid time to rest, points on the grid; RuntimeError if ruckig finds no way."""
        if motion.at_rest:
            return JointSpline.through([start_ns], [motion])
        self._input.current_position = motion.positions
        self._input.current_velocity = motion.velocities
        self._input.current_acceleration = motion.accelerations
        found = ruckig.Trajectory(len(motion.positions))
        result = self._solver.calculate(self._input, found)
        if result not in (ruckig.Result.Working, ruckig.Result.Finished):
            raise RuntimeError(f"no way to brake from velocities {motion.velocities}: {result}")
        times_ns = start_ns + np.arange(-(-int(found.duration * 1e9) // GRID_NS) + 1) * GRID_NS
        if len(times_ns) < 2:
            times_ns = np.array([start_ns, start_ns + GRID_NS])
        rows = [found.at_time((time_ns - start_ns) * 1e-9) for time_ns in times_ns]
        spline = JointSpline(times_ns, *(np.array([row[k] for row in rows]) for k in range(3)))
        spline.positions[0], spline.velocities[0], spline.accelerations[0] = motion.positions, motion.velocities, motion.accelerations
        spline.velocities[-1] = spline.accelerations[-1] = 0.0
        return spline
