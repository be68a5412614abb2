"""Closed loop with the weights that ship: the models, the arbiter and the physics together solve the task they were shown."""

from __future__ import annotations

from collections import Counter

import pytest

from harmowam_core.cell import Cell
from harmowam_core.stages import JointState
from harmowam_core.status import Reason
from harmowam_gate.arbiter import Arbiter
from harmowam_sim.environments import EpisodeSpec, UnusableSeedError, sample_episode
from harmowam_sim.live import LiveCell
from harmowam_sim.splits import EVALUATION_SEED_START
from harmowam_training.evaluate import Batch, run_batch
from harmowam_training.lockstep import Episode
from harmowam_training.policies import load_policy


def run(policy: str, seeds: range, time_limit_s: float) -> list[Episode]:
    specs = [sample_episode("pick_fruit", "in_domain", EVALUATION_SEED_START + seed, obstacle=False) for seed in seeds]
    return load_policy(policy, "compact").run(specs, time_limit_s)


def test_harmowam_puts_fruit_on_plates() -> None:
    """The published share is far higher; a broken model, arbiter or contact reaches none."""
    episodes = run("harmowam", range(4), 25.0)
    assert sum(e.score.success for e in episodes) >= 2, [(e.spec.instruction, e.score) for e in episodes]
    chunks = sum((e.chunks for e in episodes), Counter())
    assert not chunks[Reason.OUT_OF_ORDER] and chunks[Reason.NONE] > 0.95 * chunks.total(), chunks
    solved = [e for e in episodes if e.score.success]
    assert all(e.score.score == 1 and e.score.transit == 1 and e.score.interaction == 1 and 4 < e.duration_s < 25 for e in solved)


def test_an_episode_repeats_exactly() -> None:
    first, second = (run("scripted_transit", range(1), 2.0)[0].live.sim.arm_positions for _ in range(2))
    assert first.tolist() == second.tolist()


def test_joint_states_that_cannot_be_used_are_refused_and_hold_the_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    live, bad_ns = LiveCell.joint_state, range(1_500_000_000, 1_550_000_000)

    def joint_state(self: LiveCell, stamp_ns: int) -> JointState:
        state = live(self, stamp_ns)
        if stamp_ns in bad_ns:
            state.positions[-1] = 0.05
        return state

    monkeypatch.setattr(LiveCell, "joint_state", joint_state)
    refused: list[str] = []
    told = Arbiter.on_bad_joint_state
    monkeypatch.setattr(Arbiter, "on_bad_joint_state", lambda self, error: (refused.append(str(error)), told(self, error)))
    (episode,) = run("scripted_transit", range(1), 1.0)
    assert len(refused) == 1 and "fingers are at [0.04, 0.05] m" in refused[0], refused
    assert episode.duration_s == pytest.approx(1.0)
    assert "joint states at 0.050, limit 0.045" in episode.arbiter.latched


def test_a_seed_that_cannot_start_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = EVALUATION_SEED_START + 1

    def live_cell(spec: EpisodeSpec, cell: Cell) -> LiveCell:
        if spec.seed == bad:
            raise UnusableSeedError("no free place near the goal")
        return LiveCell(spec, cell)

    monkeypatch.setattr("harmowam_training.lockstep.LiveCell", live_cell)
    seeds = (bad - 1, bad)
    results = run_batch(
        Batch("scripted_transit", "pick_fruit", "in_domain", "near_goal", seeds, "compact", None, "a digest", 0.3, "a commit")
    )
    assert [(r.seed, r.unusable) for r in results] == [(bad - 1, ""), (bad, "no free place near the goal")]
    with pytest.raises(UnusableSeedError, match="no free place"):
        run("scripted_transit", range(1, 2), 0.3)
