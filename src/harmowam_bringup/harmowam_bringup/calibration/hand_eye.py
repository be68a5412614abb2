"""Hand-eye calibration: a closed form to begin with, then the reprojection of all corners of all views, robustly.

Both set-ups are one equation. With X the camera in its parent's frame, Y the board in its carrier's, and T the tool in the base
frame, the board in the camera's frame is  inv(X) A Y,  where A = inv(T) for a camera on the hand that looks at a fixed board, and
A = T for a fixed camera that looks at a board in the hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from harmowam_bringup.cameras.lens import Lens

Float64 = NDArray[np.float64]

MIN_VIEWS = 8
MIN_SPREAD_RAD = np.radians(5.0)
"""Of the hand's orientations, about each of two axes at least; otherwise translation and rotation cannot be told apart."""
ROBUST_PX = 1.0
OUTLIER_FACTOR, OUTLIER_PX = 4.0, 1.0
"""A view is out if its residual is so many times the median, and above that many pixels."""
MAX_OUTLIERS = 0.3
MAX_MEDIAN_PX = 5.0
MAX_STEPS = 100


@dataclass(frozen=True)
class View:
    """Corners seen at one pose: pixels (N, 2), board points (N, 3) m, and A (4, 4) as above."""

    name: str
    pixels: Float64
    points: Float64
    a: Float64


@dataclass(frozen=True)
class PoseResidual:
    """How far one view is from what the solution says: rms pixels, and its own board pose off by mm and degrees."""

    name: str
    corners: int
    px: float
    mm: float
    deg: float
    outlier: bool


@dataclass(frozen=True)
class Solution:
    """``camera``: X (4, 4), ``board``: Y (4, 4); one standard deviation of X's place and orientation; every view's residual."""

    camera: Float64
    board: Float64
    sigma_mm: float
    sigma_deg: float
    rms_px: float
    residuals: tuple[PoseResidual, ...]


def solve(views: Sequence[View], lens: Lens) -> Solution:
    """X and Y from the views; those that do not fit are left out and marked. ValueError says what the views lack."""
    if len(views) < MIN_VIEWS:
        raise ValueError(
            f"the board was found in {len(views)} views, expected at least {MIN_VIEWS}; record more, with the whole board visible"
        )
    if lack := missing_rotation([view.a[:3, :3] for view in views]):
        raise ValueError(lack)
    seen = [board_pose(view, lens) for view in views]
    x, y = closed_form([view.a for view in views], seen)
    x, y, _ = _refine(views, lens, x, y)
    px = np.array([rms_px(view, lens, np.linalg.inv(x) @ view.a @ y) for view in views])
    middle_px = float(np.median(px))
    outlier = px > max(OUTLIER_FACTOR * middle_px, OUTLIER_PX)
    kept = [view for view, out in zip(views, outlier, strict=True) if not out]
    if middle_px > MAX_MEDIAN_PX or len(kept) < max(MIN_VIEWS, (1 - MAX_OUTLIERS) * len(views)):
        raise ValueError(
            f"the views contradict each other: half are off by more than {middle_px:.1f} px, "
            f"{len(views) - len(kept)} of {len(views)} by far more than that; "
            "did the arm move while they were taken, or the board between them?"
        )
    x, y, covariance = _refine(kept, lens, x, y)
    residuals = []
    for view, pose, out in zip(views, seen, outlier, strict=True):
        expected = np.linalg.inv(x) @ view.a @ y
        middle = view.points.mean(0)
        off_m = float(np.linalg.norm((pose - expected)[:3] @ [*middle, 1.0]))
        px_now = rms_px(view, lens, expected)
        residuals.append(PoseResidual(view.name, len(view.points), px_now, 1e3 * off_m, angle_deg(pose, expected), bool(out)))
    rms = float(np.sqrt(np.mean([residual.px**2 for residual in residuals if not residual.outlier])))
    sigma_deg, sigma_mm = np.degrees(np.sqrt(np.trace(covariance[:3, :3]))), 1e3 * np.sqrt(np.trace(covariance[3:6, 3:6]))
    return Solution(x, y, float(sigma_mm), float(sigma_deg), rms, tuple(residuals))


def missing_rotation(rotations: Sequence[Float64]) -> str:
    """Which turns of the hand are lacking, given A's rotations; empty if none."""
    turns = Rotation.from_matrix(np.array([rotation.T for rotation in rotations]))
    spread = np.linalg.svd(_about_mean(turns), compute_uv=False) / np.sqrt(len(rotations))
    if spread[1] >= MIN_SPREAD_RAD:
        return ""
    by_axis = np.sqrt((_about_mean(turns) ** 2).mean(0))
    lacking = [axis for axis, rad in zip("xyz", by_axis, strict=True) if rad < MIN_SPREAD_RAD] or [
        "another axis than the one it turned about"
    ]
    turned = ", ".join(f"{axis} {np.degrees(rad):.1f}" for axis, rad in zip("xyz", by_axis, strict=True))
    return (
        f"the hand's orientations are too alike (spread in degrees about the tool's {turned}): turn it by 20 degrees either way "
        f"about {' or '.join(lacking)}, in at least four views"
    )


