"""Cameras of a cell: nominal and calibrated, one way of projecting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from harmowam_core.cell import Calibration, Camera, load_cell
from harmowam_core.messages import camera_info_from
from harmowam_core.scene_view import SceneView

NOMINAL = load_cell().camera("scene")
LENS = {"plumb_bob": (-0.12, 0.05, 0.002, -0.001, 0.01), "rational_polynomial": (0.3, -0.1, 0.002, -0.001, 0.02, 0.4, -0.15, 0.01)}


def calibrated(model: str = "plumb_bob") -> Camera:
    """The scene camera at 640x480, a bit off its nominal place, with a lens."""
    turned = Rotation.from_matrix(NOMINAL.rotation) * Rotation.from_rotvec([0.02, -0.03, 0.05])
    calibration = Calibration(
        fx=612.0, fy=614.5, cx=322.3, cy=236.1, distortion_model=model, distortion=LENS[model],
        position=(1.23, 0.14, 0.76), orientation=tuple(turned.as_quat()),
    )  # fmt: skip
    return NOMINAL.model_copy(update={"height": 480, "width": 640, "calibration": calibration})


@pytest.mark.parametrize("model", LENS)
def test_projects_as_its_camera_info_says(model: str) -> None:
    """By the formula of sensor_msgs/CameraInfo written out, not by OpenCV."""
    camera = calibrated(model)
    point = np.array([0.5, 0.2, 0.1])
    x, y, z = camera.rotation.T @ (point - camera.origin)
    x, y = x / z, y / z
    k1, k2, p1, p2, k3, k4, k5, k6 = (*LENS[model], 0.0, 0.0, 0.0)[:8]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    bent = [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y, 1.0]
    info = camera_info_from(camera, 0)
    assert info.distortion_model == model and tuple(info.d) == LENS[model]
    assert camera.project(point) - 0.5 == pytest.approx((np.array(info.k).reshape(3, 3) @ bent)[:2], abs=1e-6)


@given(st.floats(0.3, 0.7), st.floats(-0.2, 0.4), st.floats(0.0, 0.3), st.sampled_from(sorted(LENS)))
def test_the_scene_view_follows_the_calibration_both_ways(x: float, y: float, z: float, model: str) -> None:
    camera = calibrated(model)
    view = SceneView(camera, (64, 80))
    pixel = view.project([x, y, z])
    np.testing.assert_allclose(view.unproject(pixel, z), [x, y, z], atol=1e-6)
    native = camera.project(np.array([x, y, z]))
    np.testing.assert_allclose(pixel, (native - [20, 0]) * 64 / 480)  # the 600x480 in the middle of 640x480, made 80x64


def test_many_points_at_once() -> None:
    points = np.random.default_rng(0).uniform([0.3, -0.2, 0.0], [0.7, 0.4, 0.2], (4, 5, 3))
    pixels = calibrated().project(points)
    assert pixels.shape == (4, 5, 2)
    np.testing.assert_allclose(pixels[2, 3], calibrated().project(points[2, 3]))
    np.testing.assert_allclose(calibrated().unproject(pixels, points[..., 2]), points, atol=1e-6)


def test_a_calibration_that_repeats_the_nominal_camera_changes_nothing() -> None:
    k = NOMINAL.intrinsics
    same = Calibration(
        fx=k[0, 0], fy=k[1, 1], cx=k[0, 2] - 0.5, cy=k[1, 2] - 0.5,
        position=NOMINAL.position, orientation=tuple(Rotation.from_matrix(NOMINAL.rotation).as_quat()),
    )  # fmt: skip
    point = np.array([0.5, 0.1, 0.05])
    np.testing.assert_allclose(NOMINAL.model_copy(update={"calibration": same}).project(point), NOMINAL.project(point), atol=1e-9)
    assert camera_info_from(NOMINAL, 0).k[2] == NOMINAL.width / 2 - 0.5  # the middle between the two middle pixels' centres


def test_half_calibrations_are_refused() -> None:
    good = calibrated().calibration.model_dump()
    with pytest.raises(ValueError, match="distortion has 4 values, expected 5 for plumb_bob"):
        Calibration(**{**good, "distortion": (0.0,) * 4})
    with pytest.raises(ValueError, match=r"norm 2\.0000, expected 1"):
        Calibration(**{**good, "orientation": (0.0, 0.0, 0.0, 2.0)})
    with pytest.raises(ValueError, match="fx"):
        Calibration(**{**good, "fx": -1.0})
