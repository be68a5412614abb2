"""The cell's URDF against the project's own kinematics, camera model and joint names."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pinocchio as pin
import pytest

from harmowam_bringup.robot_description import robot_description
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import optical_frame

CELL = load_cell()


@pytest.fixture(scope="module")
def urdf() -> str:
    return robot_description(CELL)


@pytest.fixture(scope="module")
def model(urdf: str) -> pin.Model:
    return pin.buildModelFromXML(urdf)


def placed(model: pin.Model, positions: np.ndarray, opening_m: float = 0.04) -> pin.Data:
    """All frames, for joints (14,) in the cell's order."""
    q = np.zeros(model.nq)
    for name, value in zip(CELL.arm_joint_names, positions, strict=True):
        q[model.joints[model.getJointId(name)].idx_q] = value
    for name in CELL.finger_joint_names:
        for joint in (name, f"{name}_mirrored"):
            q[model.joints[model.getJointId(joint)].idx_q] = opening_m
    data = model.createData()
    pin.framesForwardKinematics(model, data, q)
    return data


def pose(model: pin.Model, data: pin.Data, frame: str) -> pin.SE3:
    assert model.existFrame(frame), frame
    return data.oMf[model.getFrameId(frame)]


def test_tools_are_where_the_kinematics_say(model: pin.Model) -> None:
    kinematics = Kinematics(CELL)
    rng = np.random.default_rng(0)
    lower, upper = np.tile(CELL.limits.position_lower, 2), np.tile(CELL.limits.position_upper, 2)
    for q in rng.uniform(lower, upper, (20, 14)):
        positions, orientations = kinematics.forward(q)
        data = placed(model, q)
        for index, arm in enumerate(CELL.arm_names):
            tool = pose(model, data, f"{arm}_tcp")
            assert tool.translation == pytest.approx(positions[index], abs=1e-6)
            assert abs(pin.Quaternion(tool.rotation).coeffs() @ orientations[index]) == pytest.approx(1, abs=1e-6)


def test_cameras_look_where_the_profile_says(model: pin.Model) -> None:
    data = placed(model, Kinematics(CELL).home())
    for camera in CELL.cameras:
        parent = pin.SE3.Identity() if camera.mounted_on is None else pose(model, data, f"{camera.mounted_on}_tcp")
        wanted = parent * pin.SE3(camera.rotation, np.array(camera.position))
        assert np.allclose(pose(model, data, optical_frame(camera.name)).homogeneous, wanted.homogeneous, atol=1e-6)


def test_fingers_meet_at_the_tool_and_open_by_their_travel(model: pin.Model) -> None:
    home = Kinematics(CELL).home()
    for opening_m in (0.0, 0.03):
        data = placed(model, home, opening_m)
        first, second = (pose(model, data, f"left_finger{number}").translation for number in (1, 2))
        assert np.linalg.norm(first - second) == pytest.approx(2 * opening_m, abs=1e-6)


def test_meshes_are_there_and_every_link_hangs_on_the_base(urdf: str) -> None:
    root = ElementTree.fromstring(urdf)
    meshes = [mesh.attrib["filename"] for mesh in root.iter("mesh")]
    assert len(meshes) >= 2 * 10 and all(Path(name.removeprefix("file://")).is_file() for name in meshes)
    links = {link.attrib["name"] for link in root.findall("link")}
    assert len(links) == len(root.findall("link")) and len(root.findall("joint")) == len(links) - 1
    assert links - {child.attrib["link"] for child in root.iter("child")} == {CELL.base_frame}
