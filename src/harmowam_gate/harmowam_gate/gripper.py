"""The grippers: when they open and close, and how their fingers get there."""

from __future__ import annotations

import numpy as np
import ruckig
from numpy.typing import ArrayLike, NDArray

from harmowam_core.cell import Cell
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline
from harmowam_gate.settings import ArbiterSettings

Float64 = NDArray[np.float64]
FINGER_ACCELERATION_M_S2 = 2.0
FINGER_JERK_M_S3 = 50.0
SLACK = 0.001  # m and m/s
LONGEST_S = 0.7
SHORTEST_NS = 100_000_000
"""A driver refuses what is over when it arrives: no motion is so short that a tick in time could send it too late."""


class Grippers:
    """Each gripper is told to be open (1) or closed (0), or nothing yet (NaN)."""

    def __init__(self, cell: Cell, settings: ArbiterSettings) -> None:
        self.commanded: Float64 = np.full(len(cell.arms), np.nan)
        self._travel_m = cell.finger_travel
        self._hysteresis = settings.gripper_hysteresis
        self._solver = ruckig.Ruckig(len(cell.arms))
        self._input = ruckig.InputParameter(len(cell.arms))
        self._speed_m_s = settings.finger_speed_m_s
        self._input.max_jerk = [FINGER_JERK_M_S3] * len(cell.arms)
        self._input.synchronization = getattr(ruckig.Synchronization, "None", ruckig.Synchronization.No)
        self._rest_s = settings.rest_s
        self._sent: JointSpline | None = None
        self._before: JointSpline | None = None
        self._made_ns: int | None = None

    def forget(self, now_ns: int) -> None:
        """Say nothing until the next wish, which starts from where the fingers are then: measured, unless they are still on their way."""
        self.commanded = np.full(len(self.commanded), np.nan)
        if self._sent is not None and now_ns >= self._sent.end_ns:
            self._sent = None

    def want(self, openings: ArrayLike) -> None:
        """Openings (A,) in [0, 1] that an expert asks for: beyond one half by the hysteresis they change a gripper."""
        openings = np.asarray(openings, dtype=np.float64)
        undecided = np.isnan(self.commanded)
        wish = np.where(openings > 0.5 + self._hysteresis, 1.0, np.where(openings < 0.5 - self._hysteresis, 0.0, self.commanded))
        self.commanded = np.where(undecided & np.isnan(wish), (openings > 0.5) * 1.0, wish)

    def advance(self, now_ns: int, measured_openings: Float64) -> JointSpline | None:
        """The fingers' motion from now to where they were told to be, m; None while it stays as published last."""
        if np.isnan(self.commanded).any():
            return None
        goal = self.commanded * self._travel_m
        start = self._sent.motion(now_ns) if self._sent is not None else JointMotion.resting(measured_openings * self._travel_m)
        if self._sent is not None and start.at_rest and np.array_equal(start.positions, goal):
            return None
        self._input.current_position = start.positions
        self._input.current_velocity = start.velocities
        self._input.current_acceleration = start.accelerations
        self._input.target_position = goal
        # A finger that begins a rounding error too fast, or will be so by the time its acceleration has ended, may be so:
        # ruckig would first bring it back below the limit, and then take twice as long.
        v, a = start.velocities, start.accelerations
        peak = np.abs(v) + np.where(v * a > 0, a**2 / (2 * FINGER_JERK_M_S3), 0.0)
        self._input.max_velocity = np.maximum(peak, self._speed_m_s) * (1 + 1e-6)
        self._input.max_acceleration = np.maximum(np.abs(a), FINGER_ACCELERATION_M_S2) * (1 + 1e-6)
        found = ruckig.Trajectory(len(goal))
        result = self._solver.calculate(self._input, found)
        if result not in (ruckig.Result.Working, ruckig.Result.Finished):
            raise RuntimeError(f"no way for the fingers from {start.positions} to {goal} m: {result}")
        if found.duration > self._rest_s and self._sent is not None and now_ns < self._sent.end_ns:
            return None  # a change of mind on the way takes too long at once: what was sent comes to its end first
        times_ns = now_ns + np.arange(max(int(found.duration * 1e9) // GRID_NS + 2, SHORTEST_NS // GRID_NS + 1)) * GRID_NS
        rows = [found.at_time((time_ns - now_ns) * 1e-9) for time_ns in times_ns]
        spline = JointSpline(times_ns, *(np.array([row[k] for row in rows]) for k in range(3)))
        over = times_ns - now_ns >= found.duration * 1e9
        spline.positions[over], spline.velocities[over], spline.accelerations[over] = goal, 0.0, 0.0
        self._check(spline)
        self._before, self._sent, self._made_ns = self._sent, spline, now_ns
        return spline

    def recall(self, made_ns: int) -> None:
        """What was made at this time, if anything, was not sent: the motion before goes on."""
        if self._made_ns == made_ns:
            self._sent, self._made_ns = self._before, None

    def _check(self, spline: JointSpline) -> None:
        """RuntimeError for fingers that would be faster than asked for, leave their travel or take too long."""
        positions, speeds = spline.positions, np.abs(spline.velocities)
        fits = (positions >= -SLACK) & (positions <= self._travel_m + SLACK) & (speeds <= np.array(self._input.max_velocity) + SLACK)
        duration_s = (spline.end_ns - spline.start_ns) * 1e-9
        if not (fits.all() and np.isfinite(spline.accelerations).all() and duration_s <= LONGEST_S):
            way = f"from {positions.min():.4f} to {positions.max():.4f} m of {self._travel_m} m"
            raise RuntimeError(f"the fingers would go {way}, at up to {speeds.max():.3f} m/s, in {duration_s:.2f} s")
