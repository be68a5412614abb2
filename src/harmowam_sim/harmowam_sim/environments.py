"""Episodes: which objects stand where, in domain and in the environments that training never sees.

The split, in one place: regions and looks are the constants below, objects the ``TRAIN_*`` and ``HELD_OUT_*`` tables of
``objects``, seeds ``EVALUATION_SEED_START``. Lengths m, the base frame; everything follows from (task, environment, seed).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_sim.instructions import instruct
from harmowam_sim.objects import (
    COLOURS,
    HELD_OUT_CANS,
    HELD_OUT_CLUTTER,
    HELD_OUT_FRUITS,
    HELD_OUT_OBSTACLES,
    TRAIN_CANS,
    TRAIN_CLUTTER,
    TRAIN_FRUITS,
    TRAIN_OBSTACLES,
    TRAIN_PLATES,
    ObjectKind,
)
from harmowam_sim.paths import HAND, Post, Section, carrying, hand_gap, post, straight
from harmowam_sim.scene import Appearance, Scene, Triple
from harmowam_sim.splits import ENVIRONMENTS, EVALUATION_SEED_START, STARTS, TASKS, Start

Float64 = NDArray[np.float64]
OBSTACLE_SHARE = 0.3


@dataclass(frozen=True)
class Region:
    """An axis-aligned rectangle of the table."""

    x: tuple[float, float]
    y: tuple[float, float]

    def sample(self, rng: np.random.Generator) -> Float64:
        """(2,) uniformly."""
        return rng.uniform((self.x[0], self.y[0]), (self.x[1], self.y[1]))

    def contains(self, xy: Float64, margin: float = 0.0) -> bool:
        """Whether ``xy`` (2,) lies within, or within ``margin`` of it."""
        return bool(self.x[0] - margin <= xy[0] <= self.x[1] + margin and self.y[0] - margin <= xy[1] <= self.y[1] + margin)


TARGET_REGION = Region((0.42, 0.56), (0.00, 0.16))
GOAL_REGION = Region((0.44, 0.58), (0.24, 0.34))
REACHABLE_REGION = Region((0.36, 0.66), (-0.14, 0.40))
CLUTTER_REGION = Region((0.34, 0.70), (-0.20, 0.46))
UNSEEN_MARGIN_M = 0.03  # how far outside the demonstrations' regions "position" begins
REACH_M = 0.70  # from the foot of the left arm, tool down, up to the height of a path over an obstacle
HIGHEST_PATH_M = 0.34
HOVER_M = 0.08  # above the grasp or release, where transit ends and interaction begins
MIN_TARGET_TO_GOAL_M = 0.14
START_JITTER_M = 0.02
SPAWN_GAP_M = 0.012
BLOCKING_M = 0.015  # how deep the straight way cuts into an obstacle: enough to knock it over
DISTINCT_COLOURS = 0.36  # nothing comes nearer in colour to the target or the goal
TABLE_CONTRAST = 0.35  # between target or goal and a held-out table

DEMONSTRATION_APPEARANCE = Appearance()
HELD_OUT_APPEARANCES: tuple[Appearance, ...] = (
    Appearance((0.13, 0.39, 0.28), None, (0.13, 0.39, 0.28), (0.86, 0.78, 0.62), (0.30, 0.26, 0.24), (0.3, -0.5, 2.0), 0.70, 0.30),
    Appearance((0.14, 0.18, 0.44), None, (0.14, 0.18, 0.44), (0.90, 0.86, 0.80), (0.40, 0.34, 0.30), (0.9, -0.3, 2.1), 0.75, 0.38),
    Appearance((0.48, 0.14, 0.20), "stripes", (0.60, 0.27, 0.28), (0.72, 0.76, 0.66), (0.36, 0.38, 0.36), (0.2, 0.6, 2.2), 0.68, 0.32),
    Appearance((0.36, 0.62, 0.62), None, (0.36, 0.62, 0.62), (0.62, 0.48, 0.50), (0.52, 0.50, 0.48), (1.0, 0.4, 1.9), 0.50, 0.42),
    Appearance((0.68, 0.55, 0.82), "checker", (0.84, 0.68, 0.94), (0.46, 0.52, 0.44), (0.30, 0.30, 0.34), (0.5, -0.6, 2.3), 0.55, 0.30),
    Appearance((0.38, 0.46, 0.20), "checker", (0.48, 0.58, 0.28), (0.55, 0.60, 0.74), (0.44, 0.40, 0.36), (0.7, 0.7, 2.0), 0.62, 0.36),
)
# Play's tables are jittered around these, or of any colour at all; each is at least PALETTE_GAP away from every held-out table.
TRAIN_TABLES: tuple[Triple, ...] = (
    (0.80, 0.68, 0.52), (0.62, 0.48, 0.34), (0.42, 0.30, 0.22), (0.90, 0.88, 0.84), (0.70, 0.70, 0.70), (0.48, 0.49, 0.51),
    (0.26, 0.26, 0.27), (0.66, 0.76, 0.88), (0.90, 0.78, 0.66), (0.72, 0.82, 0.62), (0.85, 0.70, 0.70), (0.94, 0.92, 0.70),
    (0.36, 0.46, 0.66), (0.76, 0.56, 0.30),
)  # fmt: skip
TABLE_JITTER = 0.04
PALETTE_GAP = 0.10
ANY_COLOUR_SHARE = 0.6
ANY_COLOUR_GAP = 0.15  # of those, from every held-out table: more than the jitter of the others leaves
PALETTE_CONTRAST = 0.2


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode, ready to simulate: ``target_name`` and ``goal_name`` are objects of the scene and kinds of KINDS.

    near_goal_m: how far beside the goal a "near_goal" start may hold the target.
    """

    task: str
    environment: str
    seed: int
    start: Start
    scene: Scene
    instruction: str
    target_phrase: str
    goal_phrase: str
    target_name: str
    goal_name: str
    start_arm_positions: tuple[float, ...]
    obstacle_name: str | None
    arm: str = "left"
    near_goal_m: float = 0.03

    @property
    def has_obstacle(self) -> bool:
        """Whether something tall stands in the straight way."""
        return self.obstacle_name is not None


