"""Where the arms are in space: tools, elbows and solids of many configurations at once, and the distances between them.

The chain comes from the robot's description by Pinocchio; it is followed for all samples together, with NumPy. Distances are
Pinocchio's and Coal's, asked of few samples, and in full only where something is near. Lengths m, angles rad, base frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics, KinematicsError, resolve_urdf
from harmowam_core.solids import SOLIDS_DIR, BoxSolid, Solid, load_solids

Float64 = NDArray[np.float64]
NEIGHBOURS = 2
"""Links of one arm with at most this many joints between them cannot touch within the joint limits, or always overlap."""
SHOULDER = 1
"""Links up to this joint turn in place: they come no nearer to the other arm's or to what stands in the cell."""


@dataclass(frozen=True)
class _Outline:
    """A solid of a link: the hull of points (K, 3) in the frame of the joint that moves it, thickened by a radius."""

    name: str
    link: str
    joint: int
    points: Float64
    radius: float
    touches: bool  # encloses the tool centre point, so it is what grasps
    shape: coal.CollisionGeometry
    placement: pin.SE3  # in the joint's frame


class Body:
    """All arms of a cell. KinematicsError where the robot's description or its solids do not fit. Not thread-safe."""

    def __init__(self, cell: Cell, kinematics: Kinematics) -> None:
        self._model = model = kinematics.arm_model
        self.arm_names, self._joints = cell.arm_names, len(cell.joints)
        for joint, name in zip(list(model.joints)[1:], list(model.names)[1:], strict=True):
            if joint.shortname() != "JointModelRZ":
                raise KinematicsError(f"joint '{name}' of {cell.urdf} does not turn about its own z axis; the limits in space need that")
        self._placed = np.array([model.jointPlacements[i].homogeneous for i in range(1, model.njoints)])
        self._tool = model.frames[model.getFrameId("tcp")].placement
        self._elbow = self._frame(cell, cell.safety.elbow_link, "safety.elbow_link")
        for link in cell.safety.may_touch:
            self._frame(cell, link, "safety.may_touch")
        bases = [pin.XYZQUATToSE3(np.array([*arm.base_position, *arm.base_orientation])) for arm in cell.arms]
        self._bases = np.array([base.homogeneous for base in bases])
        self.outlines = [
            self._outline(cell, link, number, solid) for link, solids in load_solids(cell).items() for number, solid in enumerate(solids)
        ]
        self.kept = self._kept()
        if cell.safety.keep_out and not self.kept[0]:
            raise KinematicsError(
                f"cell '{cell.name}': safety.keep_out has planes, but no link has solids that they could keep out; describe the links in "
                f"{SOLIDS_DIR / resolve_urdf(cell.urdf).stem}.yaml or leave the planes out"
            )
        self.distances = _Distances(cell, model, bases, self.outlines)

    def _kept(self) -> tuple[list[int], Float64, Float64]:
        """Of all solids that planes keep out: the joints (K,) that move them, points (K, 3, P) of their hulls, how far they reach beyond
        (K, 1, 1, P). Where a joint has fewer points than others, its first is repeated.
        """
        kept = [outline for outline in self.outlines if outline.joint >= SHOULDER and not outline.touches]
        joints = sorted({outline.joint for outline in kept})
        most = max((sum(len(outline.points) for outline in kept if outline.joint == joint) for joint in joints), default=0)
        points, radii = np.empty((len(joints), 3, most)), np.empty((len(joints), 1, 1, most))
        for row, joint in enumerate(joints):
            mine = [outline for outline in kept if outline.joint == joint]
            corners = np.concatenate([outline.points for outline in mine])
            reach = np.concatenate([np.full(len(outline.points), outline.radius) for outline in mine])
            order = np.arange(most) * (np.arange(most) < len(corners))
            points[row], radii[row] = corners[order].T, reach[order]
        return joints, points, radii

    def places(self, positions: Float64, velocities: Float64) -> Places:
        """Joints (S, A*J) and their velocities."""
        shape = (len(positions), len(self.arm_names), self._joints)
        angles = positions.reshape(shape).transpose(2, 0, 1)[..., None]  # (J, S, A, 1)
        cos, sin, placed = np.cos(angles), np.sin(angles), self._placed[:, None, None]
        steps = np.empty((self._joints, *shape[:2], 4, 4))  # of each joint's frame from the one before, turned about its z axis
        steps[..., 0] = cos * placed[..., 0] + sin * placed[..., 1]
        steps[..., 1] = cos * placed[..., 1] - sin * placed[..., 0]
        steps[..., 2:] = placed[..., 2:]
        frames = np.empty_like(steps)
        before = self._bases
        for step, frame in zip(steps, frames, strict=True):
            before = np.matmul(before, step, out=frame)
        return Places(self, positions, velocities.reshape(shape), frames[..., :3, :3], frames[..., :3, 3])

    def _frame(self, cell: Cell, link: str, where: str) -> tuple[int, Float64]:
        """The joint that moves a link (0: the first), and the link's origin in its frame. ``where``: what names the link."""
        links = [frame.name for frame in self._model.frames if frame.type in (pin.FrameType.BODY, pin.FrameType.OP_FRAME)]
        if link not in links:
            raise KinematicsError(f"cell '{cell.name}': {where} names the link '{link}', which {cell.urdf} lacks; its links are {links}")
        frame = self._model.frames[self._model.getFrameId(link)]
        return frame.parentJoint - 1, frame.placement.translation.copy()

    def _outline(self, cell: Cell, link: str, number: int, solid: Solid) -> _Outline:
        joint, _ = self._frame(cell, link, f"{resolve_urdf(cell.urdf).stem}.yaml of the solids")
        placement = self._model.frames[self._model.getFrameId(link)].placement
        points, radius = solid.corners()
        touches = (
            link == "tcp"
            and isinstance(solid, BoxSolid)
            and bool((np.array(solid.lower) <= 0).all() and (np.array(solid.upper) >= 0).all())
        )
        shape, where = solid.shape()
        points = points @ placement.rotation.T + placement.translation
        return _Outline(f"{link}/{number}", link, joint, points, radius, touches, shape, placement * where)


