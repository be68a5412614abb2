"""Free-space paths of a downward hand: how near it comes to what stands on the table, and smooth ways over it.

Lengths m, the base frame. The hand is a stack of boxes about the tool's axis, wide along the closing direction (y at
yaw 0); what stands on the table is a set of upright cylinders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_sim.objects import ObjectKind

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Post:
    """An upright cylinder around an object standing on the table, and the clearance the hand keeps from it."""

    x: float
    y: float
    radius: float
    height: float
    clearance: float


@dataclass(frozen=True)
class Section:
    """A box of the hand: half sizes across it, the offset of its middle, and its bottom relative to the TCP.

    turns: whether it turns with the tool's yaw; the wrist stays where the forearm holds it.
    """

    half_x: float
    half_y: float
    bottom: float
    shift: tuple[float, float] = (0.0, 0.0)
    turns: bool = True


# Measured on the arm's solids with the tool down over the whole table; the left arm's wrist reaches back and to the left.
HAND: tuple[Section, ...] = (
    Section(0.012, 0.058, -0.010),
    Section(0.033, 0.103, 0.036),
    Section(0.048, 0.110, 0.100, shift=(0.0, 0.007), turns=False),
    Section(0.098, 0.102, 0.150, shift=(-0.045, 0.048), turns=False),
)
TRANSIT_CLEARANCE_M = 0.05
CLUTTER_CLEARANCE_M = 0.025
MIN_CLEARANCE_M = 0.012
_SAMPLES = 64
_SMOOTHING_M = 0.015


def carrying(hand: tuple[Section, ...], kind: ObjectKind) -> tuple[Section, ...]:
    """The hand with an object held at its grasp height; a square as wide as the object is long, whatever its yaw."""
    return (*hand, Section(kind.half_extents[0], kind.half_extents[0], -kind.grasp_height - 0.005))


def post(kind: ObjectKind, x: float, y: float) -> Post:
    """An object where it stands, with the clearance its kind deserves."""
    return Post(x, y, kind.radius, kind.height, TRANSIT_CLEARANCE_M if kind.tall else CLUTTER_CLEARANCE_M)


def horizontal_gap(section: Section, xy: Float64, yaw_rad: float, obstacle: Post) -> Float64:
    """(N, 2) TCP positions -> (N,) distance between the section's box and the post, seen from above; negative inside."""
    c, s = (np.cos(yaw_rad), np.sin(yaw_rad)) if section.turns else (1.0, 0.0)
    offset = np.array([obstacle.x, obstacle.y]) - xy
    local = np.abs(offset @ np.array([[c, -s], [s, c]]) - section.shift) - [section.half_x, section.half_y]
    outside = np.linalg.norm(np.maximum(local, 0.0), axis=-1)
    return outside + np.minimum(local.max(-1), 0.0) - obstacle.radius


def hand_gap(hand: Sequence[Section], positions: Float64, yaw_rad: float, obstacle: Post) -> Float64:
    """(N, 3) TCP positions -> (N,) gap between the whole hand and the post: the larger of above and beside, per section."""
    gaps = [
        np.maximum(horizontal_gap(section, positions[:, :2], yaw_rad, obstacle), positions[:, 2] + section.bottom - obstacle.height)
        for section in hand
    ]
    return np.asarray(np.min(gaps, axis=0))


def straight(start: Float64, end: Float64) -> Float64:
    """(N, 3) points on the straight line between two points (3,)."""
    return np.asarray(start + np.linspace(0, 1, _SAMPLES)[:, None] * (end - start))


def transit_path(
    start: Float64, end: Float64, hand: Sequence[Section], yaw_rad: float, posts: Sequence[Post], *, sway_m: float = 0.0, arc_m: float = 0.0
) -> Float64:
    """A smooth path (N, 3) from ``start`` to ``end`` (3,) that keeps the hand clear of the posts.

    ``sway_m`` bends it sideways and ``arc_m`` upwards, as people do. It leads over what stands in between, never around it: so the way
    follows from the scene alone, and changes little where the scene does. The mean of a way to the left and one to the right, which is what
    a small network learns of both, would lead into the obstacle. Where start or end lies closer to a post than its clearance, the path
    keeps what gap there is.
    """
    return _over(_sideways(start, end, sway_m, arc_m), hand, yaw_rad, posts)


def length(path: Float64) -> float:
    """Of a path (N, 3), m."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def _sideways(start: Float64, end: Float64, sideways_m: float, arc_m: float) -> Float64:
    along = np.linspace(0, 1, _SAMPLES)[:, None]
    direction = end[:2] - start[:2]
    span = float(np.linalg.norm(direction))
    normal = np.array([-direction[1], direction[0]]) / max(span, 0.05)
    bump = np.sin(np.pi * along) ** 2
    lift = arc_m * min(1.0, span / 0.15)
    return np.asarray(start + along * (end - start) + np.concatenate([bump * normal * sideways_m, bump * lift], axis=1))


def _over(path: Float64, hand: Sequence[Section], yaw_rad: float, posts: Sequence[Post]) -> Float64:
    """Arch the path over whatever the hand would otherwise come too close to."""
    needed = path[:, 2].copy()
    for obstacle in posts:
        at_ends = hand_gap(hand, path[[0, -1]], yaw_rad, obstacle)
        # Towards an end that is itself close to the post, only what that end allows can be kept.
        keep = np.minimum(obstacle.clearance, np.linspace(max(at_ends[0], MIN_CLEARANCE_M), max(at_ends[1], MIN_CLEARANCE_M), len(path)))
        if at_ends.min() >= obstacle.clearance:
            keep[:] = obstacle.clearance
        for section in hand:
            close = horizontal_gap(section, path[:, :2], yaw_rad, obstacle) < keep
            needed = np.where(close, np.maximum(needed, obstacle.height + obstacle.clearance - section.bottom), needed)
    if not (needed > path[:, 2]).any():
        return _smooth(path)
    travelled = np.concatenate([[0.0], np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1).cumsum()])
    arched = np.column_stack([path[:, :2], _arch(travelled, needed)])
    return _smooth(np.concatenate([path[:1], arched, path[-1:]]))


def _arch(x: Float64, y: Float64) -> Float64:
    """The lowest concave curve above the points (x rising): up to the highest without steps, and down again."""
    corners: list[int] = []
    for i in range(len(x)):
        while len(corners) > 1:
            a, b = corners[-2], corners[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            corners.pop()
        corners.append(i)
    return np.interp(x, x[corners], y[corners])


def _smooth(path: Float64) -> Float64:
    """Resample evenly and round the corners, ends kept."""
    path = resample(path, max(int(length(path) / 0.004), 8))
    step = length(path) / (len(path) - 1)
    width = int(min(np.ceil(2 * _SMOOTHING_M / max(step, 1e-6)), len(path) // 3))
    if width < 1:
        return path
    kernel = np.exp(-0.5 * (np.arange(-width, width + 1) * step / _SMOOTHING_M) ** 2)
    kernel /= kernel.sum()
    # Point-reflected ends keep both ends where they are.
    padded = np.concatenate([2 * path[0] - path[width:0:-1], path, 2 * path[-1] - path[-2 : -width - 2 : -1]])
    return np.stack([np.convolve(padded[:, axis], kernel, mode="valid") for axis in range(3)], axis=1)


def resample(path: Float64, count: int) -> Float64:
    """The path at ``count`` points, evenly spaced along it."""
    travelled = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
    return np.stack([np.interp(np.linspace(0, travelled[-1], count), travelled, path[:, axis]) for axis in range(3)], axis=1)
