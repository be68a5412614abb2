"""The cell against a clock: trajectories are followed, stalls made up for, states logged and rendered again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from harmowam_core.cell import load_cell
from harmowam_core.stages import JointTrajectory
from harmowam_sim.environments import sample_episode
from harmowam_sim.live import CATCH_UP_S, LiveCell, is_behind
from harmowam_sim.replay_render import replay_frames
from harmowam_sim.state_log import StateLog, StateLogError

CELL = load_cell()
SPEC = sample_episode("pick_fruit", "in_domain", 1)
START_S = 1_700_000_000.0


@pytest.fixture
def live():
    cell = LiveCell(SPEC, CELL)
    cell.start(START_S)
    yield cell
    cell.close()


def trajectory(live, target, duration_s, stamp_s=0.0):
    """From rest to rest for the arm's joints, two points."""
    zeros = np.zeros((2, 14))
    positions = np.stack([live.sim.arm_positions, target])
    return JointTrajectory(round(stamp_s * 1e9), CELL.arm_joint_names, np.array([1e-3, duration_s]), positions, zeros, zeros)


def run(live, start_s, end_s, tick_s=0.01):
    for now_s in np.arange(start_s, end_s + 1e-9, tick_s):
        live.advance(now_s)


def test_rests_until_commanded_then_follows_and_holds(live):
    start = live.sim.arm_positions
    run(live, START_S, START_S + 0.5)
    assert live.sim.arm_positions == pytest.approx(start, abs=2e-3)
    target = start + 0.1
    live.arm_driver.accept(trajectory(live, target, 0.8), START_S + 0.5)
    worst = 0.0
    for now_s in np.arange(START_S + 0.5, START_S + 1.5, 0.01):
        live.advance(now_s)
        worst = max(worst, np.abs(live.sim.arm_positions - live.arm_driver.sample(now_s)[0]).max())
    assert worst < 5e-3
    run(live, START_S + 1.5, START_S + 2.0)
    assert live.sim.arm_positions == pytest.approx(target, abs=2e-3)


def test_a_frozen_joint_stays_and_the_others_follow(live):
    start = live.sim.arm_positions.copy()
    live.freeze((CELL.arm_joint_names[1],))
    live.arm_driver.accept(trajectory(live, start + 0.1, 0.8), START_S)
    run(live, START_S, START_S + 1.5)
    moved = live.sim.arm_positions - start
    assert abs(moved[1]) < 5e-3 and np.delete(moved, 1) == pytest.approx(0.1, abs=5e-3)
    live.freeze(())
    run(live, START_S + 1.5, START_S + 2.0)
    assert live.sim.arm_positions[1] == pytest.approx(start[1] + 0.1, abs=5e-3)
    with pytest.raises(ValueError, match="no arm joint"):
        live.freeze(("elbow",))


def test_coarse_ticks_follow_as_well_as_fine_ones():
    poses = []
    for tick_s in (0.002, 0.1):
        live = LiveCell(SPEC, CELL)
        live.start(0.0)
        live.arm_driver.accept(trajectory(live, live.sim.arm_positions + 0.2, 0.6), 0.0)
        run(live, 0.0, 0.4, tick_s)
        poses.append(live.sim.arm_positions)
        live.close()
    assert poses[0] == pytest.approx(poses[1], abs=3e-3)


def test_what_was_sent_while_the_cell_stood_still_is_followed_from_its_time():
    """An arm's driver would not have been late."""
    arms = []
    for stalls in (False, True):
        cell = LiveCell(sample_episode("pick_fruit", "in_domain", 3), CELL)
        cell.start(START_S)
        start = cell.sim.arm_positions.copy()
        for k in range(5):
            sent_s = START_S + 0.1 * k
            now_s = START_S + 0.45 if stalls else sent_s
            ahead = trajectory(cell, start + 0.02 * (k + 1), 0.2, sent_s)
            cell.arm_driver.accept(ahead, cell.reach(sent_s, now_s))
        cell.advance(START_S + 0.45)
        arms.append(cell.sim.arm_positions)
        cell.close()
    assert arms[1] == pytest.approx(arms[0], abs=2e-3)
    assert np.abs(arms[0] - start).max() > 0.05


