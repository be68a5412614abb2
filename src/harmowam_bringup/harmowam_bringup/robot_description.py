"""The whole cell as one URDF: the arms with their hands, and a frame for each camera; for robot_state_publisher, rviz and Rerun.

The cell profile names the URDF of one arm. Here each arm gets a copy of its own: links have the arm's name before theirs, joints
are named as in ``/joint_states``. A Franka has decimated meshes, other arms what their URDF shows. Lengths m, angles rad.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from harmowam_core.cell import Arm, Camera, Cell
from harmowam_core.kinematics import resolve_urdf
from harmowam_core.messages import optical_frame
from harmowam_sim.assets import VisualMesh, franka_meshes

Element = ElementTree.Element

FINGERS_M = 0.0584  # from the hand's root to the fingers', along the tool's axis


def robot_description(cell: Cell) -> str:
    """URDF of ``cell``, its meshes as absolute ``file://`` addresses; KinematicsError or AssetError if the arm's parts are missing."""
    robot = ElementTree.Element("robot", name=cell.name)
    ElementTree.SubElement(robot, "link", name=cell.base_frame)
    first, chain = _chain(resolve_urdf(cell.urdf), cell.tool.flange)
    meshes = franka_meshes() if cell.urdf.startswith("franka_sim:") else ()
    for arm in cell.arms:
        _add_arm(robot, cell, arm, first, chain, meshes)
    for camera in cell.cameras:
        _add_camera(robot, cell, camera)
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode")


def _chain(urdf: Path, tip: str) -> tuple[Element, list[tuple[Element, Element]]]:
    """The arm's first link, then joints with the links they carry, up to ``tip``."""
    root = ElementTree.parse(urdf).getroot()
    links = {link.get("name"): link for link in root.findall("link")}
    by_child = {_end(joint, "child"): joint for joint in root.findall("joint")}
    chain: list[tuple[Element, Element]] = []
    name = tip
    while name in by_child:
        chain.insert(0, (by_child[name], links[name]))
        name = _end(by_child[name], "parent")
    return links[name], chain


def _end(joint: Element, which: str) -> str:
    end = joint.find(which)
    assert end is not None, f"joint '{joint.get('name')}' has no {which}"
    return end.attrib["link"]


def _add_arm(
    robot: Element, cell: Cell, arm: Arm, first: Element, chain: Sequence[tuple[Element, Element]], meshes: Sequence[VisualMesh]
) -> None:
    moving = iter(cell.joints)
    parent = f"{arm.name}_{first.get('name')}"
    _add_link(robot, parent, first, meshes)
    _fix(robot, cell.base_frame, parent, arm.base_position, Rotation.from_quat(arm.base_orientation))
    for source, link in chain:
        name = f"{arm.name}_{link.get('name')}"
        joint = copy.deepcopy(source)
        fixed = joint.get("type") == "fixed"
        joint.set("name", f"{arm.name}_{joint.get('name')}" if fixed else f"{arm.prefix}{next(moving)}")
        for which, end in (("parent", parent), ("child", name)):
            joint.find(which).set("link", end)  # type: ignore[union-attr]
        robot.append(joint)
        _add_link(robot, name, link, meshes)
        parent = name
    turn = Rotation.from_quat(cell.tool.orientation)
    hand, tcp = (ElementTree.Element("link", name=part) for part in ("hand", "tcp"))
    _add_link(robot, f"{arm.name}_hand", hand, meshes)
    _fix(robot, parent, f"{arm.name}_hand", (0, 0, 0), turn)
    _add_link(robot, f"{arm.name}_tcp", tcp, meshes)
    _fix(robot, parent, f"{arm.name}_tcp", cell.tool.position, turn)
    _add_fingers(robot, cell, arm, f"{arm.name}_hand", meshes)


def _add_fingers(robot: Element, cell: Cell, arm: Arm, hand: str, meshes: Sequence[VisualMesh]) -> None:
    measured = f"{arm.prefix}{cell.finger_joint}"
    for number, turn in ((1, 0.0), (2, np.pi)):
        _add_link(robot, f"{arm.name}_finger{number}", ElementTree.Element("link", name="finger"), meshes)
        joint = _joint(
            robot, measured if number == 1 else f"{measured}_mirrored", "prismatic", hand, f"{arm.name}_finger{number}",
            (0, 0, FINGERS_M), Rotation.from_euler("z", turn),
        )  # fmt: skip
        ElementTree.SubElement(joint, "axis", xyz="0 1 0")
        ElementTree.SubElement(joint, "limit", lower="0", upper=str(cell.finger_travel), effort="70", velocity="0.2")
        if number == 2:
            ElementTree.SubElement(joint, "mimic", joint=measured)


def _add_camera(robot: Element, cell: Cell, camera: Camera) -> None:
    parent = cell.base_frame if camera.mounted_on is None else f"{camera.mounted_on}_tcp"
    frame = optical_frame(camera.name)
    ElementTree.SubElement(robot, "link", name=frame)
    _fix(robot, parent, frame, tuple(camera.origin), Rotation.from_matrix(camera.rotation))


def _add_link(robot: Element, name: str, source: Element, meshes: Sequence[VisualMesh]) -> None:
    link = ElementTree.SubElement(robot, "link", name=name)
    for part in source.findall("inertial" if meshes else "*"):
        link.append(copy.deepcopy(part))
    for mesh in meshes:
        if mesh.part == source.get("name"):
            visual = ElementTree.SubElement(link, "visual")
            ElementTree.SubElement(ElementTree.SubElement(visual, "geometry"), "mesh", filename=f"file://{mesh.path.resolve()}")
            material = ElementTree.SubElement(visual, "material", name=mesh.name.rpartition("_")[2])
            ElementTree.SubElement(material, "color", rgba=_text(mesh.rgba))


def _fix(robot: Element, parent: str, child: str, position: Sequence[float], rotation: Rotation) -> None:
    _joint(robot, f"{child}_mount", "fixed", parent, child, position, rotation)


def _joint(robot: Element, name: str, kind: str, parent: str, child: str, position: Sequence[float], rotation: Rotation) -> Element:
    joint = ElementTree.SubElement(robot, "joint", name=name, type=kind)
    ElementTree.SubElement(joint, "origin", xyz=_text(position), rpy=_text(rotation.as_euler("xyz")))
    ElementTree.SubElement(joint, "parent", link=parent)
    ElementTree.SubElement(joint, "child", link=child)
    return joint


def _text(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(f"{float(number):.9g}" for number in numbers)
