"""Play: wide, task-agnostic arm motion with captions, for pretraining the world model and the reactive expert.

Positions over the whole reachable table, training objects and generic shapes in every colour, random looks; never a
held-out object or a held-out look. Lengths m, the base frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harmowam_sim.cell import SimCell
from harmowam_sim.demonstrators import Kind
from harmowam_sim.environments import (
    CLUTTER_REGION,
    HIGHEST_PATH_M,
    Layout,
    Placement,
    Region,
    UnusableSeedError,
    Way,
    above,
    arm_positions_at,
    check_training_seed,
    grasp_point,
    place_in_the_way,
    release_point,
    sample_train_appearance,
    within_reach,
)
from harmowam_sim.instructions import instruct
from harmowam_sim.manipulation import PickAndPlace, Reach, Style
from harmowam_sim.objects import (
    PLAY_CANS,
    PLAY_JARS,
    PLAY_PLATES,
    PLAY_SHAPES,
    TRAIN_CANS,
    TRAIN_CLUTTER,
    TRAIN_FRUITS,
    TRAIN_OBSTACLES,
    ObjectKind,
)
from harmowam_sim.paths import HAND, carrying, hand_gap, post, straight
from harmowam_sim.scene import Scene
from harmowam_sim.servo import EndEffectorCommand

Float64 = NDArray[np.float64]

PLAY_REGION = Region((0.35, 0.67), (-0.17, 0.43))
START_REGION = Region((0.26, 0.68), (-0.18, 0.43))
START_HEIGHTS_M = (0.14, 0.48)  # also far above any path: a hand that has drifted there must be imagined coming back
PLAY_STEPS = 140
REACH_SHARE = 0.3
BLOCKED_SHARE = 0.35  # of all: something tall stands in a straight way
OBSTACLE_SHARE = 0.3  # of the others: it stands anywhere


@dataclass(frozen=True)
class Activity:
    """One thing to do, and its caption."""

    verb: Literal["move", "reach"]
    target_name: str
    goal_name: str
    caption: str


@dataclass(frozen=True)
class PlaySpec:
    """One piece of play: a scene, where the arms start, and what is done one after the other."""

    seed: int
    scene: Scene
    start_arm_positions: tuple[float, ...]
    activities: tuple[Activity, ...]
    arm: str = "left"

    @property
    def caption(self) -> str:
        """Of the first activity."""
        return self.activities[0].caption


def sample_play(seed: int) -> PlaySpec:
    """The play of a training seed; ValueError for an evaluation seed, UnusableSeedError if nothing fits."""
    check_training_seed(seed)
    rng = np.random.default_rng([seed, 101])
    blocked, tall = rng.random(2) < (BLOCKED_SHARE, OBSTACLE_SHARE)
    for _ in range(1000):
        spec = _try_play(seed, bool(blocked), bool(tall), rng)
        if spec is not None:
            return spec
    raise UnusableSeedError(f"no room for play seed {seed}")


def _try_play(seed: int, blocked: bool, tall: bool, rng: np.random.Generator) -> PlaySpec | None:
    start_yaw = rng.uniform(-0.5, 0.5)
    start_tcp = np.array([*START_REGION.sample(rng), rng.uniform(*START_HEIGHTS_M)])
    start_positions = arm_positions_at(start_tcp, start_yaw)
    movable, goals = _cast(rng)
    layout = Layout()
    layout.keep_free(HAND, start_tcp, start_yaw)
    for kind in goals:
        _place(layout, kind, rng, movable[0])
    for kind in movable:
        _place(layout, kind, rng, None)
    placed = {placement.kind.name: placement for placement in layout.placements}
    activities = _plan([kind for kind in movable if kind.name in placed], [kind for kind in goals if kind.name in placed], rng)
    if start_positions is None or not activities:
        return None
    obstacles = list(TRAIN_OBSTACLES.values())
    obstacle = obstacles[int(rng.integers(len(obstacles)))]
    if blocked:
        xy = _in_the_way(layout, obstacle, start_tcp, activities, placed, rng)
        if xy is None:
            return None
        layout.add(Placement(obstacle, xy, rng.uniform(-0.4, 0.4)))
    elif tall:
        layout.scatter([obstacle], PLAY_REGION, rng, max_yaw_rad=0.6)
    clutter = list(TRAIN_CLUTTER.values())
    taken = {placement.kind.name for placement in layout.placements}
    extras = [clutter[int(i)] for i in rng.permutation(len(clutter))[: int(rng.integers(0, 8))]]
    layout.scatter([kind for kind in extras if kind.name not in taken], CLUTTER_REGION, rng)
    look = sample_train_appearance(rng, [placement.kind for placement in layout.placements])
    return PlaySpec(seed, layout.scene(look), start_positions, activities)


def _cast(rng: np.random.Generator) -> tuple[list[ObjectKind], list[ObjectKind]]:
    """What may be picked up (2-4), and what things may be put on (1-2); nothing twice."""
    shapes, fruits, cans = (list(kinds.values()) for kinds in (PLAY_SHAPES | PLAY_JARS, TRAIN_FRUITS, TRAIN_CANS | PLAY_CANS))
    pools = [shapes, fruits, cans]
    movable: dict[str, ObjectKind] = {}
    for index in rng.choice(3, size=int(rng.integers(2, 5)), p=[0.5, 0.28, 0.22]):
        kind = pools[index][int(rng.integers(len(pools[index])))]
        if not _confusable(kind, movable):
            movable[kind.name] = kind
    flat = [kind for kind in shapes if kind.category != "ball"]
    goals: dict[str, ObjectKind] = {}
    for index in rng.choice(3, size=int(rng.integers(1, 3)), p=[0.5, 0.3, 0.2]):
        pool = (list(PLAY_PLATES.values()), cans, flat)[index]
        kind = pool[int(rng.integers(len(pool)))]
        if kind.name not in movable and not _confusable(kind, movable | goals):
            goals[kind.name] = kind
    return list(movable.values()), list(goals.values())


def _confusable(kind: ObjectKind, others: dict[str, ObjectKind]) -> bool:
    """Whether "the red can" would mean another one as well."""
    return kind.category == "can" and any((other.category, other.colour) == ("can", kind.colour) for other in others.values())


def _in_the_way(
    layout: Layout,
    obstacle: ObjectKind,
    start_tcp: Float64,
    activities: tuple[Activity, ...],
    placed: dict[str, Placement],
    rng: np.random.Generator,
) -> Float64 | None:
    """A place (2,) in the straight way to the first target, or, mostly, of something carried to its goal; None without room."""
    ways: list[Way] = []
    for activity in activities:
        target = placed[activity.target_name]
        over_target = above(grasp_point(target.kind, target.xy))
        if activity.goal_name:
            goal = placed[activity.goal_name]
            over_goal = above(release_point(target.kind, goal.kind, goal.xy))
            ways.append((straight(over_target, over_goal), carrying(HAND, target.kind)))
        elif not ways:
            ways.append((straight(start_tcp, over_target), HAND))
    return place_in_the_way(layout, obstacle, ways, [1 / len(ways)] * len(ways), rng)


def _place(layout: Layout, kind: ObjectKind, rng: np.random.Generator, brought: ObjectKind | None) -> None:
    """Stand it where the hand can work on it, if there is such a place; ``brought`` will be put on it."""
    for _ in range(30):
        xy, yaw = PLAY_REGION.sample(rng), rng.uniform(-np.pi / 6, np.pi / 6)
        low = grasp_point(kind, xy) if brought is None else release_point(brought, kind, xy)
        hand = HAND if brought is None else carrying(HAND, brought)
        hand_yaw = yaw if brought is None and kind.elongated else 0.0
        clear = all(hand_gap(hand, low[None], hand_yaw, post(other.kind, *other.xy))[0] > 0.012 for other in layout.placements)
        ends = [arm_positions_at(low, hand_yaw), arm_positions_at(np.array([*xy, HIGHEST_PATH_M]))] if within_reach(xy) else [None]
        if clear and layout.fits(kind, xy) and None not in ends:
            layout.add(Placement(kind, xy, yaw))
            layout.keep_free(hand, low, hand_yaw)
            return


def _plan(movable: list[ObjectKind], goals: list[ObjectKind], rng: np.random.Generator) -> tuple[Activity, ...]:
    """Enough to do for PLAY_STEPS: every goal is used once, reaches come in between."""
    pick = [movable[int(i)] for i in rng.permutation(len(movable))]
    place = [goals[int(i)] for i in rng.permutation(len(goals))]
    activities: list[Activity] = []
    while pick or not activities:
        if not pick:
            return ()
        target = pick[0]
        if place and rng.random() > REACH_SHARE:
            goal = place.pop()
            pick.pop(0)
            words = instruct("pick_fruit" if goal.category == "plate" or rng.random() < 0.4 else "stack_cans", target.name, goal.name, rng)
            activities.append(Activity("move", target.name, goal.name, words.text))
        else:
            pick.pop(0)
            activities.append(Activity("reach", target.name, "", instruct("reach", target.name, rng=rng).text))
    return tuple(activities)


class PlayAgent:
    """Plays: does one activity after the other; ``instruction`` is the caption of what it is at."""

    kind: Kind = "play"
    masked = False

    def __init__(self, spec: PlaySpec, rng: np.random.Generator) -> None:
        self._spec = spec
        self._styles = [Style.sample(rng) for _ in spec.activities]
        self._index = -1
        self._next()

    def act(self, cell: SimCell) -> EndEffectorCommand:
        """The command for the next control period."""
        if self._current.done and self._index + 1 < len(self._spec.activities):
            self._next()
        return self._current.act(cell)

    def _next(self) -> None:
        self._index += 1
        activity, style = self._spec.activities[self._index], self._styles[self._index]
        self._current: PickAndPlace | Reach
        if activity.verb == "move":
            self._current = PickAndPlace(self._spec.scene, activity.target_name, activity.goal_name, self._spec.arm, style)
        else:
            self._current = Reach(self._spec.scene, activity.target_name, self._spec.arm, style)

    @property
    def phase(self) -> str:
        """As of PickAndPlace."""
        return self._current.phase

    @property
    def instruction(self) -> str:
        """The caption of the current activity."""
        return self._spec.activities[self._index].caption

    @property
    def done(self) -> bool:
        """Whether everything is done."""
        return self._current.done and self._index + 1 == len(self._spec.activities)
