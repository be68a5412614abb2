"""Motions that begin exactly at the present set-point and join a path."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_gate.joint_path import JointPath
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline

Float64 = NDArray[np.float64]
LAGGING_NS = 300_000_000
"""A slowed arm may be so far behind the first target that is left of its path."""


@dataclass(frozen=True)
class Pace:
    """How a path is gone through: from its time ``begin_ns`` on, at ``first`` of its speed, which becomes ``then`` within ``ramp_s``."""

    begin_ns: int
    first: float = 1.0
    then: float = 1.0
    ramp_s: float = 0.1

    def at(self, seconds: Float64) -> tuple[Float64, Float64, Float64]:
        """Path time since ``begin_ns``, s, its rate and the rate's change, 1/s, at times (T,) since the start."""
        u = np.minimum(seconds / self.ramp_s, 1.0)
        more = self.then - self.first
        gone = self.first * seconds + more * (self.ramp_s * (u**3 - u**4 / 2) + np.maximum(seconds - self.ramp_s, 0.0))
        return gone, self.first + more * (3 * u**2 - 2 * u**3), more / self.ramp_s * 6 * (u - u**2)


def join(start: JointMotion, start_ns: int, path: JointPath, slow_down: float, ramp_s: float) -> Pace:
    """From the point of ``path`` that is nearest to where the arm is, at the speed it has along it, to ``slow_down`` times slower.

    A slowed arm is behind the path's schedule. Hurrying after it would cut its corners.
    """
    times_ns = np.arange(path.start_ns - LAGGING_NS, start_ns + 1, GRID_NS // 2)
    if not len(times_ns):
        return Pace(start_ns, 1 / slow_down, 1 / slow_down, ramp_s)
    q, v, _ = path.at(times_ns)
    nearest = int(np.argmin(((q - start.positions) ** 2).sum(axis=1)))
    along, speed = float(start.velocities @ v[nearest]), float(v[nearest] @ v[nearest])
    first = min(max(along / speed, 0.0), 1.0) if speed > 0 else 0.0
    return Pace(int(times_ns[nearest]), first, 1 / slow_down, ramp_s)


def follow(start: JointMotion, start_ns: int, path: JointPath, blend_s: float, pace: Pace) -> JointSpline | None:
    """Along ``path`` from a grid time to the path's end; the offset between start and path decays over ``blend_s``.

    None where the path ends before the next grid time.
    """
    left_s = (path.end_ns - pace.begin_ns) * 1e-9
    longest_ns = round((left_s / pace.then + pace.ramp_s) * 1e9)
    seconds = np.asarray(np.arange(0, longest_ns + 1, GRID_NS) * 1e-9, dtype=np.float64)
    gone, rate, change = pace.at(seconds)
    within = gone <= left_s + 1e-9
    if within.sum() < 2:
        return None
    gone, rate, change = gone[within], rate[within, None], change[within, None]
    times_ns = start_ns + np.arange(len(gone)) * GRID_NS
    q, v, a = path.at(pace.begin_ns + np.round(gone * 1e9).astype(np.int64))
    v, a = v * rate, a * rate**2 + v * change
    # A quintic from the offset at the start (its position, velocity, acceleration) to zero.
    e0 = start.positions - q[0]
    e1 = (start.velocities - v[0]) * blend_s
    e2 = (start.accelerations - a[0]) * blend_s**2 / 2
    c3, c4, c5 = -10 * e0 - 6 * e1 - 3 * e2, 15 * e0 + 8 * e1 + 3 * e2, -6 * e0 - 3 * e1 - e2
    s = np.minimum((times_ns - start_ns)[:, None] * 1e-9 / blend_s, 1.0)
    open_ = s < 1
    offset = e0 + s * (e1 + s * (e2 + s * (c3 + s * (c4 + s * c5))))
    slope = e1 + s * (2 * e2 + s * (3 * c3 + s * (4 * c4 + s * 5 * c5)))
    bend = 2 * e2 + s * (6 * c3 + s * (12 * c4 + s * 20 * c5))
    spline = JointSpline(
        times_ns, q + np.where(open_, offset, 0), v + np.where(open_, slope / blend_s, 0), a + np.where(open_, bend / blend_s**2, 0)
    )
    # The same numbers bit by bit, so that what follows is continuous with what was sent.
    spline.positions[0], spline.velocities[0], spline.accelerations[0] = start.positions, start.velocities, start.accelerations
    return spline
