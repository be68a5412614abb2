"""Where elbow and tool of each arm are and how fast, from the robot description alone; many samples at once.

Made from the URDF with numpy, on purpose without the library and the module that the arbiter's kinematics rest on.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from harmowam_core.cell import Cell

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Poses:
    """M samples of A arms in the base frame: positions (M, A, 3) m, speeds (M, A) m/s.

    tool_down: (M, A) cosine between the tool's axis and straight down; kept: (M, A, K, 3) m, elbow, wrist, flange and the palm's edges.
    """

    tcp: Float64
    tcp_speed: Float64
    elbow: Float64
    elbow_speed: Float64
    tool_down: Float64
    kept: Float64


class _Joint:
    """A joint of the chain: its place in the parent's frame, rotation (3, 3) and translation (3,); axis (3,), zero where it is fixed."""

    def __init__(self, child: str, rotation: Float64, translation: Float64, axis: Float64) -> None:
        self.child, self.translation, self.axis = child, translation, axis
        self.moves, self.is_away = bool(axis.any()), bool(translation.any())
        cross = np.cross(np.eye(3), axis)
        self._rodrigues = rotation, rotation @ cross, rotation @ cross @ cross

    def turned(self, angles: Float64) -> Float64:
        """(..., 1, 1) angles about the axis to (..., 3, 3) rotations from the child's to the parent's frame."""
        placed, first, second = self._rodrigues
        return placed + np.sin(angles) * first + (1 - np.cos(angles)) * second


class ForwardKinematics:
    """The arms of one cell: the same description at several bases. ValueError if the description does not fit the profile."""

    def __init__(self, cell: Cell) -> None:
        self._tool, self._elbow = cell.tool, cell.safety.elbow_link
        tool = self._tool
        self._chain = _chain(_find(cell.urdf), tool.flange)
        moving = sum(joint.moves for joint in self._chain)
        if moving != len(cell.joints) or self._elbow not in {joint.child for joint in self._chain}:
            raise ValueError(
                f"{cell.urdf} has {moving} joints up to '{tool.flange}', expected {len(cell.joints)} and a link '{self._elbow}'"
            )
        self._mount = Rotation.from_quat(tool.orientation).as_matrix()  # (3, 3) tool axes in the flange's frame
        self._base_rotation = np.array([Rotation.from_quat(arm.base_orientation).as_matrix() for arm in cell.arms])  # (A, 3, 3)
        self._base_position = np.array([arm.base_position for arm in cell.arms])  # (A, 3)
        self._arms, self._joints = len(cell.arms), len(cell.joints)

    def poses(self, positions: Float64, velocities: Float64) -> Poses:
        """Joints (M, A * J) and their velocities."""
        shape = (len(positions), self._arms, self._joints)
        angles, rates = positions.reshape(shape), velocities.reshape(shape)
        rotation: Float64 = np.broadcast_to(self._base_rotation, (*shape[:2], 3, 3))
        place: Float64 = np.broadcast_to(self._base_position, (*shape[:2], 3))
        turning, moving = np.zeros_like(place), np.zeros_like(place)  # angular and linear velocity of the frame at ``place``
        elbow = elbow_velocity = place
        kept: list[Float64] = []
        index = 0
        for joint in self._chain:
            if joint.is_away:
                arm = rotation @ joint.translation
                place, moving = place + arm, moving + _cross(turning, arm)
            if joint.moves:
                rotation = rotation @ joint.turned(angles[..., index, None, None])
                turning = turning + rotation @ joint.axis * rates[..., index, None]
                index += 1
            else:
                rotation = rotation @ joint.turned(_STRAIGHT)
            if joint.child == self._elbow:
                elbow, elbow_velocity, kept = place, moving, []
            kept.append(place)
        across, out = rotation @ self._mount[:, 1], rotation @ self._mount[:, 2]
        tcp = place + rotation @ np.array(self._tool.position)
        palm, aside = tcp - self._tool.palm_behind_tcp * out, self._tool.palm_half_width * across
        return Poses(
            tcp=tcp,
            tcp_speed=np.linalg.norm(moving + _cross(turning, tcp - place), axis=-1),
            elbow=elbow,
            elbow_speed=np.linalg.norm(elbow_velocity, axis=-1),
            tool_down=-out[..., 2],
            kept=np.stack([*kept, palm - aside, palm + aside], axis=-2),
        )


_STRAIGHT = np.zeros((1, 1))


def _cross(a: Float64, b: Float64) -> Float64:
    """(..., 3) each; several times as fast as numpy's for small arrays."""
    (a0, a1, a2), (b0, b1, b2) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)


def _find(reference: str) -> Path:
    """``package:path`` inside an installed Python package, which is not imported for it, or a plain path."""
    package, _, inside = reference.rpartition(":")
    spec = find_spec(package) if package else None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    path = Path(folders[0], inside) if folders else Path(inside)
    if not path.is_file() or (package and not folders):
        raise ValueError(f"robot description '{reference}' is not there")
    return path


def _chain(path: Path, tip: str) -> list[_Joint]:
    """The joints from the root to the link ``tip``."""
    by_child = {joint.find("child").get("link"): joint for joint in ElementTree.parse(path).getroot().findall("joint")}  # type: ignore[union-attr]
    chain: list[_Joint] = []
    link: str | None = tip
    while link in by_child:
        element = by_child[link]
        origin, axis = element.find("origin"), element.find("axis")
        turn, shift = (_numbers(origin, name) for name in ("rpy", "xyz"))
        chain.append(_Joint(str(link), Rotation.from_euler("xyz", turn).as_matrix(), shift, _numbers(axis, "xyz")))
        link = element.find("parent").get("link")  # type: ignore[union-attr]
    return chain[::-1]


def _numbers(element: ElementTree.Element | None, name: str) -> Float64:
    text = element.get(name) if element is not None else None
    return np.array([float(word) for word in (text or "0 0 0").split()])