@lru_cache(maxsize=1)
def standard_cell() -> Cell:
    """The cell profile all episodes are made for."""
    return load_cell()


@lru_cache(maxsize=1)
def kinematics() -> Kinematics:
    """Of the standard cell."""
    return Kinematics(standard_cell())


def tool_down(yaw_rad: float) -> Float64:
    """(4,) xyzw orientation of a tool that points down, turned by yaw about the vertical."""
    return np.array([np.cos(yaw_rad / 2), np.sin(yaw_rad / 2), 0.0, 0.0])


def arm_positions_at(tcp: Float64, yaw_rad: float = 0.0, arm: int = 0) -> tuple[float, ...] | None:
    """(A*7,) rad with one arm's tool at ``tcp`` (3,), pointing down, the others at home; None if out of reach."""
    solver = kinematics()
    positions, orientations = solver.forward(solver.home())
    positions[arm], orientations[arm] = tcp, tool_down(yaw_rad)
    found = solver.inverse(positions, orientations, solver.home())
    return tuple(float(q) for q in found.q) if found.converged.all() else None


class UnusableSeedError(RuntimeError):
    """No episode can be set up from this seed: no room for its things, or its target cannot be brought to where it starts."""


def check_training_seed(seed: int) -> None:
    """ValueError for a seed that belongs to evaluation."""
    if not 0 <= seed < EVALUATION_SEED_START:
        raise ValueError(f"seed {seed} is not a training seed; those are 0 to {EVALUATION_SEED_START - 1}")


@dataclass(frozen=True)
class Placement:
    """An object and where it stands."""

    kind: ObjectKind
    xy: Float64
    yaw_rad: float = 0.0

    @property
    def post(self) -> Post:
        """As an obstacle to the hand."""
        return post(self.kind, float(self.xy[0]), float(self.xy[1]))


class Layout:
    """Objects placed one after the other without overlap, with room for the hand where it must go down."""

    def __init__(self) -> None:
        self.placements: list[Placement] = []
        self._columns: list[tuple[tuple[Section, ...], Float64, float]] = []

    def add(self, placement: Placement) -> None:
        """Put it there, unchecked."""
        self.placements.append(placement)

    def keep_free(self, hand: tuple[Section, ...], low: Float64, yaw_rad: float) -> None:
        """Whatever comes later leaves room for the hand to go straight down to the TCP position ``low`` (3,)."""
        self._columns.append((hand, low, yaw_rad))

    def fits(self, kind: ObjectKind, xy: Float64, gap: float = SPAWN_GAP_M) -> bool:
        """Whether there is room, and no line of sight from the scene camera to a kept-free spot is cut."""
        if any(np.hypot(*(xy - other.xy)) < kind.radius + other.kind.radius + gap for other in self.placements):
            return False
        obstacle = post(kind, float(xy[0]), float(xy[1]))
        for hand, low, yaw_rad in self._columns:
            if hand_gap(hand, low[None], yaw_rad, obstacle)[0] < gap:
                return False
            if kind.height > 0.06 and _hides(obstacle, low):
                return False
        return True

    def scatter(self, kinds: Iterable[ObjectKind], region: Region, rng: np.random.Generator, max_yaw_rad: float = np.pi) -> int:
        """Add what finds room, at random; the number added."""
        added = 0
        for kind in kinds:
            for _ in range(40):
                xy = region.sample(rng)
                if self.fits(kind, xy):
                    self.add(Placement(kind, xy, rng.uniform(-max_yaw_rad, max_yaw_rad)))
                    added += 1
                    break
        return added

    def scene(self, appearance: Appearance) -> Scene:
        """As a scene."""
        return Scene(tuple(p.kind.at(float(p.xy[0]), float(p.xy[1]), p.yaw_rad) for p in self.placements), appearance)