@dataclass(frozen=True)
class Places:
    """S samples of A arms; velocities (S, A, J); rotations (J, S, A, 3, 3) and origins (J, S, A, 3) of the joints' frames."""

    body: Body
    positions: Float64
    velocities: Float64
    rotations: Float64
    origins: Float64

    @cached_property
    def tools(self) -> Float64:
        """(S, A, 3) tool centre points."""
        return self.origins[-1] + self.rotations[-1] @ self.body._tool.translation

    @cached_property
    def tool_down(self) -> Float64:
        """(S, A) cosine of each tool's axis to straight down."""
        return -(self.rotations[-1] @ self.body._tool.rotation[:, 2])[..., 2]

    @cached_property
    def tool_speeds(self) -> Float64:
        """(S, A) m/s."""
        return np.linalg.norm(self._velocity(len(self.origins) - 1, self.tools), axis=-1)

    @cached_property
    def elbow_speeds(self) -> Float64:
        """(S, A) m/s."""
        joint, offset = self.body._elbow
        return np.linalg.norm(self._velocity(joint, self.origins[joint] + self.rotations[joint] @ offset), axis=-1)

    def jacobians(self, samples: NDArray[np.int64]) -> Float64:
        """(S', A, 6, J): tool velocity over angular velocity per joint rad/s."""
        axes, origins = self.rotations[..., 2][:, samples], self.origins[:, samples]
        linear = _cross(axes, self.tools[samples] - origins)
        return np.concatenate([linear, axes], axis=-1).transpose(1, 2, 3, 0)

    def lowest(self, normal: Float64) -> Float64:
        """(S, A) how far along ``normal`` (3,) the solids reach least, but for base, shoulder and what grasps."""
        joints, points, radii = self.body.kept
        along, heights = normal @ self.rotations[joints], self.origins[joints] @ normal  # (K, S, A, 3), (K, S, A)
        reach = (along @ points[:, None] - radii).min(axis=-1) + heights
        return np.asarray(reach.min(axis=0), dtype=np.float64)

    def _velocity(self, last_joint: int, points: Float64) -> Float64:
        """(S, A, 3) of points that the joints up to ``last_joint`` move."""
        arms = points - self.origins[: last_joint + 1]
        turning = self.rotations[: last_joint + 1, ..., 2] * self.velocities.transpose(2, 0, 1)[: last_joint + 1, ..., None]
        return _cross(turning, arms).sum(axis=0)


