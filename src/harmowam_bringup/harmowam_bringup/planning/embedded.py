"""The embedded planner: Pinocchio and Coal say what is free, OMPL searches. Needs neither MoveIt nor a ROS installation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.planning.collision import CollisionModel, Robots
from harmowam_bringup.planning.protocol import Plan, PlanningCancelled, PlanningError, PlanningScene
from harmowam_core.kinematics import Kinematics
from harmowam_gate.rounded_path import RoundedPath

Float64 = NDArray[np.float64]
logger = logging.getLogger(__name__)

MARGIN_M = 0.015
"""Distance kept from everything, unless start or goal are closer to something themselves."""
FINAL_MARGIN_M = 0.002
"""The same for the path with rounded corners, which is what the arms follow."""
TOUCHING_M = 0.001
STANDS_RAD = 1e-4  # an arm that has less far to go stands still
SEARCHES = ((0.3, "RRTConnect"), (1.5, "RRTConnect"), (1.5, "BKPIECE1"), (np.inf, "RRTConnect"))
"""Rounds of the ladder: how long each search of a round may take, and by which of OMPL's planners."""
ROUNDING_ATTEMPTS = 5


@dataclass(frozen=True)
class _Task:
    """start, goal: (A*J,). moving: the arms that may move."""

    start: Float64
    goal: Float64
    moving: tuple[int, ...]
    margin_m: float


