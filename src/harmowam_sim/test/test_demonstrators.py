"""Demonstrators, recoveries and the recording of them."""

import numpy as np
import pytest

from harmowam_sim.cell import SimCell
from harmowam_sim.demonstrators import Demonstrator, Rollout, open_cell, rollout
from harmowam_sim.environments import kinematics, sample_episode
from harmowam_sim.recovery import MAX_RECOVERY_STEPS, RecoveryDemonstrator, rollout_recovery, sample_recovery
from harmowam_sim.servo import CONTROL_PERIOD_S, EndEffectorCommand, EndEffectorServo, UnreachableError
from harmowam_sim.splits import ENVIRONMENTS, EVALUATION_SEED_START, TASKS

FASTEST_M_S = 0.24  # 0.22 of the fastest style, and what the servo overshoots


def show(task: str, environment: str, seed: int, cameras: tuple[str, ...] = ()) -> Rollout:
    spec = sample_episode(task, environment, seed)
    return rollout(Demonstrator(spec, np.random.default_rng(seed)), spec, cameras=cameras)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("task", TASKS)
def test_demonstrators_succeed_everywhere(task: str, environment: str) -> None:
    # Two fixed episodes each; the module's command measures the rate over many.
    for seed in range(2):
        result = show(task, environment, EVALUATION_SEED_START + seed)
        assert result.success
        assert 80 <= len(result) <= 160


def test_a_rollout_holds_what_a_policy_may_see_and_what_was_commanded() -> None:
    result = show("pick_fruit", "in_domain", 0, cameras=("scene", "wrist_left"))
    steps = len(result)
    assert result.frames["scene"].shape == (steps, 64, 80, 3)
    assert result.frames["wrist_left"].shape == (steps, 48, 48, 3)
    assert result.arm_positions.shape == (steps, 14)
    assert result.positions.shape == result.commanded_positions.shape == (steps, 2, 3)
    assert result.orientations.shape == (steps, 2, 4)
    assert result.openings.shape == result.commanded_openings.shape == (steps, 2)
    assert len(result.phases) == len(result.instructions) == steps
    assert result.kind == "demonstration"
    assert not result.masked.any()
    forward, _ = kinematics().forward(result.arm_positions[steps // 2])
    np.testing.assert_allclose(forward, result.positions[steps // 2], atol=1e-4)
    # Open on the way, closed while it carries, open in the end; the other arm rests.
    carrying = np.array([phase == "carry" for phase in result.phases])
    assert (result.commanded_openings[carrying, 0] == 0.0).all()
    assert (result.openings[carrying, 0] > 0.2).all()
    assert result.openings[0, 0] > 0.95 < result.openings[-1, 0]
    assert np.ptp(result.positions[:, 1], axis=0).max() < 1e-3


def test_motion_is_smooth_and_as_slow_as_people_move() -> None:
    for task in TASKS:
        result = show(task, "in_domain", 4)
        speeds = np.linalg.norm(np.diff(result.positions[:, 0], axis=0), axis=1) / CONTROL_PERIOD_S
        assert 0.10 < speeds.max() < FASTEST_M_S
        assert np.abs(np.diff(speeds)).max() < 0.11
        lag = np.linalg.norm(result.commanded_positions[:-1, 0] - result.positions[1:, 0], axis=1)
        assert np.median(lag) < 0.004


def test_a_rollout_follows_from_its_seed_and_styles_differ() -> None:
    first, again, other = (show("pick_fruit", "in_domain", seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.positions, again.positions)
    assert len(first) != len(other) or not np.allclose(first.positions, other.positions)


@pytest.mark.parametrize("seed", range(4))
def test_recoveries_start_off_the_way_and_get_there(seed: int) -> None:
    spec = sample_recovery("pick_fruit", seed)
    result = rollout_recovery(spec, np.random.default_rng(seed), cameras=())
    assert result.success
    assert result.kind == "recovery"
    assert len(result) <= MAX_RECOVERY_STEPS
    assert result.masked.mean() < 0.5
    goal = np.array(next(thing.position for thing in spec.scene.objects if thing.name == (spec.target_name, spec.goal_name)[seed % 2]))
    assert np.hypot(*(result.positions[0, 0] - goal)[:2]) < 0.13
    assert (result.openings[0, 0] < 0.9) == (spec.start == "near_goal")


def test_kicks_are_masked_and_nothing_else_moves_as_fast() -> None:
    results = [rollout_recovery(sample_recovery("stack_cans", seed), np.random.default_rng(seed), cameras=()) for seed in range(4)]
    masked = np.concatenate([result.masked for result in results])
    assert 0 < masked.mean() < 0.4
    steps = [np.linalg.norm(np.diff(result.positions[:, 0], axis=0), axis=1) for result in results]
    free = [step[~result.masked[:-1] & ~np.roll(result.masked, 1)[:-1]] for step, result in zip(steps, results, strict=True)]
    assert np.concatenate(free).max() < FASTEST_M_S * CONTROL_PERIOD_S


def test_recovery_takes_training_seeds_alone() -> None:
    with pytest.raises(ValueError, match="not a training seed"):
        sample_recovery("pick_fruit", EVALUATION_SEED_START)


def test_a_premature_close_is_masked_and_its_repair_is_not() -> None:
    for seed in range(0, 40, 2):
        spec = sample_recovery("pick_fruit", seed)
        agent = RecoveryDemonstrator(spec, np.random.default_rng(seed))
        if agent.will_close_early:
            break
    result = rollout_recovery(spec, np.random.default_rng(seed), cameras=())
    phases = np.array(result.phases)
    first_close = int(np.argmax(phases == "close"))
    assert result.masked[first_close]
    reopening = phases == "reopen"
    assert reopening.any()
    assert not result.masked[reopening].any()
    assert result.success


def test_a_fruit_that_rolled_over_is_still_picked() -> None:
    episodes = (sample_episode("pick_fruit", "in_domain", seed, obstacle=False) for seed in range(60))
    spec = next(episode for episode in episodes if episode.target_name == "purple plum")
    with open_cell(spec) as cell:
        joint = cell.model.joint(spec.target_name)
        x, y, _ = cell.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 3]
        tilt = 1.4
        cell.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7] = [x, y, 0.025, np.cos(tilt / 2), np.sin(tilt / 2), 0.0, 0.0]
        cell.step(0.5)
        agent, servo = Demonstrator(spec, np.random.default_rng(0)), EndEffectorServo(cell, kinematics())
        while agent.phase != "carry":
            servo.move(agent.act(cell))
            assert cell.time_s < 12.0
        assert cell.grasped(spec.target_name, spec.arm)


def test_unreachable_targets_are_named() -> None:
    spec = sample_episode("pick_fruit", "in_domain", 0)
    with open_cell(spec) as cell:
        positions, orientations = cell.tcp_pose()
        far = EndEffectorCommand(positions + np.array([[0.6, 0.0, 0.0], [0.0, 0.0, 0.0]]), orientations, np.ones(2))
        with pytest.raises(UnreachableError, match="'left' cannot reach"):
            EndEffectorServo(cell, kinematics()).move(far)


def test_a_target_out_of_reach_ends_the_rollout_and_is_named() -> None:
    class Stretcher(Demonstrator):
        def act(self, cell: SimCell) -> EndEffectorCommand:
            command = super().act(cell)
            command.positions[0, 0] += 0.7
            return command

    spec = sample_episode("pick_fruit", "in_domain", 0)
    result = rollout(Stretcher(spec, np.random.default_rng(0)), spec, cameras=())
    assert len(result) == 1
    assert not result.success
    assert "'left' cannot reach" in str(result.failure)
