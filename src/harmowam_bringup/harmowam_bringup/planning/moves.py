"""What can be asked for: home, retreat, or given joints; and the whole way there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.planning.collision import CollisionModel, Robots
from harmowam_bringup.planning.protocol import PathPlanner, Plan, PlanningError, PlanningScene
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics

Float64 = NDArray[np.float64]

HOME, RETREAT = "home", "retreat"
LIFT_STEP_M = 0.005
LIFT_MARGIN_M = 0.01
"""While it is lifted, an arm comes no closer to anything than this, or than it was."""
ROUNDING_M = 2e-4
JUMP_RAD = 0.15
"""Joints that would move further for one step of a lift have left the posture."""


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
    if target == HOME:
        return planner.plan(start, kinematics.home(), cancelled=cancelled)
    if target == RETREAT:
        up = lift(kinematics, scene, start)
        plan = planner.plan(up[-1], kinematics.home(), cancelled=cancelled)
        return replace(plan, path=np.concatenate([up[:-1], plan.path]), method=f"straight up, then {plan.method}")
    if target:
        raise PlanningError(f"unknown target '{target}'; known: '{HOME}', '{RETREAT}', or empty with joint positions")
    return planner.plan(start, joint_goal(scene.cell, names, positions, start), cancelled=cancelled)


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
    cell = scene.cell
    collisions = CollisionModel(Robots(cell, kinematics), scene, range(len(cell.arms)), LIFT_MARGIN_M)
    top_m = np.array([arm.home_tcp_position[2] for arm in cell.arms])
    positions, orientations = kinematics.forward(start)
    rows, distance_m = [start], collisions.closest(start).distance_m
    while (positions[:, 2] < top_m).any():
        low = positions[:, 2] < top_m
        positions[low, 2] = np.minimum(positions[low, 2] + LIFT_STEP_M, top_m[low])
        found = kinematics.inverse(positions, orientations, rows[-1])
        q = np.where(np.repeat(low, len(cell.joints)), found.q, rows[-1])
        closest = collisions.closest(q)
        if not found.converged[low].all() or np.abs(q - rows[-1]).max() > JUMP_RAD:
            break
        if closest.distance_m < min(distance_m, LIFT_MARGIN_M) - ROUNDING_M:
            break
        rows.append(q)
        distance_m = closest.distance_m
    return np.array(rows)
