"""Who touches whom in the cell: arms, table, obstacles, by Pinocchio and Coal; points and whole straight lines in joint space."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import coal
import numpy as np
import pinocchio as pin
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from harmowam_bringup.planning.protocol import Obstacle, PlanningScene
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.solids import load_solids

Float64 = NDArray[np.float64]

NEIGHBOURS = 2
"""Links of one arm with at most this many joints between them cannot touch within the joint limits, or always overlap."""
FOREARM = 5
"""From this joint on, solids move far: they are measured apart from those that hardly do."""
TOOL_SLACK = np.array([[0.001], [0.005]])
"""How far, m and rad, a tool may be outside between two checked points."""
SWEEP = 48
SLACK = 0.25
"""Between two checked points a line may lose this share of the margin; it also bounds how fine a check gets."""


@dataclass(frozen=True)
class Contact:
    """The closest two solids, and the distance between them, m (below zero: they overlap)."""

    first: str
    second: str
    distance_m: float

    def __str__(self) -> str:
        if self.distance_m < 0:
            return f"{self.first} touches {self.second}"
        return f"{self.first} is {self.distance_m * 1e3:.0f} mm from {self.second}"


@dataclass(frozen=True)
class _Placed:
    """A solid in the model. arm: its arm, -1 for what stands in the cell. joint: how many of the arm's joints move it.

    reach_m: (A*J,) how far its furthest point can be from each joint's axis; 0 for joints that do not move it.
    """

    name: str
    arm: int
    joint: int
    geometry: pin.GeometryObject
    reach_m: Float64


class Robots:
    """All arms of a cell as one Pinocchio model, and the solids of their links."""

    def __init__(self, cell: Cell, kinematics: Kinematics) -> None:
        self.cell = cell
        self.joints = len(cell.joints)
        self.model = pin.Model()
        self.solids: list[_Placed] = []
        for arm in cell.arms:
            base = pin.XYZQUATToSE3(np.array([*arm.base_position, *arm.base_orientation]))
            self.model = pin.appendModel(self.model, _renamed(kinematics.arm_model, arm.name), 0, base)
        for index in range(len(cell.arms)):
            self.solids += self._solids_of(index)
        self.tools = [self.model.getFrameId(f"{arm.name}_tcp") for arm in cell.arms]
        self.tool_reach_m = np.array([self._reach_m(np.zeros((1, 3)), 0.0, tool, arm) for arm, tool in enumerate(self.tools)])

    @property
    def tool_turns(self) -> Float64:
        """(A, A*J) 1 for every joint that can tilt a tool: all of its arm but the last, which turns it about its own axis."""
        own = np.asarray(np.kron(np.eye(len(self.cell.arms)), np.ones(self.joints)), dtype=np.float64)
        own[:, self.joints - 1 :: self.joints] = 0.0
        return np.asarray(own, dtype=np.float64)

    def _solids_of(self, arm: int) -> list[_Placed]:
        placed = []
        for link, solids in load_solids(self.cell).items():
            name = f"{self.cell.arms[arm].name}_{link}"
            if not self.model.existFrame(name):
                raise ValueError(f"the solids of cell '{self.cell.name}' name link '{link}', which {self.cell.urdf} does not have")
            frame = self.model.frames[self.model.getFrameId(name)]
            for number, solid in enumerate(solids):
                shape, where = solid.shape()
                geometry = pin.GeometryObject(f"{name}/{number}", frame.parentJoint, frame.placement * where, shape)
                joint = max(frame.parentJoint - arm * self.joints, 0)
                reach_m = self._reach_m(*solid.corners(), self.model.getFrameId(name), arm)
                placed.append(_Placed(name, arm, joint, geometry, reach_m))
        return placed

    def _reach_m(self, points: Float64, radius_m: float, frame: int, arm: int) -> Float64:
        """(A*J,) how far from each joint's axis anything within ``radius_m`` of ``points`` (K, 3), in a frame, can ever be.

        Every joint sweeps the points over its whole range; a few of its positions stand for all, with what lies between added.
        """
        reach = np.zeros(self.model.nq)
        joint, placement = self.model.frames[frame].parentJoint, self.model.frames[frame].placement
        while joint > arm * self.joints:
            points = points @ placement.rotation.T + placement.translation
            from_axis = np.linalg.norm(points[:, :2], axis=1)
            reach[joint - 1] = from_axis.max() + radius_m
            outline = np.unique(np.round(np.stack([from_axis, points[:, 2]], 1), 3), axis=0)  # all that matters of a full turn
            outline = outline[ConvexHull(outline, qhull_options="QJ").vertices] if len(outline) > 3 else outline
            turns = np.linspace(-np.pi, np.pi, SWEEP, endpoint=False)[:, None]
            ring = (outline[:, 0] * np.cos(turns), outline[:, 0] * np.sin(turns), np.broadcast_to(outline[:, 1], (SWEEP, len(outline))))
            points = np.stack(ring, -1).reshape(-1, 3)
            radius_m += 0.001 + float(from_axis.max()) * (1 - np.cos(np.pi / SWEEP))
            placement = self.model.jointPlacements[joint]
            joint -= 1
        return reach


class CollisionModel:
    """Keeps ``margin_m`` between everything in a scene while some arms (``moving``, indices) move and the others stand.

    Two solids that are nearer at one of the ``ends`` keep that distance. ``share``: of all those distances, what is really asked for.
    Also keeps the tools inside the workspace and about upright. Joint vectors are (A*J,), all arms. Not thread-safe.
    """

    def __init__(
        self, robots: Robots, scene: PlanningScene, moving: Sequence[int], margin_m: float, ends: Sequence[Float64] = (), share: float = 1.0
    ) -> None:
        self._robots, self._moving = robots, tuple(moving)
        self._data = robots.model.createData()
        self._lower, self._upper = np.array(scene.cell.workspace.lower), np.array(scene.cell.workspace.upper)
        self._tilt_rad = scene.tool_tilt_rad
        self._allowed = np.zeros((2, len(self._moving)))
        things = [*robots.solids, *(_stand(thing, robots.model.nq) for thing in scene.obstacles)]
        pairs = [(i, j) for i, j in combinations(range(len(things)), 2) if self._can_touch(things[i], things[j])]
        self._names = [thing.name for thing in things]
        self._geometry = _geometry(things, pairs)
        self._geometry_data = self._geometry.createData()
        margins_m = share * np.minimum(margin_m, 0.99 * np.array([self._distances(q) for q in ends]).min(axis=0, initial=np.inf))
        groups: dict[object, list[int]] = {}
        for index, ((i, j), own_m) in enumerate(zip(pairs, np.broadcast_to(margins_m, len(pairs)), strict=True)):
            a, b = things[i], things[j]
            alike = (a.arm, b.arm, max(a.joint, b.joint) >= FOREARM) if own_m == share * margin_m else index
            groups.setdefault(alike, []).append(index)
            self._geometry_data.collisionRequests[index].security_margin = own_m
        own = np.broadcast_to(margins_m, len(pairs))
        self._groups = [_Group(things, [pairs[index] for index in group], float(own[group[0]])) for group in groups.values()]
        self._bounds_m = np.concatenate([group.bounds_m for group in self._groups])  # (pairs, A*J)
        self._starts = np.cumsum([0, *(len(group.bounds_m) for group in self._groups)])[:-1]
        self._manager = pin.BroadPhaseManager_DynamicAABBTreeCollisionManager(robots.model, self._geometry, self._geometry_data)

    def _can_touch(self, a: _Placed, b: _Placed) -> bool:
        if not {a.arm, b.arm} & set(self._moving):
            return False
        if a.arm == b.arm:
            return abs(a.joint - b.joint) > NEIGHBOURS and max(a.joint, b.joint) >= FOREARM - 1
        if b.arm < 0:
            return a.joint > 0  # what the arm stands on touches its base
        return max(a.joint, b.joint) > 1  # neither base nor shoulder of two arms move towards each other

    def start_from(self, q: Float64, slack: Float64 | float = 0.0) -> None:
        """Tools may be outside the workspace and the tilt by ``slack``, (2, 1) m and rad, or as far as they are at ``q``."""
        self._allowed = np.maximum(-self.tools_inside(q), slack)

    def free(self, q: Float64) -> bool:
        """Whether at ``q`` everything keeps the margin."""
        if pin.computeCollisions(self._robots.model, self._data, self._manager, q, True):
            return False
        return bool((self._tools_inside() + self._allowed >= 0).all())

    def closest(self, q: Float64) -> Contact:
        """The closest two solids at ``q``."""
        index = pin.computeDistances(self._robots.model, self._data, self._geometry, self._geometry_data, q)
        pair = self._geometry.collisionPairs[index]
        return Contact(self._names[pair.first], self._names[pair.second], self._geometry_data.distanceResults[index].min_distance)

    def tools_inside(self, q: Float64) -> Float64:
        """(2, moving) how far each moving tool is inside the workspace, m, and within the tilt, rad; below zero: outside."""
        pin.forwardKinematics(self._robots.model, self._data, q)
        return self._tools_inside()

    def path_free(self, path: Float64) -> bool:
        """Whether every line of a path (P, A*J) is."""
        return self.free(path[0]) and all(self.line_free(a, b) for a, b in zip(path, path[1:], strict=False))

    def line_free(self, a: Float64, b: Float64) -> bool:
        """Whether the straight line from ``a``, which is free, to ``b`` keeps the margin, less its SLACK at most, at every point.

        No sampling step decides: at a point, the distance of each group of solids tells how far along the line none of them
        can have come closer than that.
        """
        if not self.free(b):
            return False
        away = np.abs(b - a)
        bounds_m = np.maximum.reduceat(self._bounds_m @ away, self._starts)  # (groups,)
        tools = np.stack([self._robots.tool_reach_m @ away, self._robots.tool_turns @ away])[:, list(self._moving)]
        open_ = deque([(0.0, 1.0)])
        while open_:
            first, last = open_.popleft()
            middle = (first + last) / 2
            covered = self._covered(a + middle * (b - a), bounds_m, tools)
            if covered is None:
                return False
            if middle - covered > first:
                open_.append((first, middle - covered))
                open_.append((middle + covered, last))
        return True

    def _covered(self, q: Float64, bounds_m: Float64, tools: Float64) -> float | None:
        """The share of the line on either side of ``q`` that is free for sure; None where ``q`` itself is not."""
        pin.forwardKinematics(self._robots.model, self._data, q)
        inside = self._tools_inside() + self._allowed
        if not (inside >= 0).all():
            return None
        covered = float(((inside + TOOL_SLACK) / np.maximum(tools, 1e-9)).min())
        for group, bound_m in zip(self._groups, bounds_m, strict=True):
            spare_m = group.distance_m(self._robots.model, self._data) - group.margin_m
            if not spare_m >= 0:
                return None
            covered = min(covered, (spare_m + SLACK * group.margin_m) / max(bound_m, 1e-9))
        return covered

    def _distances(self, q: Float64) -> Float64:
        """(pairs,) m."""
        pin.computeDistances(self._robots.model, self._data, self._geometry, self._geometry_data, q)
        return np.array([result.min_distance for result in self._geometry_data.distanceResults])

    def _tools_inside(self) -> Float64:
        """As ``tools_inside``, at the present placement of the joints."""
        model, data = self._robots.model, self._data
        tools = [pin.updateFramePlacement(model, data, self._robots.tools[arm]) for arm in self._moving]
        places = np.array([tool.translation for tool in tools])
        lean = np.arccos(np.clip([-tool.rotation[2, 2] for tool in tools], -1.0, 1.0))
        return np.stack([np.minimum(places - self._lower, self._upper - places).min(axis=1), self._tilt_rad - lean])


class _Group:
    """Pairs of solids that move alike and keep the same margin.

    bounds_m: (pairs, A*J) how much closer each may come for every radian of a joint.
    """

    def __init__(self, things: list[_Placed], pairs: list[tuple[int, int]], margin_m: float) -> None:
        self.margin_m = margin_m
        self._geometry = _geometry(things, pairs)
        self._data = self._geometry.createData()
        self.bounds_m = np.array([_bound_m(things[i], things[j]) for i, j in pairs])

    def distance_m(self, model: pin.Model, data: pin.Data) -> float:
        """Of the closest pair, at the present placement of the joints."""
        pin.updateGeometryPlacements(model, data, self._geometry, self._data)
        closest = pin.computeDistances(self._geometry, self._data)
        return float(self._data.distanceResults[closest].min_distance)


def _bound_m(a: _Placed, b: _Placed) -> Float64:
    if a.arm != b.arm:
        return a.reach_m + b.reach_m
    outer, inner = (a, b) if a.joint > b.joint else (b, a)
    return np.where(inner.reach_m > 0, 0.0, outer.reach_m)  # joints before both move them together


def _geometry(things: list[_Placed], pairs: list[tuple[int, int]]) -> pin.GeometryModel:
    geometry = pin.GeometryModel()
    for number, thing in enumerate(things):
        placed = thing.geometry.copy()
        placed.name = f"{number}:{placed.name}"
        geometry.addGeometryObject(placed)
    for i, j in pairs:
        geometry.addCollisionPair(pin.CollisionPair(i, j))
    return geometry


def _stand(thing: Obstacle, joints: int) -> _Placed:
    where = pin.XYZQUATToSE3(np.array([*thing.position, *thing.orientation]))
    return _Placed(thing.name, -1, 0, pin.GeometryObject(thing.name, 0, where, coal.Box(*thing.size)), np.zeros(joints))


def _renamed(model: pin.Model, arm: str) -> pin.Model:
    renamed = model.copy()
    for index in range(1, renamed.njoints):
        renamed.names[index] = f"{arm}_{renamed.names[index]}"
    for frame in renamed.frames:
        frame.name = f"{arm}_{frame.name}"
    return renamed