def _about_mean(turns: Rotation) -> Float64:
    return np.asarray((turns.mean().inv() * turns).as_rotvec())


def board_pose(view: View, lens: Lens) -> Float64:
    """(4, 4) board in the camera's frame, from one view alone."""
    _, rotations, translations, errors = cv2.solvePnPGeneric(view.points, view.pixels, lens.k, lens.d, flags=cv2.SOLVEPNP_IPPE)
    best = int(np.argmin(np.ravel(errors)))
    rotation, translation = cv2.solvePnPRefineLM(view.points, view.pixels, lens.k, lens.d, rotations[best], translations[best])
    return _matrix(Rotation.from_rotvec(np.ravel(rotation)), np.ravel(translation))


def closed_form(a: Sequence[Float64], c: Sequence[Float64]) -> tuple[Float64, Float64]:
    """X and Y with A Y = X C: rotations by the Kronecker product (Shah 2013), translations by least squares."""
    mean = sum(np.kron(ci[:3, :3].T, ai[:3, :3].T) for ai, ci in zip(a, c, strict=True)) / len(a)
    u, _, vt = np.linalg.svd(mean)
    rx, ry = vt[0].reshape(3, 3, order="F"), u[:, 0].reshape(3, 3, order="F")
    sign = np.sign(np.linalg.det(rx))
    x, y = Rotation.from_matrix(sign * np.sqrt(3) * rx), Rotation.from_matrix(sign * np.sqrt(3) * ry)
    rows = np.concatenate([np.hstack([np.eye(3), -ai[:3, :3]]) for ai in a])
    wanted = np.concatenate([ai[:3, 3] - x.as_matrix() @ ci[:3, 3] for ai, ci in zip(a, c, strict=True)])
    t = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return _matrix(x, t[:3]), _matrix(y, t[3:])


def _refine(views: Sequence[View], lens: Lens, x: Float64, y: Float64) -> tuple[Float64, Float64, Float64]:
    """X and Y of least reprojection error, and the covariance (12, 12) of X's and Y's turns (rad) and places (m).

    Errors of one view hang together (the arm was a little elsewhere), so the covariance is that of the views, not of the corners.
    """
    counts = [len(view.points) for view in views]
    a, owner = np.array([view.a for view in views]), np.repeat(np.arange(len(views)), counts)
    points, pixels = np.concatenate([view.points for view in views]), np.concatenate([view.pixels for view in views])

    def moved(p: Float64) -> tuple[Float64, Float64]:
        return _nudged(x, p[:6]), _nudged(y, p[6:])

    def residual(p: Float64) -> Float64:
        camera, board = moved(p)
        poses = (np.linalg.inv(camera) @ a @ board)[owner]  # (N, 4, 4)
        return (_project(np.einsum("nij,nj->ni", poses[:, :3, :3], points) + poses[:, :3, 3], lens) - pixels).ravel()

    found = least_squares(residual, np.zeros(12), loss="soft_l1", f_scale=ROBUST_PX, x_scale="jac", max_nfev=MAX_STEPS)
    inverse = np.linalg.inv(found.jac.T @ found.jac)
    ends = 2 * np.cumsum(counts)[:-1]
    raw = residual(found.x)
    weighed = raw * (1 + (raw / ROBUST_PX) ** 2) ** 0.25  # goes with scipy's Jacobian, which it has scaled for soft L1
    gradients = [j.T @ r for j, r in zip(np.split(found.jac, ends), np.split(weighed, ends), strict=True)]
    scale = len(views) / max(len(views) - 2, 1)
    return *moved(found.x), scale * inverse @ sum(np.outer(g, g) for g in gradients) @ inverse


def _project(points: Float64, lens: Lens) -> Float64:
    """Points (N, 3) in the camera's frame to pixels (N, 2)."""
    pixels, _ = cv2.projectPoints(points[:, None], np.zeros(3), np.zeros(3), lens.k, lens.d)
    return np.asarray(pixels, np.float64).reshape(-1, 2)


def rms_px(view: View, lens: Lens, pose: Float64) -> float:
    """rms distance of a view's corners from where a board at ``pose`` (4, 4) in the camera's frame shows them."""
    off = _project(view.points @ pose[:3, :3].T + pose[:3, 3], lens) - view.pixels
    return float(np.sqrt((off**2).sum(1).mean()))


def _nudged(pose: Float64, p: Float64) -> Float64:
    return _matrix(Rotation.from_rotvec(p[:3]) * Rotation.from_matrix(pose[:3, :3]), pose[:3, 3] + p[3:])


def _matrix(rotation: Rotation, translation: Float64) -> Float64:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.as_matrix(), translation
    return pose


def angle_deg(a: Float64, b: Float64) -> float:
    """Angle between the orientations of two poses (4, 4)."""
    return float(np.degrees(Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).magnitude()))
