"""Leads the arms through way-points that somebody planned: timed here, judged by the same limits, sent in the same short pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.stages import JointState, JointTrajectory
from harmowam_core.status import Outcome
from harmowam_gate.joint_spline import JointSpline
from harmowam_gate.mover import SLOW_DOWN_MARGIN, Mover
from harmowam_gate.rounded_path import RoundedPath
from harmowam_gate.timed_path import timed

Float64 = NDArray[np.float64]

START_RAD = 0.01
"""How far the first way-point may be from where the arms are."""
ARRIVED_RAD = 0.005
ARRIVED_WITHIN_S = 1.0  # after the set-point has
TIMING_ATTEMPTS = 6
SLOWEST, MOST_WAYPOINTS = 0.01, 1000


class PathRefused(ValueError):
    """A path cannot be followed; the message says why."""


@dataclass(frozen=True)
class FollowTick:
    """What a tick sends, and how the path ended, if it did."""

    trajectory: JointTrajectory | None
    outcome: Outcome | None = None
    why: str = ""


class PathFollower:
    """At most one path at a time; times ns of the arbiter's steady clock."""

    def __init__(self, cell: Cell, mover: Mover) -> None:
        self._cell, self._mover = cell, mover
        self._spline: JointSpline | None = None

    @property
    def running(self) -> bool:
        """Whether a path is being followed."""
        return self._spline is not None

    def start(self, waypoints: Float64, speed_scale: float, now_ns: int) -> float:
        """Begin to follow way-points (P, A*J); returns how long it will take, s. PathRefused says which limit it would break."""
        if not SLOWEST <= speed_scale <= 1:
            raise PathRefused(f"speed_scale is {speed_scale}, expected a number from {SLOWEST} to 1")
        if len(waypoints) > MOST_WAYPOINTS:
            raise PathRefused(f"{len(waypoints)} way-points, expected at most {MOST_WAYPOINTS}")
        here = self._mover.set_point(now_ns)
        if here is None:
            raise PathRefused("the arms have not been seen at rest yet; are their joint states published?")
        if self._mover.moves(now_ns):
            raise PathRefused("the arms still move; try again once they rest")
        off_rad = float(np.abs(waypoints[0] - here.positions).max())
        if not off_rad <= START_RAD:
            raise PathRefused(f"the path begins {off_rad:.3f} rad from where the arms are, limit {START_RAD}; plan it anew")
        self._check_positions(waypoints)
        path = RoundedPath(np.concatenate([here.positions[None], waypoints[1:]]))
        spline = self._timed(path, speed_scale, self._mover.next_ns(now_ns)) if path.length > 0 else JointSpline.through([now_ns], [here])
        self._spline = spline
        self._mover.go(spline)
        return (spline.end_ns - now_ns) * 1e-9

    def _check_positions(self, waypoints: Float64) -> None:
        """Before anything is made of them: how long the way-points keep this busy depends on how far apart they are."""
        limits, arms = self._cell.limits, len(self._cell.arms)
        lower, upper = np.tile(limits.position_lower, arms) - START_RAD, np.tile(limits.position_upper, arms) + START_RAD
        if ((waypoints >= lower) & (waypoints <= upper)).all():
            return
        row, joint = np.unravel_index(int(np.argmax(np.maximum(lower - waypoints, waypoints - upper))), waypoints.shape)
        name, allowed = self._cell.arm_joint_names[joint], f"{lower[joint] + START_RAD:.2f} to {upper[joint] - START_RAD:.2f}"
        raise PathRefused(f"POSITION_LIMIT: way-point {row} has {name} at {waypoints[row, joint]:.4g} rad, limits {allowed}")

    def _timed(self, path: RoundedPath, speed_scale: float, start_ns: int) -> JointSpline:
        """As fast as every limit lets it."""
        slow_down = 1.0
        for _ in range(TIMING_ATTEMPTS):
            spline = timed(path, start_ns, self._cell, self._mover.body, speed_scale, slow_down)
            verdict = self._mover.judge(spline)
            if verdict.ok:
                return spline
            if not verdict.can_slow_down:
                break
            slow_down *= verdict.slow_down * SLOW_DOWN_MARGIN
        raise PathRefused(f"{verdict.reason.name}: {verdict.text}")

    def stop(self) -> None:
        """Do not follow it any more; braking is the caller's part."""
        self._spline = None

    def progress(self, now_ns: int) -> float:
        """Share of the time that is over, in [0, 1]."""
        if self._spline is None or self._spline.end_ns == self._spline.start_ns:
            return 1.0
        return float(np.clip((now_ns - self._spline.start_ns) / (self._spline.end_ns - self._spline.start_ns), 0.0, 1.0))

    def advance(self, now_ns: int, state: JointState | None, off_rad: float) -> FollowTick:
        """The next trajectory, the arm being ``off_rad`` from its set-point; at the end, whether the arms have arrived as measured."""
        assert self._spline is not None, "start comes first"
        if self._has_not_begun(now_ns):  # timing it may take longer than a tick, and what is too late is not sent
            later_ns = self._mover.next_ns(now_ns) - self._spline.start_ns
            self._spline = replace(self._spline, times_ns=self._spline.times_ns + later_ns)
            self._mover.go(self._spline)
        if self._mover.next_ns(now_ns) < self._spline.end_ns:
            trajectory, verdict = self._mover.advance(now_ns, off_rad)
            if verdict.ok:
                return FollowTick(trajectory)
            return self._ended(Outcome.FAULT, f"stopped on the way: {verdict.reason.name}: {verdict.text}", trajectory)
        joints = self._spline.positions.shape[1]
        left_rad = np.inf if state is None else float(np.abs(state.positions[:joints] - self._spline.positions[-1]).max())
        resting = state is not None and state.stamp_ns >= self._spline.end_ns
        if resting and left_rad <= ARRIVED_RAD:
            return self._ended(Outcome.SUCCEEDED, "the arms rest at the last way-point")
        if now_ns > self._spline.end_ns + ARRIVED_WITHIN_S * 1e9:
            return self._ended(Outcome.FAULT, f"a joint stopped {left_rad:.4f} rad from the last way-point, tolerance {ARRIVED_RAD}")
        return FollowTick(None)

    def _has_not_begun(self, now_ns: int) -> bool:
        """Whether the arms still rest where the path begins, which is longer than a point."""
        assert self._spline is not None
        here = self._mover.set_point(now_ns)
        rests = here is not None and not self._mover.moves(now_ns) and np.array_equal(here.positions, self._spline.positions[0])
        return rests and self._mover.unsent and self._spline.end_ns > self._spline.start_ns

    def _ended(self, outcome: Outcome, why: str, trajectory: JointTrajectory | None = None) -> FollowTick:
        self.stop()
        return FollowTick(trajectory, outcome, why)


def waypoints_of(cell: Cell, names: Sequence[str], positions: Sequence[float]) -> Float64:
    """(P, A*J) in the cell's order from joints in any order; PathRefused for anything that is not that."""
    if sorted(names) != sorted(cell.arm_joint_names):
        raise PathRefused(f"joint_names are {list(names)}, expected every arm joint once: {list(cell.arm_joint_names)}")
    values = np.asarray(positions, dtype=np.float64)
    if len(values) < 2 * len(names) or len(values) % len(names):
        raise PathRefused(f"{len(values)} positions are not two or more way-points of {len(names)} joints")
    if not np.isfinite(values).all():
        raise PathRefused("a position is not finite")
    return values.reshape(-1, len(names))[:, [list(names).index(name) for name in cell.arm_joint_names]]
