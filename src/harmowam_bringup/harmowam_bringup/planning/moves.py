"""What can be asked for: home, retreat, or given joints; and the whole way there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from harmowam_bringup.planning.collision import CollisionModel, Robots
from harmowam_bringup.planning.protocol import PathPlanner, Plan, PlanningError, PlanningScene
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics

Float64 = NDArray[np.float64]

HOME, RETREAT = "home", "retreat"
STEP_M, STEP_RAD = 0.005, 0.05
INSIDE_M, INSIDE_RAD = 0.002, 0.02
LIFT_MARGIN_M = 0.01
"""On a straight way, an arm comes no closer to anything than this, or than it was."""
ROUNDING_M = 2e-4
JUMP_RAD = 0.15
"""Joints that would move further for one step have left the posture."""


def plan_move(
    planner: PathPlanner,
    kinematics: Kinematics,
    scene: PlanningScene,
    target: str,
    names: Sequence[str],
    positions: Sequence[float],
    start: Float64,
    cancelled: Callable[[], bool] = lambda: False,
) -> Plan:
    """The way from joints ``start`` (A*J,) to ``target``, or where that is empty to ``positions``, rad, of the joints ``names``.

    PlanningError says what is wrong with the target, or why there is no way.
    """
    if target not in (HOME, RETREAT, ""):
        raise PlanningError(f"unknown target '{target}'; known: '{HOME}', '{RETREAT}', or empty with joint positions")
    goal = kinematics.home() if target else joint_goal(scene.cell, names, positions, start)
    before, words = [start[None]], ""
    if target == RETREAT:
        before.append(lift(kinematics, scene, start)[1:])
        words = "straight up, then "
    back = come_back(kinematics, scene, before[-1][-1] if len(before[-1]) else start)
    if len(back) > 1:
        before.append(back[1:])
        words += "back into the workspace, then "
    first = np.concatenate(before)
    plan = planner.plan(first[-1], goal, cancelled=cancelled)
    return replace(plan, path=np.concatenate([first[:-1], plan.path]), method=words + plan.method)


def joint_goal(cell: Cell, names: Sequence[str], positions: Sequence[float], start: Float64) -> Float64:
    """(A*J,) the named joints at ``positions``, the others as at ``start``."""
    if not names or len(names) != len(positions):
        raise PlanningError(f"{len(names)} joint_names for {len(positions)} positions; give one a joint, or a target by name")
    goal = start.copy()
    for name, position in zip(names, positions, strict=True):
        if name not in cell.arm_joint_names:
            raise PlanningError(f"unknown joint '{name}'; known: {list(cell.arm_joint_names)}")
        goal[cell.arm_joint_names.index(name)] = position
    return goal


def lift(kinematics: Kinematics, scene: PlanningScene, start: Float64) -> Float64:
    """(P, A*J) tools straight up, turned as they are, to the height of their home or as far as they get; what touches may part."""
    positions, orientations = kinematics.forward(start)
    positions[:, 2] = np.maximum(positions[:, 2], [arm.home_tcp_position[2] for arm in scene.cell.arms])
    return _straight(kinematics, scene, start, positions, orientations)[0]


def come_back(kinematics: Kinematics, scene: PlanningScene, start: Float64) -> Float64:
    """(P, A*J) tools straight back to where the workspace and the tilt allow them; the start alone where they are inside."""
    box = scene.cell.workspace
    positions, orientations = kinematics.forward(start)
    wanted = np.clip(positions, np.add(box.lower, INSIDE_M), np.subtract(box.upper, INSIDE_M))
    outside = np.any((positions < box.lower) | (positions > box.upper), axis=1)
    upright = np.array([_leaning(orientation, scene.tool_tilt_rad) for orientation in orientations])
    leaning = np.abs(np.sum(upright * orientations, axis=1)) < 1 - 1e-9
    if not (outside | leaning).any():
        return start[None]
    wanted = np.where(np.asarray(outside)[:, None], wanted, positions)
    path, arrived = _straight(kinematics, scene, start, wanted, upright)
    if not arrived:
        raise PlanningError("a tool is outside the workspace, or leans too far, and finds no straight way back; move the arm by hand")
    return path


def _leaning(orientation: Float64, limit_rad: float) -> Float64:
    """The tool's orientation (4,) xyzw, turned upright until it leans by a little less than ``limit_rad``, if it leans further."""
    turn = Rotation.from_quat(orientation)
    axis = turn.apply([0.0, 0.0, 1.0])
    lean = float(np.arccos(np.clip(-axis[2], -1.0, 1.0)))
    if lean <= limit_rad:
        return orientation
    about = np.cross(axis, [0.0, 0.0, -1.0])
    about = about / np.linalg.norm(about) if np.linalg.norm(about) > 1e-6 else turn.apply([0.0, 1.0, 0.0])
    return np.asarray((Rotation.from_rotvec(about * (lean - limit_rad + INSIDE_RAD)) * turn).as_quat())


def _straight(
    kinematics: Kinematics, scene: PlanningScene, start: Float64, positions: Float64, orientations: Float64
) -> tuple[Float64, bool]:
    """(P, A*J) tools in a straight line and an even turn to a pose, and whether they got all the way.

    Nothing comes closer to anything than LIFT_MARGIN_M, or than it was.
    """
    cell = scene.cell
    collisions = CollisionModel(Robots(cell, kinematics), scene, range(len(cell.arms)), LIFT_MARGIN_M)
    from_positions, from_orientations = kinematics.forward(start)
    turns = Rotation.from_quat(orientations) * Rotation.from_quat(from_orientations).inv()
    way_m = np.linalg.norm(positions - from_positions, axis=1)
    moving = (way_m > 0) | (turns.magnitude() > 0)
    steps = int(np.ceil(max((way_m / STEP_M).max(), (turns.magnitude() / STEP_RAD).max())))
    rows, distance_m = [start], collisions.closest(start).distance_m
    for share in np.arange(1, steps + 1) / max(steps, 1):
        turned = (Rotation.from_rotvec(turns.as_rotvec() * share) * Rotation.from_quat(from_orientations)).as_quat()
        found = kinematics.inverse((1 - share) * from_positions + share * positions, turned, rows[-1])
        q = np.where(np.repeat(moving, len(cell.joints)), found.q, rows[-1])
        closest_m = collisions.closest(q).distance_m
        reached = found.converged[moving].all() and np.abs(q - rows[-1]).max() <= JUMP_RAD
        if not reached or closest_m < min(distance_m, LIFT_MARGIN_M) - ROUNDING_M:
            return np.array(rows), False
        rows.append(q)
        distance_m = closest_m
    return np.array(rows), True
