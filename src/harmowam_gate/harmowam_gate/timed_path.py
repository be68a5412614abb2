"""When the arms are where along a rounded path: as fast as joints and tools may, from rest to rest, without jerks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_gate.body import Body
from harmowam_gate.joint_spline import GRID_NS, JointSpline
from harmowam_gate.rounded_path import RoundedPath

Float64 = NDArray[np.float64]

# Shares of the limits: what lies between the sampled points, and the smoothing, take some more. The limits themselves are
# checked afterwards.
VELOCITY_SHARE, ACCELERATION_SHARE, BEND_SHARE = 0.8, 0.35, 0.35
TOOL_SPEED_M_S = 0.45  # of tools and elbows
STEP_RAD = 0.004
FINE_S = 0.002
SMOOTHING_S = 0.2
"""Speeds are averaged over so long, which bounds the jerk; the path itself stays the same."""


def timed(path: RoundedPath, start_ns: int, cell: Cell, body: Body, speed_scale: float, slow_down: float = 1.0) -> JointSpline:
    """Along ``path`` from the grid time ``start_ns``, at ``speed_scale`` of the velocity limits and then ``slow_down`` times slower."""
    t, speed = _speeds(path, cell, body, speed_scale)
    t = t * slow_down
    fine = np.arange(0.0, t[-1] + FINE_S, FINE_S)
    taps = np.hanning(round(SMOOTHING_S / FINE_S) + 1)
    smooth = np.convolve(np.interp(fine, t, speed / slow_down, right=0.0), taps / taps.sum())  # starts and ends at zero
    way = np.concatenate([[0.0], np.cumsum((smooth[1:] + smooth[:-1]) / 2) * FINE_S])
    scale = path.length / way[-1]
    moments = np.arange(len(way)) * FINE_S
    count = int(np.ceil(moments[-1] * 1e9 / GRID_NS)) + 1
    at = np.arange(count) * GRID_NS * 1e-9
    s = np.interp(at, moments, way * scale)
    ds = np.interp(at, moments, smooth * scale, right=0.0)[:, None]
    dds = np.interp(at, moments, np.gradient(smooth * scale, FINE_S), right=0.0)[:, None]
    ds[[0, -1]] = dds[[0, -1]] = 0.0
    q, tangent, bend = path.at(np.minimum(s, path.length))
    q[-1] = path.at(np.array([path.length]))[0][0]
    times_ns = start_ns + np.arange(count, dtype=np.int64) * GRID_NS
    return JointSpline(times_ns, q, tangent * ds, tangent * dds + bend * ds**2)


def _speeds(path: RoundedPath, cell: Cell, body: Body, speed_scale: float) -> tuple[Float64, Float64]:
    """Times (S,), s, and speeds along the path (S,), rad/s: what the limits allow at each point, reached and left gently enough."""
    arms = len(cell.arms)
    velocity = np.tile(cell.limits.velocity, arms) * VELOCITY_SHARE * speed_scale
    acceleration = np.tile(cell.limits.acceleration, arms)
    s = np.linspace(0.0, path.length, max(int(np.ceil(path.length / STEP_RAD)), 2) + 1)
    q, tangent, bend = path.at(s)
    places = body.places(q, tangent)
    tools = np.maximum(places.tool_speeds, places.elbow_speeds).max(axis=1)  # (S,) m a rad
    with np.errstate(divide="ignore"):
        fastest = np.minimum((velocity / np.abs(tangent)).min(axis=1), TOOL_SPEED_M_S * speed_scale / tools)
        fastest = np.minimum(fastest, np.sqrt((BEND_SHARE * acceleration / np.abs(bend)).min(axis=1)))
        gain = (ACCELERATION_SHARE * acceleration / np.abs(tangent)).min(axis=1)
    fastest[[0, -1]] = 0.0
    step = s[1]
    for here, there in [(i, i + 1) for i in range(len(s) - 1)] + [(i, i - 1) for i in range(len(s) - 1, 0, -1)]:
        fastest[there] = min(fastest[there], np.sqrt(fastest[here] ** 2 + 2 * min(gain[here], gain[there]) * step))
    return np.concatenate([[0.0], np.cumsum(2 * step / (fastest[1:] + fastest[:-1]))]), fastest
