"""A tool path in joint space: inverse kinematics of its targets, smoothed, as a function of time."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from harmowam_core.kinematics import Kinematics
from harmowam_core.status import Reason
from harmowam_gate.joint_spline import JointMotion
from harmowam_gate.limits import Verdict
from harmowam_gate.pose_path import PosePath

Float64 = NDArray[np.float64]
FEWEST_TARGETS = 3
REACHED_M, REACHED_RAD = 1e-3, 1e-2  # closer than the arm itself tracks


class JointPath:
    """Joint positions, velocities and accelerations from ``start_ns`` to ``end_ns``."""

    def __init__(self, times_ns: NDArray[np.int64], joints: Float64, smoothing_hz: float, end_ns: float = math.inf) -> None:
        """Through ``joints`` (K, N) at evenly spaced times, up to ``end_ns``; noise at ``smoothing_hz`` is halved, more above."""
        self.start_ns, self.end_ns = int(times_ns[0]), int(min(times_ns[-1], end_ns))
        seconds = (times_ns - times_ns[0]) * 1e-9
        smooth = _smoother(len(times_ns), float(seconds[1]), smoothing_hz) @ joints
        self._spline = CubicSpline(seconds, smooth, bc_type="not-a-knot" if len(seconds) > 3 else "natural")

    def at(self, times_ns: NDArray[np.int64]) -> tuple[Float64, Float64, Float64]:
        """Positions, velocities, accelerations (T, N); before the start it goes straight back from there."""
        seconds = (times_ns - self.start_ns) * 1e-9
        inside = np.maximum(seconds, 0.0)
        velocities = self._spline(inside, 1)
        back = (seconds - inside)[:, None]
        return self._spline(inside) + back * velocities, velocities, self._spline(inside, 2)

    def motion(self, time_ns: int) -> JointMotion:
        """At one time."""
        return JointMotion(*(values[0] for values in self.at(np.array([time_ns]))))


def joint_path(path: PosePath, kinematics: Kinematics, start: Float64, smoothing_hz: float) -> JointPath | Verdict:
    """The joints (A*J,) that lead along ``path``, searched from ``start`` on; the Verdict says why there are none.

    Where the end of the path is out of reach, it is left out.
    """
    joints: list[Float64] = []
    error_m = error_rad = 0.0
    for positions, orientations in zip(path.positions, path.orientations, strict=True):
        found = kinematics.inverse(positions, orientations, joints[-1] if joints else start)
        error_m, error_rad = float(found.position_error_m.max()), float(found.orientation_error_rad.max())
        if not (error_m <= REACHED_M and error_rad <= REACHED_RAD):
            break
        joints.append(found.q)
    if len(joints) == len(path.times_ns) or len(joints) >= FEWEST_TARGETS:
        return JointPath(path.times_ns[: len(joints)], np.array(joints), smoothing_hz, path.end_ns)
    return Verdict.refused(Reason.UNREACHABLE, error_m, REACHED_M, f"target {len(joints)} is {error_m:.3f} m out of reach")


@lru_cache(maxsize=64)
def _smoother(count: int, period_s: float, smoothing_hz: float) -> Float64:
    """(K, K): evenly spaced values to smooth ones (Whittaker); parabolas, the ends too, pass unchanged."""
    if count < 4:
        return np.eye(count)
    # min |y - f|^2 + weight |third differences of f|^2 passes the share 1 / (1 + weight (2 sin(omega period / 2))^6) of a wave.
    weight = 1.0 / (2 * np.sin(np.pi * smoothing_hz * period_s)) ** 6
    third = np.diff(np.eye(count), 3, axis=0)  # (K - 3, K)
    return np.asarray(np.linalg.inv(np.eye(count) + weight * third.T @ third), dtype=np.float64)
