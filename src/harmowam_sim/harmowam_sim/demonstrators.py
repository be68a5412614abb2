"""Scripted demonstrators of the tasks, and the one way of recording what any scripted agent does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.images import prepare_image
from harmowam_sim.cell import SimCell
from harmowam_sim.environments import (
    EpisodeSpec,
    UnusableSeedError,
    kinematics,
)
from harmowam_sim.manipulation import PickAndPlace, Style, standing_post
from harmowam_sim.objects import KINDS
from harmowam_sim.paths import HAND, MIN_CLEARANCE_M, carrying, hand_gap
from harmowam_sim.scene import Scene
from harmowam_sim.servo import EndEffectorCommand, EndEffectorServo, UnreachableError
from harmowam_sim.tasks import Scorer

Float64 = NDArray[np.float64]
Kind = Literal["demonstration", "recovery", "play"]

MODEL_IMAGE_SIZES: dict[str, tuple[int, int]] = {"scene": (64, 80), "wrist_left": (48, 48), "wrist_right": (48, 48)}
NUMERIC_ROWS = ("arm_positions", "openings", "commanded_openings", "positions", "commanded_positions", "orientations")
MAX_STEPS = 220


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
    motion is not to be learnt; phases, instructions: T strings. success and score are None for play.
    failure: what went wrong for good, such as a target out of reach, which ends a rollout.
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


def open_cell(spec: EpisodeSpec, cell: Cell | None = None) -> SimCell:
    """The simulated cell (the standard one) at the start of an episode.

    For "near_goal" the target has been grasped, and is held 8-12 cm above where it would be released and up to
    ``spec.near_goal_m`` beside; whoever goes on must command that gripper closed.
    """
    opened = SimCell(spec.scene, cell, start_arm_positions=spec.start_arm_positions)
    if spec.start == "near_goal":
        _grasp_and_bring(opened, spec, np.random.default_rng([spec.seed, 7]))
    return opened


def _grasp_and_bring(cell: SimCell, spec: EpisodeSpec, rng: np.random.Generator) -> None:
    """Unrecorded: grasp the target and hold it somewhere near the goal. UnusableSeedError or UnreachableError if that fails."""
    servo = EndEffectorServo(cell, kinematics())
    hands = PickAndPlace(spec.scene, spec.target_name, spec.goal_name, spec.arm, Style.sample(rng))
    for _ in range(MAX_STEPS):
        command = hands.act(cell)
        if hands.phase == "lower":
            break
        servo.move(command)
    else:
        raise UnusableSeedError(f"{spec.task} seed {spec.seed}: the target could not be brought to the goal")
    arm = cell.cell.arm_names.index(spec.arm)
    hover = command.positions[arm].copy()
    held = carrying(HAND, KINDS[spec.target_name])
    posts = [standing_post(cell, thing.name) for thing in spec.scene.objects if thing.name != spec.target_name]
    for _ in range(100):
        offset = np.array([*in_disc(rng, spec.near_goal_m), rng.uniform(0.0, 0.04)])
        if all(hand_gap(held, (hover + offset)[None], 0.0, obstacle)[0] > MIN_CLEARANCE_M for obstacle in posts):
            break
    else:
        raise UnusableSeedError(f"{spec.task} seed {spec.seed}: no free place near the goal")
    for fraction in np.linspace(0, 1, 11)[1:]:
        positions = command.positions.copy()
        positions[arm] = hover + fraction * offset
        servo.move(replace(command, positions=positions))


def in_disc(rng: np.random.Generator, radius: float) -> Float64:
    """(2,) uniformly."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(radius * np.sqrt(rng.random()) * np.array([np.cos(angle), np.sin(angle)]))


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
        return _record(agent, spec, cell, cameras, sizes, max_steps)


def _record(
    agent: Agent, spec: Spec, cell: SimCell, cameras: tuple[str, ...], sizes: Mapping[str, tuple[int, int]] | None, max_steps: int
) -> Rollout:
    scorer = Scorer(spec, cell) if isinstance(spec, EpisodeSpec) else None
    servo = EndEffectorServo(cell, kinematics())
    frames: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in cameras}
    rows: list[dict[str, Any]] = []
    stopped: str | None = None
    for _ in range(max_steps):
        for camera, images in frames.items():
            image = cell.render(camera)
            images.append(prepare_image(image, sizes[camera]) if sizes else image)
        positions, orientations = cell.tcp_pose()
        row = {"arm_positions": cell.arm_positions, "openings": cell.openings, "positions": positions.copy(), "orientations": orientations}
        command = agent.act(cell)
        row |= {"commanded_openings": command.openings, "commanded_positions": command.positions}
        rows.append(row | {"masked": agent.masked, "phase": agent.phase, "instruction": agent.instruction})
        try:
            servo.move(command)
        except UnreachableError as error:  # something was pushed out of reach: the end of this rollout, not of the collection
            stopped = str(error)
            break
        if scorer is not None:
            scorer.update()
        if agent.done:
            break
    score = scorer.score() if scorer is not None else None
    return Rollout(
        kind=agent.kind,
        seed=spec.seed,
        frames={camera: np.stack(images) for camera, images in frames.items()},
        **{name: np.array([row[name] for row in rows], dtype=np.float32) for name in NUMERIC_ROWS},
        masked=np.array([row["masked"] for row in rows], dtype=bool),
        phases=tuple(row["phase"] for row in rows),
        instructions=tuple(row["instruction"] for row in rows),
        success=score.success if score else None,
        score=score.score if score else None,
        failure=(score.failure if score else None) or stopped,
    )