class EmbeddedPlanner:
    """A ladder: the straight line; one arm after the other, the first perhaps out of the way; all at once; longer and other searches.

    time_limit_s: of one plan, all rungs together. Not thread-safe.
    """

    def __init__(self, scene: PlanningScene, kinematics: Kinematics | None = None, *, time_limit_s: float = 5.0) -> None:
        self._scene, self._time_limit_s = scene, time_limit_s
        self._joints, self._arms = len(scene.cell.joints), len(scene.cell.arms)
        kinematics = kinematics or Kinematics(scene.cell)
        self.robots = Robots(scene.cell, kinematics)
        self.home = kinematics.home()
        self._searches: dict[tuple[int, ...], Any] = {}

    def look_at(self, scene: PlanningScene) -> None:
        """From now on plan in another scene of the same cell."""
        self._scene = scene

    def plan(self, start: Float64, goal: Float64, *, cancelled: Callable[[], bool] = lambda: False) -> Plan:
        """See PathPlanner."""
        began_s = time.monotonic()
        ends_s = began_s + self._time_limit_s
        self._check_joints(start, goal)
        moving = self._to_move(start, goal)
        if not moving:
            return Plan(np.array([start, goal]), "nothing to do", 0.0)
        task = _Task(start, goal, moving, self._margin_between(start, goal, moving))
        tried: list[str] = []
        for rung, path in self._ladder(task, lambda seconds: self._stop(cancelled, min(ends_s, time.monotonic() + seconds))):
            if cancelled():
                raise PlanningCancelled("cancelled while planning")
            if path is not None:
                checked = self._checked(self._shortened(path, task), task)
                if checked is not None:
                    return Plan(checked, rung, time.monotonic() - began_s, tuple(tried))
                rung += ", whose rounded path came too close to something"
            tried.append(rung)
            if len(tried) > 2:
                logger.warning("planning falls back: %s did not lead to the goal", rung)
            if time.monotonic() > ends_s:
                break
        raise PlanningError(f"no way found within {self._time_limit_s:.1f} s (tried: {'; '.join(tried)}); move by hand or clear the table")

    # ---- before --------------------------------------------------------------------------------------------------------

    def _to_move(self, start: Float64, goal: Float64) -> tuple[int, ...]:
        away = np.abs(goal - start).reshape(self._arms, self._joints).max(axis=1)
        return tuple(int(arm) for arm in np.flatnonzero(away > STANDS_RAD))

    def _check_joints(self, start: Float64, goal: Float64) -> None:
        names, limits = self._scene.cell.arm_joint_names, self._scene.cell.limits
        for name, q in (("start", start), ("goal", goal)):
            if q.shape != (len(names),) or not np.isfinite(q).all():
                raise PlanningError(f"the {name} has to be {len(names)} finite joint positions, got {q}")
        outside = np.maximum(np.tile(limits.position_lower, self._arms) - goal, goal - np.tile(limits.position_upper, self._arms))
        if outside.max() > 0:
            raise PlanningError(f"the goal is {outside.max():.3f} rad beyond the limit of {names[int(outside.argmax())]}")

    def _margin_between(self, start: Float64, goal: Float64, moving: tuple[int, ...]) -> float:
        """The margin that both ends keep themselves; PlanningError where one touches something."""
        collisions = CollisionModel(self.robots, self._scene, moving, MARGIN_M)
        inside_m = float(collisions.inside_workspace_m(goal).min())
        if not inside_m >= 0:
            raise PlanningError(f"at the goal a tool is {-inside_m:.3f} m outside the workspace")
        margin_m = MARGIN_M
        for name, q, remedy in (("start", start, "retreat first, or move the arm by hand"), ("goal", goal, "choose another goal")):
            contact = collisions.closest(q)
            if not contact.distance_m >= TOUCHING_M:
                raise PlanningError(f"at the {name} {contact}: {remedy}")
            margin_m = min(margin_m, 0.99 * contact.distance_m)
        return margin_m

    # ---- search --------------------------------------------------------------------------------------------------------

    def _ladder(self, task: _Task, stop_after: Callable[[float], Callable[[], bool]]) -> Iterator[tuple[str, Float64 | None]]:
        """What is tried, in this order, and the path each found."""
        everyone = tuple(range(self._arms))
        yield "straight line", np.array([task.start, task.goal]) if self._line_free(task) else None
        for seconds, planner in SEARCHES:
            for steps in self._sequences(task):
                words = ", then ".join(f"{self._scene.cell.arms[arm].name} to {'goal' if there is task.goal else 'home'}" for arm, there in steps)
                yield f"{words} ({planner})", self._one_by_one(task, steps, stop_after(seconds), planner)
            if self._arms > 1:
                yield f"all arms at once ({planner})", self._search(task, everyone, stop_after(seconds), planner)

    def _sequences(self, task: _Task) -> list[list[tuple[int, Float64]]]:
        """Orders in which single arms move, each to its part of the goal, or home and later on, out of another's way."""
        if self._arms == 1:
            return [[(0, task.goal)]]
        orders = list(permutations(task.moving))
        aside = [
            [(first, self.home), *((arm, task.goal) for arm in range(self._arms) if arm != first and arm in task.moving), (first, task.goal)]
            for first in range(self._arms)
            if task.moving != (first,)
        ]
        return [[(arm, task.goal) for arm in order] for order in orders] + aside

    def _line_free(self, task: _Task) -> bool:
        return self._model(task, task.moving).line_free(task.start, task.goal)

    def _one_by_one(self, task: _Task, steps: list[tuple[int, Float64]], stop: Callable[[], bool], planner: str) -> Float64 | None:
        rows, here = [task.start[None]], task.start
        for arm, where in steps:
            there = here.copy()
            span = slice(arm * self._joints, (arm + 1) * self._joints)
            there[span] = where[span]
            path = self._search(_Task(here, there, (arm,), task.margin_m), (arm,), stop, planner)
            if path is None:
                return None
            rows.append(path[1:])
            here = there
        return np.concatenate(rows)

    def _search(self, task: _Task, moving: tuple[int, ...], stop: Callable[[], bool], planner: str) -> Float64 | None:
        collisions = self._model(task, moving)
        if not collisions.free(task.goal):
            return None  # the other arm is still in the way
        if collisions.line_free(task.start, task.goal):
            return np.array([task.start, task.goal])
        search = self._aimed(collisions, task.start, moving)
        return np.asarray(path) if (path := search.connect(task.goal, stop, planner)) is not None else None

    def _model(self, task: _Task, moving: tuple[int, ...]) -> CollisionModel:
        collisions = CollisionModel(self.robots, self._scene, moving, task.margin_m)
        collisions.start_from(task.start)
        return collisions

    def _aimed(self, collisions: CollisionModel, start: Float64, moving: tuple[int, ...]) -> Any:
        from harmowam_bringup.planning.search import Search  # OMPL is loaded by the first search, not by whoever waits for one

        search = self._searches.setdefault(moving, Search(self._scene.cell, moving))
        search.aim(collisions, start)
        return search

    # ---- after ---------------------------------------------------------------------------------------------------------

    def _shortened(self, path: Float64, task: _Task) -> Float64:
        if len(path) == 2:
            return path
        moved = np.ptp(path, axis=0).reshape(self._arms, self._joints).max(axis=1) > 0
        moving = tuple(int(arm) for arm in np.flatnonzero(moved))
        return np.asarray(self._aimed(self._model(task, moving), task.start, moving).shorten(path))

    def _checked(self, path: Float64, task: _Task) -> Float64 | None:
        """The path, once its rounding is free; with more way-points around corners where it has to be."""
        rounded = CollisionModel(self.robots, self._scene, range(self._arms), min(FINAL_MARGIN_M, task.margin_m / 2))
        rounded.start_from(task.start)
        for _ in range(ROUNDING_ATTEMPTS):
            if rounded.path_free(RoundedPath(path).chords()):
                return path
            path = _with_middles(path)
        return None

    @staticmethod
    def _stop(cancelled: Callable[[], bool], ends_s: float) -> Callable[[], bool]:
        return lambda: time.monotonic() > ends_s or cancelled()


def _with_middles(path: Float64) -> Float64:
    """A way-point more in the middle of every line: corners then round off half as far."""
    middles = (path[:-1] + path[1:]) / 2
    return np.concatenate([np.stack([path[:-1], middles], 1).reshape(-1, path.shape[1]), path[-1:]])
