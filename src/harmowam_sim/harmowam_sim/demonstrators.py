"""Scripted demonstrators of the tasks, and the one way of recording what any scripted agent does.

    python -m harmowam_sim.demonstrators --episodes 50 --json out.json     success in every task and environment
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from harmowam_core.images import prepare_image
from numpy.typing import NDArray

from harmowam_sim.cell import SimCell
from harmowam_sim.environments import (
    ENVIRONMENTS,
    EVALUATION_SEED_START,
    HOVER_M,
    TASKS,
    EpisodeSpec,
    arm_positions_at,
    check_training_seed,
    grasp_point,
    kinematics,
    sample_episode,
)
from harmowam_sim.manipulation import PickAndPlace, Style, standing_post
from harmowam_sim.objects import KINDS
from harmowam_sim.paths import HAND, carrying, hand_gap
from harmowam_sim.scene import Scene
from harmowam_sim.servo import EndEffectorCommand, EndEffectorServo
from harmowam_sim.tasks import Scorer

Float64 = NDArray[np.float64]
Kind = Literal["demonstration", "recovery", "play"]

MODEL_IMAGE_SIZES: dict[str, tuple[int, int]] = {"scene": (64, 80), "wrist_left": (48, 48), "wrist_right": (48, 48)}
MAX_STEPS = 220
MAX_RECOVERY_STEPS = 75


class Spec(Protocol):
    """What a rollout needs to know of an episode or a piece of play."""

    @property
    def scene(self) -> Scene: ...
    @property
    def start_arm_positions(self) -> tuple[float, ...]: ...
    @property
    def seed(self) -> int: ...


class Agent(Protocol):
    """Commands the arms once a control period."""

    kind: Kind

    def act(self, cell: SimCell) -> EndEffectorCommand:
        """The command for the next control period."""
        ...

    @property
    def phase(self) -> str: ...
    @property
    def instruction(self) -> str: ...
    @property
    def masked(self) -> bool: ...
    @property
    def done(self) -> bool: ...


class Demonstrator:
    """Shows a task from start to end."""

    kind: Kind = "demonstration"
    masked = False

    def __init__(self, spec: EpisodeSpec, rng: np.random.Generator) -> None:
        self.instruction = spec.instruction
        self._task = PickAndPlace(spec.scene, spec.target_name, spec.goal_name, spec.arm, Style.sample(rng))

    def act(self, cell: SimCell) -> EndEffectorCommand:
        """The command for the next control period."""
        return self._task.act(cell)

    @property
    def phase(self) -> str:
        """transit, descend, close, reopen, lift, carry, lower, release, retreat or stay."""
        return self._task.phase

    @property
    def done(self) -> bool:
        """Whether it has nothing left to do."""
        return self._task.done


@dataclass(frozen=True)
class Rollout:
    """What one scripted agent did; T control periods of 0.1 s, row t seen before command t was given.

    frames: camera -> (T, H, W, 3) uint8; arm_positions: (T, A*7) rad; openings, commanded_openings: (T, A) in [0, 1];
    positions, commanded_positions: (T, A, 3) m and orientations: (T, A, 4) xyzw of the tools; masked: (T,) bool, frames whose
    motion is not to be learnt; phases, instructions: T strings. success and score are None for play. attempts_s: CPU seconds.
    """

    kind: Kind
    seed: int
    frames: Mapping[str, NDArray[np.uint8]]
    arm_positions: NDArray[np.float32]
    openings: NDArray[np.float32]
    commanded_openings: NDArray[np.float32]
    positions: NDArray[np.float32]
    commanded_positions: NDArray[np.float32]
    orientations: NDArray[np.float32]
    masked: NDArray[np.bool_]
    phases: tuple[str, ...]
    instructions: tuple[str, ...]
    success: bool | None
    score: float | None
    failure: str | None

    def __len__(self) -> int:
        return len(self.masked)

    @property
    def instruction(self) -> str:
        """The first one (demonstrations have no other)."""
        return self.instructions[0]


def open_cell(spec: EpisodeSpec) -> SimCell:
    """The simulated cell at the start of an episode; for "near_goal" the target is grasped and brought there first."""
    cell = SimCell(spec.scene, start_arm_positions=spec.start_arm_positions)
    if spec.start == "near_goal":
        rng = np.random.default_rng([spec.seed, 7])
        _grasp_and_bring(cell, spec, rng, spread_m=0.03, heights_m=(0.08, 0.12))
    return cell


def _grasp_and_bring(cell: SimCell, spec: EpisodeSpec, rng: np.random.Generator, *, spread_m: float, heights_m: tuple[float, float]) -> None:
    """Unrecorded: grasp the target and hold it somewhere near the release point. RuntimeError if the grasp fails."""
    servo = EndEffectorServo(cell, kinematics())
    hands = PickAndPlace(spec.scene, spec.target_name, spec.goal_name, spec.arm, Style.sample(rng))
    for _ in range(MAX_STEPS):
        command = hands.act(cell)
        if hands.phase == "lower":
            break
        servo.move(command)
    else:
        raise RuntimeError(f"{spec.task} seed {spec.seed}: the target could not be brought to the goal")
    arm = cell.cell.arm_names.index(spec.arm)
    place = command.positions[arm].copy()
    place[2] += rng.uniform(*heights_m) - 0.8 * HOVER_M
    place[:2] += _in_disc(rng, spread_m)
    displaced = _free_near(cell, spec, place, rng, spread_m)
    for fraction in np.linspace(0, 1, 9)[1:]:
        positions = command.positions.copy()
        positions[arm] += fraction * (displaced - command.positions[arm])
        servo.move(replace(command, positions=positions))


def rollout(
    agent: Agent,
    spec: Spec,
    *,
    cameras: tuple[str, ...] = ("scene",),
    sizes: Mapping[str, tuple[int, int]] | None = MODEL_IMAGE_SIZES,
    max_steps: int = MAX_STEPS,
) -> Rollout:
    """Let an agent act until it is done or ``max_steps`` are over, and record it.

    cameras: whose frames to keep; sizes: camera -> (height, width) to prepare them for a model, None for native size.
    """
    with open_cell(spec) if isinstance(spec, EpisodeSpec) else SimCell(spec.scene, start_arm_positions=spec.start_arm_positions) as cell:
        return record(agent, spec, cell, cameras=cameras, sizes=sizes, max_steps=max_steps)


def record(
    agent: Agent, spec: Spec, cell: SimCell, *, cameras: tuple[str, ...], sizes: Mapping[str, tuple[int, int]] | None, max_steps: int
) -> Rollout:
    """As ``rollout``, in a cell that is already open."""
    scorer = Scorer(spec, cell) if isinstance(spec, EpisodeSpec) else None
    servo = EndEffectorServo(cell, kinematics())
    rows: dict[str, list[Any]] = {name: [] for name in ("arm", "opening", "want_opening", "position", "want_position", "orientation", "masked", "phase", "words")}
    frames: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in cameras}
    for _ in range(max_steps):
        for camera, images in frames.items():
            image = cell.render(camera)
            images.append(prepare_image(image, sizes[camera]) if sizes else image)
        positions, orientations = cell.tcp_pose()
        seen = {"arm": cell.arm_positions.copy(), "opening": cell.openings.copy(), "position": positions.copy(), "orientation": orientations}
        command = agent.act(cell)
        seen |= {"want_opening": command.openings, "want_position": command.positions}
        seen |= {"masked": agent.masked, "phase": agent.phase, "words": agent.instruction}
        for name, value in seen.items():
            rows[name].append(value)
        servo.move(command)
        if scorer is not None:
            scorer.update()
        if agent.done:
            break
    score = scorer.score() if scorer is not None else None
    return Rollout(
        kind=agent.kind,
        seed=spec.seed,
        frames={camera: np.stack(images) for camera, images in frames.items()},
        arm_positions=np.array(rows["arm"], dtype=np.float32),
        openings=np.array(rows["opening"], dtype=np.float32),
        commanded_openings=np.array(rows["want_opening"], dtype=np.float32),
        positions=np.array(rows["position"], dtype=np.float32),
        commanded_positions=np.array(rows["want_position"], dtype=np.float32),
        orientations=np.array(rows["orientation"], dtype=np.float32),
        masked=np.array(rows["masked"], dtype=bool),
        phases=tuple(rows["phase"]),
        instructions=tuple(rows["words"]),
        success=score.success if score else None,
        score=score.score if score else None,
        failure=score.failure if score else None,
    )
