"""Recovery demonstrations: short ones that start off the way, are knocked aside, or close too early, and get it right.

In domain alone, with training seeds. Lengths m.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harmowam_sim.cell import SimCell
from harmowam_sim.demonstrators import MODEL_IMAGE_SIZES, Kind, Rollout, in_disc, rollout
from harmowam_sim.environments import EpisodeSpec, UnusableSeedError, arm_positions_at, check_training_seed, grasp_point, sample_episode
from harmowam_sim.manipulation import PickAndPlace, Style, standing_post
from harmowam_sim.objects import KINDS
from harmowam_sim.paths import HAND, MIN_CLEARANCE_M, carrying, hand_gap, post
from harmowam_sim.servo import EndEffectorCommand

Float64 = NDArray[np.float64]

MAX_RECOVERY_STEPS = 75
RECOVERY_SPREAD_M = 0.10
RECOVERY_HEIGHTS_M = (0.03, 0.14)
KICK_M = (0.02, 0.05)
KICK_STEPS = 4
PREMATURE_SHARE = 0.3


def sample_recovery(task: str, seed: int) -> EpisodeSpec:
    """Where the recovery demonstration of a training seed starts; ValueError for an evaluation seed.

    In domain and without obstacles; even seeds start within RECOVERY_SPREAD_M of the target, odd ones hold it near the goal.
    UnusableSeedError if no start is free.
    """
    check_training_seed(seed)
    spec = sample_episode(task, "in_domain", seed, obstacle=False)
    if seed % 2:
        return replace(spec, start="near_goal", near_goal_m=RECOVERY_SPREAD_M)
    rng = np.random.default_rng([seed, 11])
    kind = KINDS[spec.target_name]
    x, y, _ = next(thing.position for thing in spec.scene.objects if thing.name == spec.target_name)
    for _ in range(200):
        tcp = grasp_point(kind, np.array([x, y])) + np.array([*in_disc(rng, RECOVERY_SPREAD_M), rng.uniform(*RECOVERY_HEIGHTS_M)])
        positions = arm_positions_at(tcp, rng.uniform(-0.4, 0.4))
        posts = [post(KINDS[thing.name], *thing.position[:2]) for thing in spec.scene.objects]
        if positions is not None and all(hand_gap(HAND, tcp[None], 0.0, obstacle)[0] > MIN_CLEARANCE_M for obstacle in posts):
            return replace(spec, start="near_target", start_arm_positions=positions)
    raise UnusableSeedError(f"{task} seed {seed}: no free start near the target")


class RecoveryDemonstrator:
    """Shows how to get out of trouble: it is kicked aside on its way (``masked`` frames), and closes too early at times."""

    kind: Kind = "recovery"

    def __init__(self, spec: EpisodeSpec, rng: np.random.Generator) -> None:
        self.instruction = spec.instruction
        self.masked = False
        self._task = PickAndPlace(spec.scene, spec.target_name, spec.goal_name, spec.arm, Style.sample(rng))
        self._task.phase = "lower" if spec.start == "near_goal" else "descend"
        self._rng = rng
        self._kicks = sorted(int(step) for step in rng.integers(4, 40, size=int(rng.integers(1, 4))))
        self._kick: list[Float64] = []
        self.will_close_early = spec.start != "near_goal" and rng.random() < PREMATURE_SHARE
        self._close_height_m = rng.uniform(0.02, 0.06)
        self._held_after = 0
        self._spec = spec
        self._steps = 0

    def act(self, cell: SimCell) -> EndEffectorCommand:
        """The command for the next control period."""
        self._steps += 1
        if self._kicks and self._steps >= self._kicks[0] and self.phase in ("descend", "lower", "lift"):
            self._kicks.pop(0)
            self._kick = self._plan_kick(cell)
        if self._kick:
            self.masked = True
            self._task.hand.position = self._kick.pop(0)
            if not self._kick:
                self._task.settle()
            return self._task.hand.command()
        command = self._task.act(cell)
        self.masked = self._close_early(cell)
        self._held_after += self.phase == "carry"
        return command

    def _plan_kick(self, cell: SimCell) -> list[Float64]:
        """Way-points of a shove aside that touches nothing; none if there is no room."""
        self._task.resync(cell)
        start = self._task.hand.position
        held = self.phase in ("lower", "lift")
        hand = carrying(HAND, KINDS[self._spec.target_name]) if held else HAND
        own = {self._spec.target_name} if held else set()
        posts = [standing_post(cell, thing.name) for thing in self._spec.scene.objects if thing.name not in own]
        for _ in range(10):
            shove = self._rng.normal(size=3) * (1.0, 1.0, 0.4)
            end = start + shove / np.linalg.norm(shove) * self._rng.uniform(*KICK_M)
            end[2] = max(end[2], start[2], 0.03)
            if all(hand_gap(hand, end[None], 0.0, obstacle)[0] > MIN_CLEARANCE_M for obstacle in posts):
                return [start + (end - start) * fraction for fraction in np.linspace(0, 1, KICK_STEPS + 1)[1:]]
        return []

    def _close_early(self, cell: SimCell) -> bool:
        """Whether it is closing on nothing, which nobody should learn; what follows, they should."""
        above_m = self._task.height_above_grasp(cell)
        if self.will_close_early and self.phase == "descend" and 0.015 < above_m < self._close_height_m:
            self.will_close_early = False
            self._task.close_now()
        return self.phase == "close" and above_m > 0.015

    @property
    def phase(self) -> str:
        """As of Demonstrator."""
        return self._task.phase

    @property
    def done(self) -> bool:
        """Whether it has placed the object, or been on the way with it for a second."""
        return self._task.done or self._held_after >= 10


def rollout_recovery(
    spec: EpisodeSpec,
    rng: np.random.Generator,
    *,
    cameras: tuple[str, ...] = ("scene",),
    sizes: Mapping[str, tuple[int, int]] | None = MODEL_IMAGE_SIZES,
) -> Rollout:
    """Record one recovery. ``success`` means that it did what it is about: the grasp near the target, the place near the goal."""
    result = rollout(RecoveryDemonstrator(spec, rng), spec, cameras=cameras, sizes=sizes, max_steps=MAX_RECOVERY_STEPS)
    return result if spec.start == "near_goal" else replace(result, success=result.score is not None and result.score >= 0.5)