def _hides(obstacle: Post, point: Float64) -> bool:
    """Whether the post comes within 1 cm of the line from the scene camera to the point."""
    ray = straight(point, standard_cell().camera("scene").origin)
    beside = np.hypot(ray[:, 0] - obstacle.x, ray[:, 1] - obstacle.y) < obstacle.radius + 0.01
    return bool((beside & (ray[:, 2] < obstacle.height)).any())


def within_reach(xy: Float64) -> bool:
    """Whether the left arm works comfortably above ``xy`` (2,)."""
    foot = standard_cell().arms[0].base_position
    return bool(np.hypot(xy[0] - foot[0], xy[1] - foot[1]) <= REACH_M)


def sample_episode(task: str, environment: str, seed: int, *, start: Start = "home", obstacle: bool | None = None) -> EpisodeSpec:
    """The episode of a seed: a pure function of its arguments.

    start: "home" (within START_JITTER_M), "near_target" (TCP within 3 cm beside and 8-12 cm above the grasp) or "near_goal"
    (holding the target near the goal; the grasp is made when the episode is opened). obstacle: force or forbid something
    tall in the straight way; by default OBSTACLE_SHARE of episodes have one. ValueError names what is unknown. Unseen
    environments take evaluation seeds alone. UnusableSeedError if nothing fits.
    """
    choices = (("task", task, TASKS), ("environment", environment, ENVIRONMENTS), ("start", start, STARTS))
    for name, value, known in choices:
        if value not in known:
            raise ValueError(f"unknown {name} '{value}'; known: {', '.join(known)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}, expected >= 0")
    if environment != "in_domain" and seed < EVALUATION_SEED_START:
        raise ValueError(f"environment '{environment}' is for evaluation: seeds from {EVALUATION_SEED_START}, not {seed}")
    rng = np.random.default_rng([seed, TASKS.index(task), ENVIRONMENTS.index(environment)])
    blocked = bool(rng.random() < OBSTACLE_SHARE) if obstacle is None else obstacle
    for attempt in range(4000):
        if attempt % 200 == 0:  # some pairs leave hardly any room for an obstacle between them
            target, goal = _choose_pair(task, environment, rng)
        spec = _try_episode(task, environment, seed, start, blocked, target, goal, rng)
        if spec is not None:
            return spec
    raise UnusableSeedError(f"no room for {task}/{environment} seed {seed}; widen the regions or use smaller objects")


def _choose_pair(task: str, environment: str, rng: np.random.Generator) -> tuple[ObjectKind, ObjectKind]:
    unseen = environment == "objects"
    if task == "pick_fruit":
        target = _choice(HELD_OUT_FRUITS if unseen else TRAIN_FRUITS, rng)
        return target, _choice(_without(TRAIN_PLATES, {target.colour}), rng)
    cans = HELD_OUT_CANS if unseen else TRAIN_CANS
    target = _choice(cans, rng)
    return target, _choice(_without(cans, {target.colour}), rng)


