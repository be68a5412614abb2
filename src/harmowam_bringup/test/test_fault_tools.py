"""What the fault catalogue is made of, without a graph: misbehaviour, motion, resources, summaries."""

from __future__ import annotations

import copy
import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from harmowam_bringup.faults import misbehaviour
from harmowam_bringup.faults.bench import summarise
from harmowam_bringup.faults.catalogue import SCENARIOS
from harmowam_bringup.faults.misbehaviour import MISBEHAVIOURS
from harmowam_bringup.faults.motion import AHEAD_M, RADIUS_M, circling
from harmowam_bringup.faults.resources import FEWEST, WARM_UP_S, Resources, Sample
from harmowam_bringup.faults.scenario import Measured
from harmowam_core.cell import load_cell
from harmowam_core.messages import chunk_from_message, chunk_to_message
from harmowam_core.stages import Expert, StageError

CELL = load_cell()
CHUNK = chunk_to_message(circling(CELL, Expert.REACTIVE, 10**18, 5))


def test_every_row_of_the_catalogue_has_a_scenario() -> None:
    assert {kind.row for kind in SCENARIOS} == set(range(1, 26))
    assert len({kind.name for kind in SCENARIOS}) == len(SCENARIOS)


def test_the_documentation_has_every_scenario() -> None:
    text = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
    assert [kind.name for kind in SCENARIOS if f"| {kind.row} | `{kind.name}` | {kind.fault} |" not in text] == []


def test_the_circle_is_round_and_all_experts_agree() -> None:
    early = circling(CELL, Expert.REACTIVE, 10**18, 5)
    late = circling(CELL, Expert.PREDICTIVE, 10**18 + 200_000_000, 6)
    assert late.positions[:10] == pytest.approx(early.positions[2:], abs=1e-5)
    centre = np.add(CELL.arms[0].home_tcp_position, (AHEAD_M, 0, 0))
    assert np.linalg.norm(early.positions[:, 0] - centre, axis=-1) == pytest.approx(RADIUS_M, abs=1e-5)
    assert early.positions[:, 1] == pytest.approx(np.tile(CELL.arms[1].home_tcp_position, (12, 1)))


@pytest.mark.parametrize("how", ["nan", "inf", "nan_turn", "nan_gripper", "nan_period", "cut_short", "no_grippers", "backwards"])
def test_what_is_malformed_cannot_be_decoded(how: str) -> None:
    sent = MISBEHAVIOURS[how](copy.deepcopy(CHUNK), deque(), 0) or []
    with pytest.raises(StageError):
        chunk_from_message(sent[0])
    chunk_from_message(CHUNK)


def test_old_messages_come_again_once_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misbehaviour.time, "monotonic", lambda: 100.0)
    old = copy.deepcopy(CHUNK)
    old.chunk_id = 1
    for how in ("replayed", "restamped"):
        assert MISBEHAVIOURS[how](copy.deepcopy(CHUNK), deque([(90.0, old)]), 0) is None
        [sent] = MISBEHAVIOURS[how](copy.deepcopy(CHUNK), deque([(84.0, old), (95.0, CHUNK)]), 0) or []
        assert sent.chunk_id == 1 and sent is not old
    assert [sent.chunk_id for sent in MISBEHAVIOURS["reordered"](CHUNK, deque([(99.0, old)]), 0) or []] == [5, 1]


def samples(memory_mb: float, growth_mb: float, threads: int = 10) -> list[Sample]:
    """Of one process over ten minutes."""
    return [Sample(time_s, time_s, memory_mb + growth_mb * time_s / 600, threads) for time_s in range(0, 600, 5)]


def test_a_leak_is_told_from_warming_up() -> None:
    resources = Resources()
    resources.samples = {
        "flat": [Sample(s.time_s, s.age_s, 150.0 if s.age_s > WARM_UP_S else 100.0, 10) for s in samples(0, 0)],
        "leaks": samples(100.0, 10.0),
        "threads": samples(100, 0)[:60] + samples(100, 0, threads=11)[60:],
        "young": samples(100, 0)[: FEWEST - 1],
    }
    verdict = resources.verdict()
    assert {name: one["flat"] for name, one in verdict.items()} == {"flat": True, "leaks": False, "threads": False, "young": None}
    assert verdict["leaks"]["memory_drift"] == pytest.approx(0.066, abs=0.01)


def test_this_process_is_sampled_and_a_dead_one_is_left_out() -> None:
    resources = Resources()
    resources.sample({"this": os.getpid(), "dead": 2**22 + 1})
    assert list(resources.samples) == ["this"] and resources.samples["this"][0].memory_mb > 10


def test_a_row_is_well_with_one_late_in_a_hundred_but_none_wrong() -> None:
    [scenario] = [kind() for kind in SCENARIOS if kind.name == "arm_stuck"]

    def measured(reaction_s: float | None, *complaints: str, stolen_s: float = 0.0) -> Measured:
        return Measured(11, "arm_stuck", "", 0.1, reaction_s, "", complaints, stolen_s)

    in_time = [measured(0.05)] * 99
    [row] = summarise([scenario], [*in_time, measured(0.2)])
    assert row["ok"] and row["late"] == 1 and row["n"] == 100 and row["max_ms"] == 200 and row["p50_ms"] == 50 and row["bound_ms"] == 100
    assert not summarise([scenario], [*in_time[:50], measured(0.2)])[0]["ok"]
    slow_host = measured(0.2, stolen_s=0.15)
    [row] = summarise([scenario], [measured(0.05, stolen_s=0.15), measured(0.2), slow_host])
    assert row["stolen"] == 1 and row["late"] == 2 and not row["ok"]
    assert "150 ms" in slow_host.says
    assert not summarise([scenario], [*in_time, measured(None, "no reaction")])[0]["ok"]
    assert "200.0 ms, bound 100 ms" in measured(0.2, "and more").says and not measured(0.05).says