def _cross(a: Float64, b: Float64) -> Float64:
    """(..., 3) as np.cross, which takes three times as long for so few vectors."""
    return a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]


class _Distances:
    """Between the solids of the arms (self), and between them and what stands in the cell (scene)."""

    def __init__(self, cell: Cell, arm: pin.Model, bases: list[pin.SE3], outlines: list[_Outline]) -> None:
        self._model, self._geometry = pin.Model(), pin.GeometryModel()
        things: list[tuple[int, int, str]] = []  # arm (-1: the scene), joint, link
        for index, (base, name) in enumerate(zip(bases, cell.arm_names, strict=True)):
            renamed = arm.copy()
            for joint in range(1, renamed.njoints):
                renamed.names[joint] = f"{name}_{renamed.names[joint]}"
            for frame in renamed.frames:
                frame.name = f"{name}_{frame.name}"
            self._model = pin.appendModel(self._model, renamed, 0, base)
            for outline in outlines:
                joint = outline.joint + 1 + index * len(cell.joints) if outline.joint >= 0 else 0
                placement = outline.placement if outline.joint >= 0 else base * outline.placement
                self._geometry.addGeometryObject(pin.GeometryObject(f"{name} {outline.name}", joint, placement, outline.shape))
                things.append((index, outline.joint, outline.link))
        for obstacle in cell.obstacles:
            box = coal.Box(*np.subtract(obstacle.upper, obstacle.lower))
            self._geometry.addGeometryObject(pin.GeometryObject(obstacle.name, 0, pin.SE3(np.eye(3), obstacle.middle), box))
            things.append((-1, -1, obstacle.name))
        is_self = []
        for i, j in combinations(range(len(things)), 2):
            if _can_touch(things[i], things[j], cell.safety.may_touch):
                self._geometry.addCollisionPair(pin.CollisionPair(i, j))
                is_self.append(things[j][0] >= 0)
        self._is_self = np.array(is_self, dtype=bool)
        self._data, self._geometry_data = self._model.createData(), self._geometry.createData()
        near = [cell.safety.self_clearance.slow if own else cell.safety.scene_clearance.slow for own in is_self]
        for request, margin in zip(self._geometry_data.collisionRequests, near, strict=True):
            request.security_margin = margin
        self._far = np.array([cell.safety.self_clearance.slow, cell.safety.scene_clearance.slow])
        self._manager = pin.BroadPhaseManager_DynamicAABBTreeCollisionManager(self._model, self._geometry, self._geometry_data)

    def least(self, positions: Float64) -> tuple[Float64, list[tuple[str, str]]]:
        """Joints (S, A*J) to (S, 2) smallest distance of self and scene, at most the profile's ``slow``; and the names of those two pairs
        at the sample where they are smallest.
        """
        least, names = np.tile(self._far, (len(positions), 1)), [("", ""), ("", "")]
        for sample, q in enumerate(positions):
            if not pin.computeCollisions(self._model, self._data, self._manager, q, True):
                continue
            pin.computeDistances(self._model, self._data, self._geometry, self._geometry_data, q)
            found = np.array([result.min_distance for result in self._geometry_data.distanceResults])
            for group, chosen in enumerate((self._is_self, ~self._is_self)):
                if not chosen.any():
                    continue
                pair = int(np.flatnonzero(chosen)[found[chosen].argmin()])
                if found[pair] < least[:, group].min():
                    names[group] = self._names(pair)
                least[sample, group] = min(least[sample, group], found[pair])
        return least, names

    def _names(self, pair: int) -> tuple[str, str]:
        both = self._geometry.collisionPairs[pair]
        return self._geometry.geometryObjects[both.first].name, self._geometry.geometryObjects[both.second].name


def _can_touch(a: tuple[int, int, str], b: tuple[int, int, str], may_touch: tuple[str, ...]) -> bool:
    if a[0] == b[0]:
        return a[0] >= 0 and abs(a[1] - b[1]) > NEIGHBOURS and max(a[1], b[1]) >= NEIGHBOURS + 1
    if b[0] < 0:
        return a[1] > SHOULDER - 1 and a[2] not in may_touch
    return max(a[1], b[1]) > SHOULDER - 1