def _try_episode(
    task: str, environment: str, seed: int, start: Start, blocked: bool, target: ObjectKind, goal: ObjectKind, rng: np.random.Generator
) -> EpisodeSpec | None:
    """One attempt; None if something found no room."""
    target_xy, goal_xy = _sample_pair(environment, rng)
    if np.hypot(*(target_xy - goal_xy)) < max(MIN_TARGET_TO_GOAL_M, target.radius + goal.radius + SPAWN_GAP_M):
        return None
    yaw = rng.uniform(-np.pi / 6, np.pi / 6)
    hand_yaw = yaw if target.elongated else 0.0
    grasp, release = grasp_point(target, target_xy), release_point(target, goal, goal_xy)
    start_tcp = _start_tcp(start, grasp, rng)
    if hand_gap(HAND, grasp[None], hand_yaw, post(goal, *goal_xy))[0] < SPAWN_GAP_M:
        return None
    layout = Layout()
    layout.keep_free(HAND, grasp, hand_yaw)
    layout.keep_free(carrying(HAND, target), release, 0.0)
    layout.add(Placement(target, target_xy, yaw))
    layout.add(Placement(goal, goal_xy, rng.uniform(-np.pi, np.pi)))
    layout.keep_free(HAND, start_tcp, 0.0)
    avoid = {target.colour, goal.colour}
    unseen_look = environment == "background"
    obstacle = None
    if blocked:
        obstacle = _choice(_without(HELD_OUT_OBSTACLES if unseen_look else TRAIN_OBSTACLES, avoid), rng)
        ways = (straight(above(grasp), above(release)), carrying(HAND, target)), (straight(start_tcp, above(grasp)), HAND)
        xy = place_in_the_way(layout, obstacle, ways, (0.7, 0.3), rng)
        if xy is None:
            return None
        layout.add(Placement(obstacle, xy, rng.uniform(-0.4, 0.4)))
        avoid |= {obstacle.colour}
    reach = [(grasp, hand_yaw), *((np.array([*xy, HIGHEST_PATH_M]), 0.0) for xy in (target_xy, goal_xy))]
    start_positions = arm_positions_at(start_tcp)
    if start_positions is None or any(arm_positions_at(tcp, tcp_yaw) is None for tcp, tcp_yaw in reach):
        return None
    clutter, least, rivals = _clutter(task, environment, avoid, rng)
    if layout.scatter(clutter, CLUTTER_REGION, rng) < least or layout.scatter(rivals, CLUTTER_REGION, rng) < 1:
        return None
    words = instruct(task, target.name, goal.name, rng, plain_goal=goal.category == "plate")
    return EpisodeSpec(
        task=task,
        environment=environment,
        seed=seed,
        start=start,
        scene=layout.scene(_choose_look(target, goal, rng) if unseen_look else DEMONSTRATION_APPEARANCE),
        instruction=words.text,
        target_phrase=words.target_phrase,
        goal_phrase=words.goal_phrase,
        target_name=target.name,
        goal_name=goal.name,
        start_arm_positions=start_positions,
        obstacle_name=obstacle.name if obstacle else None,
    )


def grasp_point(kind: ObjectKind, xy: Float64, base_height: float = 0.0) -> Float64:
    """(3,) where the TCP grasps an object standing at ``xy`` (2,)."""
    return np.array([xy[0], xy[1], base_height + kind.grasp_height])


def release_point(target: ObjectKind, goal: ObjectKind, goal_xy: Float64) -> Float64:
    """(3,) where the TCP lets the target go on the goal."""
    return grasp_point(target, goal_xy, goal.surface_height)


def above(point: Float64, height: float = HOVER_M) -> Float64:
    """(3,) straight above a point."""
    return point + np.array([0.0, 0.0, height])


def _sample_pair(environment: str, rng: np.random.Generator) -> tuple[Float64, Float64]:
    if environment != "position":
        return TARGET_REGION.sample(rng), GOAL_REGION.sample(rng)
    return _sample_outside(TARGET_REGION, rng), _sample_outside(GOAL_REGION, rng)


def _sample_outside(region: Region, rng: np.random.Generator) -> Float64:
    while True:
        xy = REACHABLE_REGION.sample(rng)
        if within_reach(xy) and not region.contains(xy, UNSEEN_MARGIN_M):
            return xy


def _start_tcp(start: Start, grasp: Float64, rng: np.random.Generator) -> Float64:
    if start == "near_target":
        return grasp + np.array([*rng.uniform(-0.03, 0.03, 2), rng.uniform(0.08, 0.12)])
    return np.array(standard_cell().arms[0].home_tcp_position) + rng.uniform(-START_JITTER_M, START_JITTER_M, 3)


Way = tuple[Float64, tuple[Section, ...]]  # a straight line (N, 3), and what moves along it


def place_in_the_way(
    layout: Layout, kind: ObjectKind, ways: Sequence[Way], shares: Sequence[float], rng: np.random.Generator
) -> Float64 | None:
    """A place (2,) in one of the ways, each chosen in its share of cases; None without room."""
    for _ in range(40):
        line, hand = ways[int((rng.random() >= np.cumsum(shares)[:-1]).sum())]
        xy = line[int(rng.uniform(0.3, 0.7) * len(line)), :2] + rng.uniform(-0.06, 0.06, 2)
        core = replace(post(kind, *xy), radius=min(kind.half_extents))  # a box seen from its narrow side
        if layout.fits(kind, xy) and hand_gap(hand, line, 0.0, core).min() < -BLOCKING_M:
            return np.asarray(xy)
    return None