def test_grippers_follow_their_own_trajectories(live):
    points = np.array([[0.02, 0.04]])
    zeros = np.zeros((1, 2))
    live.gripper_driver.accept(JointTrajectory(0, CELL.finger_joint_names, np.array([0.3]), points, zeros, zeros), START_S)
    run(live, START_S, START_S + 1.0)
    assert live.sim.openings == pytest.approx([0.5, 1.0], abs=0.03)


def test_keeps_up_with_the_clock_but_not_with_a_stall(live):
    run(live, START_S, START_S + 1.0)
    assert live.achieved_factor == pytest.approx(1.0, abs=0.02) and not is_behind(live.achieved_factor, 1.0)
    live.advance(START_S + 3.0)
    assert live.sim.time_s == pytest.approx(1.0 + CATCH_UP_S, abs=0.02)
    assert is_behind(live.achieved_factor, 1.0)


def test_slow_motion_slows_physics_only():
    live = LiveCell(SPEC, CELL, factor=0.5)
    live.start(0.0)
    target = live.sim.arm_positions + 0.05
    live.arm_driver.accept(trajectory(live, target, 1.0), 0.0)
    run(live, 0.0, 1.2)
    assert live.sim.time_s == pytest.approx(0.6, abs=0.01)
    assert live.sim.arm_positions == pytest.approx(target, abs=3e-3)
    live.close()


def test_scores_are_json(live):
    run(live, START_S, START_S + 0.2)
    score = json.loads(json.dumps(live.score()))
    assert score["success"] is False and score["score"] == 0.0 and score["instruction"] == SPEC.instruction
    assert set(score["stages"]) == {"reach", "grasp", "carry", "place"} and score["seed"] == 1


def test_logged_episodes_render_as_they_looked(live, tmp_path):
    seen = []
    for k in range(3):
        run(live, START_S + 0.1 * k, START_S + 0.1 * (k + 1))
        live.record(k)
        seen.append(live.pictures()["scene"].astype(int))
        live.arm_driver.accept(trajectory(live, live.sim.arm_positions + 0.1, 0.3), START_S + 0.1 * (k + 1))
    live.log.save(tmp_path / "sub" / "states.npz")
    frames = list(replay_frames(StateLog.load(tmp_path / "sub" / "states.npz"), "scene", (128, 160)))
    assert [stamp for stamp, _ in frames] == [0, 1, 2]
    for original, (_, frame) in zip(seen, frames, strict=True):
        assert frame.shape == (128, 160, 3)
        assert np.abs(original - frame).mean() < 3  # edges are smoothed
    assert np.abs(seen[0] - frames[2][1]).mean() > np.abs(seen[2] - frames[2][1]).mean()


def test_what_is_no_log_is_named(tmp_path):
    path = tmp_path / "states.npz"
    with pytest.raises(StateLogError, match=r"states\.npz"):
        StateLog.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(StateLogError, match=r"states\.npz"):
        StateLog.load(path)
    np.savez(path, qpos=np.zeros((1, 3)))
    with pytest.raises(StateLogError, match=r"states\.npz"):
        StateLog.load(path)
    np.savez(
        path, qpos=np.array([{}], dtype=object), task=np.array("a"), environment=np.array("b"), seed=np.array(0), stamps_ns=np.zeros(1)
    )
    with pytest.raises(StateLogError, match=r"states\.npz"):
        StateLog.load(path)
    other = StateLog("pick_fruit", "in_domain", 1, [0], [np.zeros(5)])
    with pytest.raises(StateLogError, match="5 numbers"):
        next(replay_frames(other, "scene", (8, 8)))


def test_a_start_near_the_goal_keeps_hold_of_the_object() -> None:
    spec = sample_episode("pick_fruit", "in_domain", 1_000_003, start="near_goal")
    live = LiveCell(spec, load_cell())
    try:
        live.start(0.0)
        live.advance(0.5)
        assert live.sim.grasped(spec.target_name, spec.arm)
        assert live.score()["stages"]["grasp"]
    finally:
        live.close()
