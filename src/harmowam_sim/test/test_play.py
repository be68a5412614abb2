"""Play: wide, captioned, and free of everything held out."""

import numpy as np
import pytest

from harmowam_sim.demonstrators import rollout
from harmowam_sim.environments import (
    EVALUATION_SEED_START,
    HELD_OUT_APPEARANCES,
    PALETTE_GAP,
    TARGET_REGION,
    above,
    grasp_point,
    kinematics,
    release_point,
)
from harmowam_sim.instructions import HELD_OUT_TEMPLATES
from harmowam_sim.objects import HELD_OUT_KINDS, KINDS, PLAY_COLOURS
from harmowam_sim.paths import HAND, carrying, hand_gap, post, straight
from harmowam_sim.play import PLAY_STEPS, PlayAgent, PlaySpec, sample_play


@pytest.fixture(scope="module")
def plays() -> list[PlaySpec]:
    return [sample_play(seed) for seed in range(120)]


def test_nothing_held_out_occurs(plays: list[PlaySpec]) -> None:
    templates = [template for templates in HELD_OUT_TEMPLATES.values() for template in templates]
    held_out_words = [template.split("{")[0] for template in templates if not template.startswith("{")]
    for spec in plays:
        assert not {thing.name for thing in spec.scene.objects} & HELD_OUT_KINDS.keys()
        look = spec.scene.appearance
        for held_out in HELD_OUT_APPEARANCES:
            for table in (look.table_rgb, look.table_rgb_2):
                assert np.linalg.norm(np.subtract(table, held_out.table_rgb)) > PALETTE_GAP
                assert np.linalg.norm(np.subtract(table, held_out.table_rgb_2)) > PALETTE_GAP
            assert np.linalg.norm(np.subtract(look.wall_rgb, held_out.wall_rgb)) > PALETTE_GAP
        for activity in spec.activities:
            assert not any(activity.caption.startswith(words) for words in held_out_words)


def test_play_is_wide(plays: list[PlaySpec]) -> None:
    handled = [activity.target_name for spec in plays for activity in spec.activities]
    assert {KINDS[name].colour for name in handled} >= set(PLAY_COLOURS)
    assert {KINDS[name].category for name in handled} >= {"fruit", "can", "block", "ball", "cylinder"}
    assert {activity.verb for spec in plays for activity in spec.activities} == {"move", "reach"}
    assert any(KINDS[thing.name].tall for spec in plays for thing in spec.scene.objects)
    spots = np.array([thing.position[:2] for spec in plays for thing in spec.scene.objects if thing.name == spec.activities[0].target_name])
    inside = np.mean([TARGET_REGION.contains(spot) for spot in spots])
    assert 0.02 < inside < 0.4
    assert spots[:, 1].min() < -0.12
    assert spots[:, 1].max() > 0.36
    assert spots[:, 0].max() > 0.62
    starts = np.array([kinematics().forward(np.array(spec.start_arm_positions))[0][0] for spec in plays])
    assert (np.ptp(starts, axis=0) > (0.2, 0.4, 0.18)).all()


def test_captions_name_what_is_handled(plays: list[PlaySpec]) -> None:
    for spec in plays:
        for activity in spec.activities:
            assert f"the {activity.target_name}" in activity.caption
            assert not activity.goal_name or f"the {activity.goal_name}" in activity.caption


def test_no_caption_means_two_cans(plays: list[PlaySpec]) -> None:
    for spec in plays:
        cans = [KINDS[thing.name].colour for thing in spec.scene.objects if KINDS[thing.name].category == "can"]
        assert len(set(cans)) == len(cans)


def test_something_tall_often_stands_in_the_way(plays: list[PlaySpec]) -> None:
    blocked = 0
    for spec in plays:
        spots = {thing.name: np.array(thing.position[:2]) for thing in spec.scene.objects}
        tall = [post(KINDS[name], *spots[name]) for name in spots if KINDS[name].tall]
        for activity in spec.activities:
            if activity.goal_name:
                target, goal = KINDS[activity.target_name], KINDS[activity.goal_name]
                way = straight(above(grasp_point(target, spots[target.name])), above(release_point(target, goal, spots[goal.name])))
                blocked += any(hand_gap(carrying(HAND, target), way, 0.0, obstacle).min() < -0.01 for obstacle in tall)
    assert blocked > 0.2 * len(plays)


def test_play_follows_from_a_training_seed() -> None:
    assert sample_play(7) == sample_play(7)
    with pytest.raises(ValueError, match="not a training seed"):
        sample_play(EVALUATION_SEED_START)


def test_play_does_what_its_captions_say() -> None:
    grasped = moved = 0
    for seed in range(4):
        spec = sample_play(seed)
        result = rollout(PlayAgent(spec, np.random.default_rng(seed)), spec, cameras=(), max_steps=PLAY_STEPS)
        assert result.kind == "play"
        assert result.success is None
        captions = [activity.caption for activity in spec.activities]
        assert list(dict.fromkeys(result.instructions)) == captions[: len(set(result.instructions))]
        moved += "close" in result.phases
        grasped += "carry" in result.phases
        for instruction, opening in zip(result.instructions, result.commanded_openings[:, 0], strict=True):
            verb = next(activity.verb for activity in spec.activities if activity.caption == instruction)
            assert verb == "move" or opening == 1.0
    assert moved >= 2
    assert grasped >= moved - 1
