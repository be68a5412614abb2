"""Judges planned paths with code that the planner does not use: MuJoCo, and the hulls of the arm's meshes instead of capsules."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.planning.protocol import Obstacle
from harmowam_core.cell import Cell
from harmowam_gate.rounded_path import RoundedPath
from harmowam_sim.model import VISUAL_GROUP, build_spec
from harmowam_sim.scene import Geom, Scene, SceneObject

Float64 = NDArray[np.float64]
NEIGHBOURS = 2  # links of one arm this near overlap or cannot meet
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)


class PathChecker:
    """The simulated cell with ``clutter`` in it; grippers open."""

    def __init__(self, cell: Cell, clutter: tuple[Obstacle, ...]) -> None:
        boxes = tuple(
            SceneObject(thing.name, (Geom("box", tuple(np.array(thing.size) / 2)),), 1.0, thing.position, thing.orientation, fixed=True)
            for thing in clutter
        )
        spec = build_spec(Scene(objects=boxes), cell)
        for arm in cell.arm_names:
            chain = [body for body in spec.bodies if body.name.startswith(f"{arm}_")]
            for body in chain:
                for geom in body.geoms:
                    geom.contype = geom.conaffinity = 1 if geom.group == VISUAL_GROUP else 0
            for index, body in enumerate(chain):
                for other in chain[:index]:
                    if _link(body.name) - _link(other.name) <= NEIGHBOURS:
                        spec.add_exclude(bodyname1=other.name, bodyname2=body.name)
            spec.add_exclude(bodyname1="world", bodyname2=f"{arm}_link0")
            spec.add_exclude(bodyname1="world", bodyname2=f"{arm}_link1")
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._joints = [self._model.joint(name).qposadr[0] for name in cell.arm_joint_names]
        fingers = [name for finger in cell.finger_joint_names for name in (finger, f"{finger}_mirrored")]
        self._data.qpos[[self._model.joint(name).qposadr[0] for name in fingers]] = cell.finger_travel
        moving = (self._model.geom_group == VISUAL_GROUP) & (self._model.geom_bodyid > 0)
        self._geoms = np.flatnonzero(moving)
        boxes_ = self._model.geom_aabb[self._geoms]  # centre and half size
        self._corners = boxes_[:, None, :3] + CORNERS * boxes_[:, None, 3:]  # (G, 8, 3)

    def contacts(self, q: Float64) -> list[tuple[str, str, float]]:
        """What overlaps at joints (A*J,): two bodies and how deep, m."""
        self._place(q)
        mujoco.mj_collision(self._model, self._data)
        touching = (self._data.contact[index] for index in range(self._data.ncon))
        return [(self._body(c.geom[0]), self._body(c.geom[1]), -float(c.dist)) for c in touching if c.dist < 0]

    def walk(self, path: RoundedPath, step_m: float = 1e-3) -> tuple[int, list[tuple[str, str, float]]]:
        """How many points of a path were looked at, and the first contacts met.

        No corner of any link's box moves further than ``step_m`` from one point to the next.
        """
        s, count, step = 0.0, 1, path.length / 1000
        found = self.contacts(path.at(np.zeros(1))[0][0])
        corners = self._placed_corners()
        while not found and s < path.length:
            ahead = min(s + step, path.length)
            q = path.at(np.array([ahead]))[0][0]
            self._place(q)
            there = self._placed_corners()
            moved_m = float(np.linalg.norm(there - corners, axis=-1).max())
            if moved_m > step_m:
                step *= 0.95 * step_m / moved_m
                continue
            s, corners, count = ahead, there, count + 1
            step *= min(0.95 * step_m / max(moved_m, 1e-9), 2.0)
            found = self.contacts(q)
        return count, found

    def _place(self, q: Float64) -> None:
        self._data.qpos[self._joints] = q
        mujoco.mj_kinematics(self._model, self._data)

    def _placed_corners(self) -> Float64:
        turns = self._data.geom_xmat[self._geoms].reshape(-1, 3, 3)
        return np.asarray(self._corners @ turns.transpose(0, 2, 1) + self._data.geom_xpos[self._geoms][:, None], dtype=np.float64)

    def _body(self, geom: int) -> str:
        return str(self._model.body(self._model.geom_bodyid[geom]).name)


def _link(body: str) -> int:
    """Number of a body along its arm; hand and fingers go with the last link."""
    last = body.rpartition("link")[2]
    return int(last) if last.isdigit() else 7