def _clutter(task: str, environment: str, avoid: set[str], rng: np.random.Generator) -> tuple[list[ObjectKind], int, list[ObjectKind]]:
    """What else stands on the table: clutter, how much of it must find room, and rivals of the target's own sort."""
    rivals = _without(TRAIN_FRUITS if task == "pick_fruit" else TRAIN_CANS, avoid)
    if environment == "background":
        return _several(_without(HELD_OUT_CLUTTER, avoid), int(rng.integers(5, 9)), rng), 5, _several(rivals, 1, rng)
    clutter = _several(_without(TRAIN_CLUTTER, avoid), int(rng.integers(1, 3)), rng)
    return clutter, 1, _several(rivals, int(rng.integers(1, 3)), rng)


def _choose_look(target: ObjectKind, goal: ObjectKind, rng: np.random.Generator) -> Appearance:
    """A held-out look on which target and goal stand out."""
    looks = [
        look
        for look in HELD_OUT_APPEARANCES
        if all(
            np.linalg.norm(np.subtract(kind.geoms[0].rgba[:3], table)) > TABLE_CONTRAST
            for kind in (target, goal)
            for table in (look.table_rgb, look.table_rgb_2)
        )
    ]
    return looks[int(rng.integers(len(looks)))]


def sample_train_appearance(rng: np.random.Generator, kinds: Iterable[ObjectKind] = ()) -> Appearance:
    """A look for play: wide, but never near a held-out table or wall, nor so near an object's colour that it disappears."""
    colours = [kind.geoms[0].rgba[:3] for kind in kinds]
    for _ in range(20):
        table, second = (_train_table(rng) for _ in range(2))
        if all(np.linalg.norm(np.subtract(colour, table)) > PALETTE_CONTRAST for colour in colours):
            break
    pattern = rng.random()
    while True:
        wall = rng.uniform(0.3, 0.95, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.3, 0.95)) + rng.normal(0, 0.02, 3)
        if all(np.linalg.norm(wall - look.wall_rgb) > PALETTE_GAP for look in HELD_OUT_APPEARANCES):
            break
    return replace(
        DEMONSTRATION_APPEARANCE,
        table_rgb=table,
        table_texture=None if pattern < 0.65 else ("checker" if pattern < 0.82 else "stripes"),
        table_rgb_2=second,
        wall_rgb=_triple(wall),
        floor_rgb=_triple(rng.uniform(0.2, 0.7, 3)),
        light_position=(float(rng.uniform(0.2, 1.0)), float(rng.uniform(-0.7, 0.8)), float(rng.uniform(1.9, 2.4))),
        light_intensity=float(rng.uniform(0.45, 0.68)),
        ambient=float(rng.uniform(0.26, 0.40)),
    )


def _train_table(rng: np.random.Generator) -> Triple:
    """A table's colour for play."""
    if rng.random() >= ANY_COLOUR_SHARE:
        return _vary(TRAIN_TABLES[int(rng.integers(len(TRAIN_TABLES)))], rng)
    held_out = np.array([rgb for look in HELD_OUT_APPEARANCES for rgb in (look.table_rgb, look.table_rgb_2)])
    while True:
        colour = rng.uniform(0.08, 0.95, 3)
        if (np.linalg.norm(held_out - colour, axis=1) > ANY_COLOUR_GAP).all():
            return _triple(colour)


def _vary(rgb: Triple, rng: np.random.Generator) -> Triple:
    return _triple(np.array(rgb) + rng.uniform(-TABLE_JITTER, TABLE_JITTER, 3))


def _triple(rgb: Float64) -> Triple:
    r, g, b = (float(c) for c in rgb.clip(0, 1))
    return r, g, b


def _without(kinds: dict[str, ObjectKind], colours: set[str]) -> list[ObjectKind]:
    """Those of other colours, told apart at a glance (silver and white are not)."""
    return [kind for kind in kinds.values() if all(colour_distance(kind.colour, colour) > DISTINCT_COLOURS for colour in colours)]


def colour_distance(a: str, b: str) -> float:
    """Between two named colours, in RGB."""
    return float(np.linalg.norm(np.subtract(COLOURS[a], COLOURS[b])))


def _choice(kinds: Iterable[ObjectKind] | dict[str, ObjectKind], rng: np.random.Generator) -> ObjectKind:
    options = list(kinds.values()) if isinstance(kinds, dict) else list(kinds)
    return options[int(rng.integers(len(options)))]


def _several(kinds: list[ObjectKind], count: int, rng: np.random.Generator) -> list[ObjectKind]:
    return [kinds[int(i)] for i in rng.permutation(len(kinds))[:count]]
