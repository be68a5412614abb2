"""Scores of the tasks: sub-stages in order, transit and interaction apart. Privileged: reads the simulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_sim.cell import SimCell
from harmowam_sim.environments import EpisodeSpec
from harmowam_sim.objects import KINDS

Float64 = NDArray[np.float64]

STAGES: tuple[str, ...] = ("reach", "grasp", "carry", "place")
TRANSIT_STAGES: tuple[str, ...] = ("reach", "carry")
REACH_BESIDE_M, REACH_ABOVE_M = 0.08, 0.14
LIFTED_M = 0.03
OVER_GOAL_M = {"pick_fruit": 0.06, "stack_cans": 0.04}
TOPPLED_COS = np.cos(np.radians(30.0))
UPRIGHT_COS = np.cos(np.radians(15.0))
AT_REST_M_S = 0.03
REST_UPDATES = 3
CLEAR_M = 0.05  # of the TCP from where it would grasp the placed object


@dataclass(frozen=True)
class Score:
    """How far an episode has come.

    stages: which of STAGES were reached, in order; score: their share, in [0, 1]; success: all of them.
    transit: share reached of the transits that were due (the carry is due once the object is grasped), None if the start
    left none; interaction: the same for grasp and place (each due once its transit is done).
    sub_stage: what is going on, in words. failure: what went wrong for good, or None.
    """

    stages: dict[str, bool]
    transit: float | None
    interaction: float | None
    sub_stage: str
    failure: str | None

    @property
    def score(self) -> float:
        """Share of the stages, each of equal weight."""
        return sum(self.stages.values()) / len(STAGES)

    @property
    def success(self) -> bool:
        """Whether every stage was reached."""
        return all(self.stages.values())


class Scorer:
    """Watches one episode; call ``update`` after every control period."""

    def __init__(self, spec: EpisodeSpec, cell: SimCell) -> None:
        self._spec, self._cell = spec, cell
        self._arm = cell.cell.arm_names.index(spec.arm)
        self._target, self._goal = KINDS[spec.target_name], KINDS[spec.goal_name]
        self._tall = [thing.name for thing in spec.scene.objects if KINDS[thing.name].tall]
        # What the start gives away is reached, but no merit: it counts neither as transit nor as interaction.
        self._given = {"home": (), "near_target": ("reach",), "near_goal": ("reach", "grasp")}[spec.start]
        self._reached = {stage: stage in self._given for stage in STAGES}
        self._failure: str | None = None
        self._resting = 0

    def update(self) -> Score:
        """The score by now; stages once reached stay reached."""
        self._watch_failures()
        for stage in STAGES:
            if not self._reached[stage]:
                self._reached[stage] = bool(getattr(self, f"_{stage}")())
                break
        return self.score()

    def score(self) -> Score:
        """As of the last update."""
        reached = self._reached
        current = next((stage for stage in STAGES if not reached[stage]), None)
        due = {"reach": True, "grasp": reached["reach"], "carry": reached["grasp"], "place": reached["carry"]}
        counted = {stage: reached[stage] for stage in STAGES if due[stage] and stage not in self._given}
        transit = [done for stage, done in counted.items() if stage in TRANSIT_STAGES]
        interaction = [done for stage, done in counted.items() if stage not in TRANSIT_STAGES]
        return Score(dict(reached), _mean(transit), _mean(interaction), self._describe(current), self._failure)

    def _describe(self, stage: str | None) -> str:
        target, goal = self._spec.target_phrase, self._spec.goal_phrase
        return {
            "reach": f"reaching for {target}", "grasp": f"grasping {target}", "carry": f"carrying {target} to {goal}",
            "place": f"placing {target} on {goal}", None: "done",
        }[stage]  # fmt: skip

    def _watch_failures(self) -> None:
        for name in self._tall:
            if self._failure is None and upright_cos(self._cell, name) < TOPPLED_COS:
                self._failure = f"knocked over the {name}"
        for name in (self._spec.target_name, self._spec.goal_name):
            if self._failure is None and self._cell.object_pose(name)[0][2] < -0.05:
                self._failure = f"the {name} fell off the table"

    # Stages -----------------------------------------------------------------------------------------------------

    def _reach(self) -> bool:
        tcp, (target, _) = self._tcp(), self._cell.object_pose(self._target.name)
        above = tcp[2] - target[2] - self._target.grasp_height
        return self._failure is None and np.hypot(*(tcp - target)[:2]) <= REACH_BESIDE_M and above <= REACH_ABOVE_M

    def _grasp(self) -> bool:
        return self._held() and self._cell.object_pose(self._target.name)[0][2] >= LIFTED_M

    def _carry(self) -> bool:
        over = self._beside_goal() <= OVER_GOAL_M[self._spec.task]
        return self._failure is None and self._held() and over and self._grasp()

    def _place(self) -> bool:
        target, cell = self._target.name, self._cell
        at_rest = np.linalg.norm(cell.object_velocity(target)[0]) < AT_REST_M_S
        position, _ = cell.object_pose(target)
        away = np.linalg.norm(self._tcp() - position - [0.0, 0.0, self._target.grasp_height]) >= CLEAR_M
        settled = at_rest and away and not cell.in_contact(target, f"{self._spec.arm}_hand") and self._on_goal()
        self._resting = self._resting + 1 if settled else 0
        return self._failure is None and self._resting >= REST_UPDATES

    def _on_goal(self) -> bool:
        return on_goal(self._cell, self._target.name, self._goal.name)

    def _beside_goal(self) -> float:
        target, goal = self._cell.object_pose(self._target.name)[0], self._cell.object_pose(self._goal.name)[0]
        return float(np.hypot(*(target - goal)[:2]))

    def _held(self) -> bool:
        return self._cell.grasped(self._target.name, self._spec.arm)

    def _tcp(self) -> Float64:
        return self._cell.tcp_pose()[0][self._arm]


def on_goal(cell: SimCell, target: str, goal: str) -> bool:
    """Whether the target rests on the goal: over it and touching; on anything but a plate also upright."""
    (at, _), (on, _) = cell.object_pose(target), cell.object_pose(goal)
    kind = KINDS[goal]
    if np.hypot(*(at - on)[:2]) > kind.half_extents[1] or not cell.in_contact(target, goal):
        return False
    if kind.category == "plate":
        return True
    standing = abs(at[2] - on[2] - kind.surface_height) < 0.015 and upright_cos(cell, goal) > UPRIGHT_COS
    return bool(standing and (KINDS[target].category != "can" or upright_cos(cell, target) > UPRIGHT_COS))


def upright_cos(cell: SimCell, name: str) -> float:
    """Cosine of an object's tilt: 1 upright, 0 lying."""
    x, y, _, _ = cell.object_pose(name)[1]
    return float(1 - 2 * (x * x + y * y))


def _mean(values: list[bool]) -> float | None:
    return float(np.mean(values)) if values else None
