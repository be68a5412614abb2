"""Scores: stages in order, nothing for free, failures named."""

import numpy as np
import pytest

from harmowam_sim.cell import SimCell
from harmowam_sim.demonstrators import open_cell
from harmowam_sim.environments import EpisodeSpec, kinematics, sample_episode
from harmowam_sim.manipulation import PickAndPlace, Style
from harmowam_sim.servo import EndEffectorServo
from harmowam_sim.tasks import STAGES, Score, Scorer, upright_cos


def demonstrate(spec: EpisodeSpec, until: str = "", tweak: str = "") -> list[Score]:
    """Scores after each control period, until a phase begins; ``tweak`` "topple" knocks the obstacle over at the lift."""
    scores: list[Score] = []
    with open_cell(spec) as cell:
        scorer, servo = Scorer(spec, cell), EndEffectorServo(cell, kinematics())
        hands = PickAndPlace(spec.scene, spec.target_name, spec.goal_name, spec.arm, Style.sample(np.random.default_rng(0)))
        for _ in range(200):
            command = hands.act(cell)
            if hands.phase == until or hands.done:
                break
            if tweak == "topple" and hands.phase == "lift":
                lay_down(cell, str(spec.obstacle_name))
            servo.move(command)
            scores.append(scorer.update())
    return scores


def lay_down(cell: SimCell, name: str) -> None:
    """Put an object on its side, far from everything."""
    address = cell.model.joint(name).qposadr[0]
    cell.data.qpos[address : address + 7] = [0.7, -0.5, 0.05, np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0]


@pytest.mark.parametrize("task", ["pick_fruit", "stack_cans"])
def test_a_demonstration_reaches_all_stages_in_order(task: str) -> None:
    scores = demonstrate(sample_episode(task, "in_domain", 0, obstacle=False))
    assert scores[0].score == 0.0
    first = [next(i for i, score in enumerate(scores) if score.stages[stage]) for stage in STAGES]
    assert first == sorted(set(first))
    assert scores[-1].success
    assert (scores[-1].score, scores[-1].transit, scores[-1].interaction) == (1.0, 1.0, 1.0)
    assert scores[-1].sub_stage == "done"


@pytest.mark.parametrize(
    ("until", "stages", "transit", "interaction"),
    [("close", 1, 1.0, 0.0), ("carry", 2, 0.5, 1.0), ("release", 3, 1.0, 0.5)],
)
def test_what_was_not_done_is_not_scored(until: str, stages: int, transit: float, interaction: float) -> None:
    score = demonstrate(sample_episode("pick_fruit", "in_domain", 0, obstacle=False), until=until)[-1]
    assert list(score.stages.values()) == [i < stages for i in range(4)]
    assert score.score == stages / 4
    assert (score.transit, score.interaction) == (transit, interaction)
    assert not score.success


def test_an_idle_arm_scores_nothing() -> None:
    spec = sample_episode("pick_fruit", "in_domain", 1, obstacle=False)
    with open_cell(spec) as cell:
        scorer = Scorer(spec, cell)
        for _ in range(5):
            cell.step(0.1)
            score = scorer.update()
    assert (score.score, score.transit, score.interaction) == (0.0, 0.0, None)
    assert score.sub_stage == f"reaching for {spec.target_phrase}"


def test_knocking_something_tall_over_costs_what_follows() -> None:
    spec = sample_episode("pick_fruit", "in_domain", 0, obstacle=True)
    score = demonstrate(spec, tweak="topple")[-1]
    assert score.failure == f"knocked over the {spec.obstacle_name}"
    assert list(score.stages.values()) == [True, True, False, False]


def test_near_goal_starts_with_the_target_in_hand() -> None:
    spec = sample_episode("stack_cans", "in_domain", 2, start="near_goal", obstacle=False)
    with open_cell(spec) as cell:
        assert cell.grasped(spec.target_name, spec.arm)
        assert upright_cos(cell, spec.target_name) > 0.98
        score = Scorer(spec, cell).update()
    assert score.stages["grasp"]
    assert score.interaction in (None, 0.0)
