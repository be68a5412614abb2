"""Closed loop with the weights that ship: the models, the arbiter and the physics together solve the task they were shown."""

from __future__ import annotations

from harmowam_sim.environments import EVALUATION_SEED_START, sample_episode
from harmowam_training.lockstep import Episode
from harmowam_training.policies import load_policy


def run(policy: str, seeds: range, time_limit_s: float) -> list[Episode]:
    specs = [sample_episode("pick_fruit", "in_domain", EVALUATION_SEED_START + seed, obstacle=False) for seed in seeds]
    return load_policy(policy, "compact").run(specs, time_limit_s)


def test_harmowam_puts_fruit_on_plates() -> None:
    """The published share is far higher; a broken model, arbiter or contact reaches none."""
    episodes = run("harmowam", range(4), 25.0)
    assert sum(e.score.success for e in episodes) >= 2, [(e.spec.instruction, e.score) for e in episodes]
    solved = [e for e in episodes if e.score.success]
    assert all(e.score.score == 1 and e.score.transit == 1 and e.score.interaction == 1 and 4 < e.duration_s < 25 for e in solved)


def test_an_episode_repeats_exactly() -> None:
    first, second = (run("scripted_transit", range(1), 2.0)[0].live.sim.arm_positions for _ in range(2))
    assert first.tolist() == second.tolist()
