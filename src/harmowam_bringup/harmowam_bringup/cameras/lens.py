"""A RealSense camera's intrinsics as ROS and OpenCV write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Camera

GRID = 12
LARGEST_DIFFERENCE_PX = 8.0
"""In a corner of the image: further off than factory and own calibration of one lens are from each other."""


@dataclass(frozen=True)
class Lens:
    """Camera matrix (3, 3), pixels from the first one's centre; distortion (5,) or (8,) as in CameraInfo; ``size`` = (height, width)."""

    k: NDArray[np.float64]
    d: NDArray[np.float64]
    size: tuple[int, int]


def lens_of(intrinsics: Any) -> Lens:
    """From pyrealsense2's intrinsics. ValueError for a fish-eye, which is another model of the world."""
    import pyrealsense2 as rs

    k = np.array([[intrinsics.fx, 0, intrinsics.ppx], [0, intrinsics.fy, intrinsics.ppy], [0, 0, 1.0]])
    size = (intrinsics.height, intrinsics.width)
    coefficients = np.array(intrinsics.coeffs, np.float64)
    if not coefficients.any() or intrinsics.model in (rs.distortion.none, rs.distortion.brown_conrady):
        return Lens(k, coefficients, size)
    if intrinsics.model not in (rs.distortion.inverse_brown_conrady, rs.distortion.modified_brown_conrady):
        raise ValueError(f"the camera's distortion model is {intrinsics.model}, expected a Brown-Conrady one; fish-eyes are not supported")
    return Lens(k, _fit(intrinsics, k), size)


def _fit(intrinsics: Any, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """plumb_bob coefficients (5,) of a lens that RealSense describes by another polynomial, such as the inverse one; linear."""
    import pyrealsense2 as rs

    u, v = np.meshgrid(np.linspace(0, intrinsics.width - 1, GRID), np.linspace(0, intrinsics.height - 1, GRID))
    bent = (np.stack([u, v], -1).reshape(-1, 2) - k[:2, 2]) / [k[0, 0], k[1, 1]]
    pixels = zip(u.ravel().tolist(), v.ravel().tolist(), strict=True)
    x, y = np.array([rs.rs2_deproject_pixel_to_point(intrinsics, list(pixel), 1.0)[:2] for pixel in pixels]).T
    r2 = x * x + y * y
    along_x = [x * r2, x * r2**2, 2 * x * y, r2 + 2 * x * x, x * r2**3]  # k1, k2, p1, p2, k3
    along_y = [y * r2, y * r2**2, r2 + 2 * y * y, 2 * x * y, y * r2**3]
    matrix = np.concatenate([np.stack(along_x, 1), np.stack(along_y, 1)])
    return np.asarray(np.linalg.lstsq(matrix, np.concatenate([bent[:, 0] - x, bent[:, 1] - y]), rcond=None)[0])


def disagreement(camera: Camera, lens: Lens) -> str:
    """What is wrong with a profile's camera for images through this lens; empty if nothing is."""
    if camera.calibration is None:
        return f"the profile has nominal values of camera '{camera.name}' alone; run 'harmowam calibrate'"
    if (camera.height, camera.width) != lens.size:
        calibrated, streamed = f"{camera.width}x{camera.height}", f"{lens.size[1]}x{lens.size[0]}"
        return (
            f"the profile's camera '{camera.name}' is calibrated at {calibrated}, the stream is {streamed}; stream that, or calibrate again"
        )
    height, width = lens.size
    corners = [[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]]
    rays = (np.array(corners, np.float64) @ np.linalg.inv(lens.k).T)[:, None]
    by_device, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), lens.k, lens.d)
    by_profile, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), camera.intrinsics, camera.distortion)
    off_px = float(np.linalg.norm(by_profile - 0.5 - by_device, axis=-1).max())  # the profile counts from the pixel's corner
    if off_px > LARGEST_DIFFERENCE_PX:
        return f"the profile's intrinsics of camera '{camera.name}' are {off_px:.1f} pixels off the device's in a corner; calibrate again"
    return ""
