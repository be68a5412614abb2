"""The evaluation protocol's split, checked on sampled episodes."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from harmowam_sim import environments
from harmowam_sim.environments import (
    DEMONSTRATION_APPEARANCE,
    GOAL_REGION,
    HELD_OUT_APPEARANCES,
    PALETTE_GAP,
    TABLE_JITTER,
    TARGET_REGION,
    TRAIN_TABLES,
    UNSEEN_MARGIN_M,
    EpisodeSpec,
    above,
    colour_distance,
    grasp_point,
    kinematics,
    release_point,
    sample_episode,
)
from harmowam_sim.objects import HELD_OUT_KINDS, KINDS, TRAIN_CANS, TRAIN_FRUITS, TRAIN_KINDS, TRAIN_PLATES
from harmowam_sim.paths import HAND, carrying, hand_gap, post, straight
from harmowam_sim.splits import ENVIRONMENTS, EVALUATION_SEED_START, TASKS, Start

CELLS = [(task, environment) for task in TASKS for environment in ENVIRONMENTS]
EPISODES = 16


@cache
def episodes(task: str, environment: str) -> tuple[EpisodeSpec, ...]:
    return tuple(sample_episode(task, environment, EVALUATION_SEED_START + seed) for seed in range(EPISODES))


def names(spec: EpisodeSpec) -> list[str]:
    return [thing.name for thing in spec.scene.objects]


def place_of(spec: EpisodeSpec, name: str) -> np.ndarray:
    return np.array(next(thing.position[:2] for thing in spec.scene.objects if thing.name == name))


def all_episodes() -> Iterator[EpisodeSpec]:
    for cell in CELLS:
        yield from episodes(*cell)


@pytest.mark.parametrize(("task", "environment"), CELLS)
def test_an_episode_follows_from_its_seed(task: str, environment: str) -> None:
    assert sample_episode(task, environment, EVALUATION_SEED_START) == episodes(task, environment)[0]
    assert episodes(task, environment)[0] != episodes(task, environment)[1]


def test_demonstrations_cover_one_region_one_set_of_objects_one_look() -> None:
    for task in TASKS:
        for seed in range(20):
            spec = sample_episode(task, "in_domain", seed)
            assert TARGET_REGION.contains(place_of(spec, spec.target_name))
            assert GOAL_REGION.contains(place_of(spec, spec.goal_name))
            assert set(names(spec)) <= TRAIN_KINDS.keys()
            assert spec.scene.appearance == DEMONSTRATION_APPEARANCE


@pytest.mark.parametrize("task", TASKS)
def test_position_is_outside_what_demonstrations_cover(task: str) -> None:
    for spec in episodes(task, "position"):
        assert not TARGET_REGION.contains(place_of(spec, spec.target_name), UNSEEN_MARGIN_M)
        assert not GOAL_REGION.contains(place_of(spec, spec.goal_name), UNSEEN_MARGIN_M)
        assert set(names(spec)) <= TRAIN_KINDS.keys()
        assert spec.scene.appearance == DEMONSTRATION_APPEARANCE


@pytest.mark.parametrize("task", TASKS)
def test_objects_are_instances_never_seen(task: str) -> None:
    for spec in episodes(task, "objects"):
        assert spec.target_name in HELD_OUT_KINDS
        assert TARGET_REGION.contains(place_of(spec, spec.target_name))
        assert spec.scene.appearance == DEMONSTRATION_APPEARANCE


@pytest.mark.parametrize("task", TASKS)
def test_background_has_unseen_looks_and_clutter(task: str) -> None:
    for spec in episodes(task, "background"):
        assert spec.scene.appearance in HELD_OUT_APPEARANCES
        clutter = [name for name in names(spec) if name in HELD_OUT_KINDS and not KINDS[name].tall]
        assert 5 <= len(clutter) <= 8
        assert {spec.target_name, spec.goal_name} <= TRAIN_KINDS.keys()


def test_no_training_table_comes_near_a_held_out_one() -> None:
    for look in HELD_OUT_APPEARANCES:
        for held_out in (look.table_rgb, look.table_rgb_2):
            gap = min(np.linalg.norm(np.maximum(np.abs(np.subtract(held_out, table)) - TABLE_JITTER, 0)) for table in TRAIN_TABLES)
            assert gap > PALETTE_GAP


def test_target_and_goal_are_told_apart_by_colour() -> None:
    for spec in all_episodes():
        for name in (spec.target_name, spec.goal_name):
            others = [KINDS[other].colour for other in names(spec) if other != name]
            assert all(colour_distance(KINDS[name].colour, other) > 0.3 for other in others), spec.instruction
        assert spec.target_phrase in spec.instruction
        assert spec.goal_phrase in spec.instruction


def test_every_pair_stands_out_on_some_held_out_table() -> None:
    rng = np.random.default_rng(0)
    for targets, goals in ((TRAIN_FRUITS, TRAIN_PLATES), (TRAIN_CANS, TRAIN_CANS)):
        for target in targets.values():
            for goal in goals.values():
                if target.colour != goal.colour:
                    assert environments._choose_look(target, goal, rng) in HELD_OUT_APPEARANCES


def test_nothing_overlaps_and_the_hand_has_room() -> None:
    for spec in all_episodes():
        spots = [(KINDS[name], place_of(spec, name)) for name in names(spec)]
        for i, (kind, at) in enumerate(spots):
            for other, there in spots[:i]:
                assert np.hypot(*(at - there)) > kind.radius + other.radius
        target, goal = KINDS[spec.target_name], KINDS[spec.goal_name]
        release = release_point(target, goal, place_of(spec, spec.goal_name))
        for kind, at in spots:
            if kind is not goal and kind is not target:
                assert hand_gap(carrying(HAND, target), release[None], 0.0, post(kind, *at))[0] > 0


def test_about_a_third_have_something_tall_in_the_straight_way() -> None:
    blocked = [spec for spec in all_episodes() if spec.has_obstacle]
    assert 0.2 < len(blocked) / (EPISODES * len(CELLS)) < 0.42
    for spec in blocked:
        assert spec.obstacle_name is not None
        target, goal = KINDS[spec.target_name], KINDS[spec.goal_name]
        start = kinematics().forward(np.array(spec.start_arm_positions))[0][0]
        grasp = grasp_point(target, place_of(spec, spec.target_name))
        release = release_point(target, goal, place_of(spec, spec.goal_name))
        obstacle = post(KINDS[spec.obstacle_name], *place_of(spec, spec.obstacle_name))
        to_target = hand_gap(HAND, straight(start, above(grasp)), 0.0, obstacle).min()
        to_goal = hand_gap(carrying(HAND, target), straight(above(grasp), above(release)), 0.0, obstacle).min()
        assert min(to_target, to_goal) < 0
        assert hand_gap(HAND, start[None], 0.0, obstacle)[0] > 0


def test_obstacles_can_be_forced_and_forbidden() -> None:
    for task in TASKS:
        assert sample_episode(task, "in_domain", 3, obstacle=True).has_obstacle
        assert not sample_episode(task, "in_domain", 3, obstacle=False).has_obstacle


@pytest.mark.parametrize("start", ["home", "near_target"])
def test_starts(start: Start) -> None:
    for seed in range(6):
        spec = sample_episode("pick_fruit", "in_domain", seed, start=start)
        tcp = kinematics().forward(np.array(spec.start_arm_positions))[0][0]
        grasp = grasp_point(KINDS[spec.target_name], place_of(spec, spec.target_name))
        offset = tcp - ((0.40, 0.12, 0.30) if start == "home" else grasp)
        if start == "home":
            assert np.abs(offset).max() <= 0.0201
        else:
            assert np.abs(offset[:2]).max() <= 0.0301
            assert 0.0799 <= offset[2] <= 0.1201


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("fold_towel", "in_domain", 0), "unknown task 'fold_towel'"),
        (("pick_fruit", "moon", 0), "unknown environment 'moon'"),
        (("pick_fruit", "in_domain", -1), "seed is -1"),
        (("pick_fruit", "objects", 5), "for evaluation"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[str, str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sample_episode(*arguments)


def test_unknown_start_is_named() -> None:
    with pytest.raises(ValueError, match="unknown start 'upside_down'"):
        sample_episode("pick_fruit", "in_domain", 0, start="upside_down")  # type: ignore[arg-type]


def test_evaluation_seeds_are_no_training_seeds() -> None:
    environments.check_training_seed(EVALUATION_SEED_START - 1)
    with pytest.raises(ValueError, match="not a training seed"):
        environments.check_training_seed(EVALUATION_SEED_START)
