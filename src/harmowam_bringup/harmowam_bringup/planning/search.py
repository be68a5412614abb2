"""One search of OMPL over the joints of some arms, while the others stand still."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from ompl import base as ob
from ompl import geometric as og
from ompl import util as ou

from harmowam_bringup.planning.collision import CollisionModel
from harmowam_bringup.planning.protocol import PlanningScene

Float64 = NDArray[np.float64]

RANGE_RAD = 1.5
"""Longest line that a tree grows by at once."""

SHORTCUTS, SHORTCUTS_IN_VAIN = 60, 20
"""How many times to try to cut off a corner, and how many of them without success."""

ou.setLogLevel(ou.LogLevel.LOG_WARN)


class Search:
    """Searches and shortens paths; joint vectors are (A*J,), of which only those of the moving arms change.

    Make one for each set of moving arms and ``aim`` it for each problem: OMPL's bindings never give back a space with Python checks.
    """

    def __init__(self, scene: PlanningScene, moving: Sequence[int]) -> None:
        joints = len(scene.cell.joints)
        columns = np.concatenate([np.arange(arm * joints, (arm + 1) * joints) for arm in moving])
        self._lower, self._upper = (limit[columns] for limit in scene.joint_limits)
        self._view = view = _View(columns)
        self._space = ob.RealVectorStateSpace(len(columns))
        self._information = ob.SpaceInformation(self._space)
        self._information.setStateValidityChecker(lambda state: view.collisions.free(view.joints(state)))
        self._information.setMotionValidator(_Lines(self._information, view))

    def aim(self, collisions: CollisionModel, start: Float64) -> None:
        """From now on: what must not be touched, and where the arms begin."""
        self._view.collisions, self._view.rest = collisions, start.copy()
        bounds = ob.RealVectorBounds(len(self._view.columns))
        for index, (lower, upper, here) in enumerate(zip(self._lower, self._upper, start[self._view.columns], strict=True)):
            bounds.setLow(index, min(lower, here))  # a start beyond a limit may come back
            bounds.setHigh(index, max(upper, here))
        self._space.setBounds(bounds)
        self._information.setup()

    def connect(self, goal: Float64, stop: Callable[[], bool], planner: str = "RRTConnect") -> Float64 | None:
        """(P, A*J) from the start to ``goal``; None where ``stop`` came first."""
        problem = ob.ProblemDefinition(self._information)
        problem.setStartAndGoalStates(self._state(self._view.rest), self._state(goal))
        tree = getattr(og, planner)(self._information)
        tree.setRange(RANGE_RAD)
        tree.setProblemDefinition(problem)
        tree.setup()
        tree.solve(ob.PlannerTerminationCondition(stop))
        return self._path(problem.getSolutionPath()) if problem.hasExactSolution() else None

    def shorten(self, path: Float64) -> Float64:
        """A shorter path (P, A*J) with the same ends; free wherever ``path`` is."""
        states = og.PathGeometric(self._information)
        for row in path:
            states.append(self._state(row))
        simplifier = og.PathSimplifier(self._information)
        simplifier.reduceVertices(states)
        simplifier.partialShortcutPath(states, SHORTCUTS, SHORTCUTS_IN_VAIN)
        simplifier.reduceVertices(states)
        return self._path(states)

    def _state(self, q: Float64) -> ob.State:
        state = self._space.allocState()
        state[0 : len(self._view.columns)] = q[self._view.columns].tolist()
        return state

    def _path(self, path: og.PathGeometric) -> Float64:
        return np.array([self._view.joints(state) for state in path.getStates()])


class _View:
    """What OMPL's states mean at present."""

    collisions: CollisionModel
    rest: Float64

    def __init__(self, columns: NDArray[np.int64]) -> None:
        self.columns = columns

    def joints(self, state: ob.State) -> Float64:
        """(A*J,)."""
        q = self.rest.copy()
        q[self.columns] = state[0 : len(self.columns)]
        return q


class _Lines(ob.MotionValidator):
    """OMPL asks us for whole lines."""

    def __init__(self, information: ob.SpaceInformation, view: _View) -> None:
        super().__init__(information)
        self._view = view

    def checkMotion(self, first: ob.State, last: ob.State) -> bool:
        return self._view.collisions.line_free(self._view.joints(first), self._view.joints(last))
