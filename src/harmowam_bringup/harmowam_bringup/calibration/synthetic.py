"""Views of a board with known truth: exact projection through a lens, blur, noise, and an arm that is not quite where it says."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from harmowam_bringup.calibration.board import MARGIN_SQUARES, Board
from harmowam_bringup.calibration.hand_eye import Float64
from harmowam_bringup.cameras.lens import Lens

SUPERSAMPLING = 2
BACKGROUND = 100.0
SQUARE_PX = 120


@dataclass(frozen=True)
class Imperfections:
    """Standard deviations: sensor noise (grey levels), arm pose (m, rad); blur: of the lens, px."""

    noise: float = 3.0
    blur_px: float = 0.7
    arm_m: float = 1e-4
    arm_rad: float = float(np.radians(0.02))


@dataclass(frozen=True)
class Truth:
    """What is to be found: the camera in its parent's frame and the board in its carrier's (4, 4), and the lens."""

    camera: Float64
    board: Float64
    lens: Lens


@dataclass(frozen=True)
class Shown:
    """Images (H, W) uint8 and the tool's measured poses (4, 4) in the base frame."""

    truth: Truth
    images: list[NDArray[np.uint8]] = field(default_factory=list)
    tools: list[Float64] = field(default_factory=list)


def realistic_lens(rng: np.random.Generator) -> Lens:
    """A colour camera of 640x480 as RealSense builds them, with some distortion."""
    focal = rng.uniform(600, 630)
    k = np.array([[focal, 0, rng.uniform(312, 328)], [0, focal * rng.uniform(0.998, 1.002), rng.uniform(232, 248)], [0, 0, 1.0]])
    d = np.array([rng.uniform(-0.08, 0.12), rng.uniform(-0.2, 0.05), *rng.uniform(-1e-3, 1e-3, 2), 0.0])
    return Lens(k, d, (480, 640))


def show(kind: str, board: Board, views: int, rng: np.random.Generator, imperfect: Imperfections | None = None) -> Shown:
    """``views`` pictures for a ``wrist`` camera (board in the cell) or a ``scene`` camera (board in the hand)."""
    imperfect = imperfect or Imperfections()
    if kind == "wrist":
        camera = pose([0.08, 0.0, -0.065], Rotation.from_euler("xyz", [0.3, 0.1, 1.6]) * _small(rng))
        fixed = pose([0.5, 0.1, 0.0], Rotation.from_euler("xyz", [np.pi, 0, 0.4]) * _small(rng))
        nearest_m, furthest_m = 0.25, 0.45
    else:
        camera = pose([1.25, 0.13, 0.75], Rotation.from_euler("xyz", [-2.2, 0.0, 1.57]) * _small(rng))
        fixed = pose([-0.13, -0.09, 0.06], Rotation.from_euler("xyz", [0.2, 0.1, 0.1]) * _small(rng))
        nearest_m, furthest_m = 0.45, 0.75
    truth = Truth(camera, fixed, realistic_lens(rng))
    shown, rays = Shown(truth), rays_of(truth.lens)
    while len(shown.images) < views:
        seen = _board_before_camera(board, rng, nearest_m, furthest_m)
        if not _mostly_visible(board, seen, truth.lens):
            continue
        in_base = camera @ seen @ np.linalg.inv(fixed)  # A
        tool = np.linalg.inv(in_base) if kind == "wrist" else in_base
        wrong = pose(rng.normal(0, imperfect.arm_m, 3), Rotation.from_rotvec(rng.normal(0, imperfect.arm_rad, 3)))
        shown.images.append(render(board, seen, truth.lens, rays, rng, imperfect))
        shown.tools.append(tool @ wrong)
    return shown


def rays_of(lens: Lens) -> Float64:
    """(H, W, 3) directions, z = 1, that the pixels of a finer image look in."""
    height, width = (side * SUPERSAMPLING for side in lens.size)
    v, u = np.mgrid[:height, :width]
    pixels = (np.stack([u, v], -1).reshape(-1, 1, 2) + 0.5) / SUPERSAMPLING - 0.5
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-9)
    flat = cv2.undistortPoints(pixels, lens.k, lens.d, None, None, None, stop).reshape(height, width, 2)
    return np.concatenate([flat, np.ones((height, width, 1))], 2)


def render(board: Board, seen: Float64, lens: Lens, rays: Float64, rng: np.random.Generator, imperfect: Imperfections) -> NDArray[np.uint8]:
    """(H, W) uint8 of a board at ``seen`` (4, 4) in the camera's frame: each of the lens's ``rays`` is followed to the board's plane."""
    normal, origin = seen[:3, 2], seen[:3, 3]
    distance = (normal @ origin) / (rays @ normal)
    on_board = (rays * distance[..., None] - origin) @ seen[:3, :2]  # (H, W, 2) m
    place = ((on_board / board.square_m + MARGIN_SQUARES) * SQUARE_PX - 0.5).astype(np.float32)
    texture = cv2.GaussianBlur(board.picture(SQUARE_PX).astype(np.float32), (0, 0), 1.0)
    fine = cv2.remap(texture, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=BACKGROUND)
    image = cv2.resize(fine, lens.size[::-1], interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image, (0, 0), imperfect.blur_px) if imperfect.blur_px else image
    image = 30 + 0.7 * image + rng.normal(0, imperfect.noise, image.shape)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _board_before_camera(board: Board, rng: np.random.Generator, nearest_m: float, furthest_m: float) -> Float64:
    turn = Rotation.from_euler("ZXY", [rng.uniform(-0.8, 0.8), *rng.uniform(-0.6, 0.6, 2)])
    depth = rng.uniform(nearest_m, furthest_m)
    middle = np.array([*(rng.uniform(-0.2, 0.2, 2) * depth), depth])
    return pose(middle - turn.as_matrix() @ [*(np.array(board.size_m) / 2), 0.0], turn)


def _mostly_visible(board: Board, seen: Float64, lens: Lens) -> bool:
    corners = np.asarray(board.charuco().getChessboardCorners(), np.float64)
    pixels, _ = cv2.projectPoints(corners, cv2.Rodrigues(seen[:3, :3])[0], seen[:3, 3], lens.k, lens.d)
    inside = (pixels.reshape(-1, 2) > 5) & (pixels.reshape(-1, 2) < np.array(lens.size[::-1]) - 5)
    return bool(inside.all(1).mean() > 0.7)


def pose(position: ArrayLike, rotation: Rotation) -> Float64:
    """(4, 4) of a place and an orientation."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), np.asarray(position)
    return matrix


def _small(rng: np.random.Generator) -> Rotation:
    return Rotation.from_rotvec(rng.uniform(-0.1, 0.1, 3))
