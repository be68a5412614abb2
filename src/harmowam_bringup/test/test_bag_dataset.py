"""Training sets and labels from recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bag_writers import by_mcap
from demonstration import CELL, CLOSES_S, CONTRACT, KINEMATICS, OPENS_S, START_NS, WORDS, demonstration, joints, opening
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Float64MultiArray, String
from typer.testing import CliRunner

from harmowam_bringup.bags.graph_recorder import SCORE
from harmowam_bringup.bags.rows import Pace
from harmowam_bringup.cli import app
from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.messages import task_to_message
from harmowam_core.status import Task
from harmowam_gate.labels import interaction_labels
from harmowam_training.dataset import load_corpus, split_paths

SCENE = CONTRACT.observation.images["scene"].topic
run = CliRunner().invoke


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return by_mcap(tmp_path_factory.mktemp("bags") / "good.mcap", demonstration())


def convert(out: Path, *words: str | Path) -> tuple[int, dict[str, object], str]:
    """Exit code, report, text."""
    result = run(app, ["dataset", "from-bags", *map(str, words), "--out", str(out), "--json", str(out.parent / "report.json")])
    report = out.parent / "report.json"
    return result.exit_code, json.loads(report.read_text()) if result.exit_code == 0 else {}, result.output


def test_a_demonstration_becomes_a_rollout_that_training_reads(bag: Path, tmp_path: Path) -> None:
    code, report, output = convert(tmp_path / "set", bag)
    assert code == 0, output
    assert report["rollouts"] == {"pick_fruit": 1}
    training, validation = split_paths(tmp_path / "set", ["demonstration_pick_fruit"], 0.1)
    corpus = load_corpus(training + validation)
    assert corpus.instructions == (WORDS,) and corpus.kinds == ("demonstration",) and not corpus.masked.any()
    assert corpus.scene.shape[1:] == (64, 80, 3) and corpus.wrists is not None and corpus.wrists.shape[1:] == (2, 48, 48, 3)
    assert 108 <= len(corpus) <= 111  # 0.5 s to 11.5 s at 10 Hz
    times = corpus.scene[:, 0, 0, 0] / 20  # images tell the time, to 0.05 s
    assert np.allclose(np.diff(times), 0.1, atol=0.0501) and np.abs(corpus.wrists[:, 0, 0, 0, 0] / 20 - times).max() <= 0.0501
    expected = np.array([KINEMATICS.forward(joints(time))[0] for time in 0.5 + 0.1 * np.arange(len(corpus))])
    assert np.abs(corpus.position - expected).max() < 0.02
    told = [opening(time + 0.09) for time in 0.5 + 0.1 * np.arange(len(corpus))]
    assert np.abs(corpus.commanded[:, 0] - told).sum() <= 2 and corpus.commanded[:, 1].min() == 1.0
    assert corpus.opening[:, 0].min() == pytest.approx(0.4)
    labels = interaction_labels(corpus.commanded, corpus.position)
    assert 0.2 < labels.mean() < 0.7


def test_what_is_left_out_is_said(bag: Path, tmp_path: Path) -> None:
    failed = by_mcap(tmp_path / "failed.mcap", demonstration(success=False))
    unscored = by_mcap(tmp_path / "unscored.mcap", demonstration(success=None, camera_hz=10.0))
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[: bag.stat().st_size // 2])
    (tmp_path / "junk.mcap").write_text("junk")
    code, report, output = convert(tmp_path / "set", failed, unscored, cut, tmp_path / "junk.mcap", bag)
    assert code == 0, output
    left_out = {Path(item["bag"]).stem: {(p["trouble"], p["text"]) for p in item["problems"]} for item in report["bags"]}
    assert ("left out", "the task was not completed") in left_out["failed"]
    assert any("--successful" in text for _, text in left_out["unscored"])
    assert {"truncated"} <= {trouble for trouble, _ in left_out["cut"]}
    assert [trouble for trouble, _ in left_out["junk"]] == ["damaged"]
    assert [len(item["rollouts"]) for item in report["bags"]] == [0, 0, 0, 0, 1]
    assert ("left out", "nobody had given a task") in left_out["good"]
    code, report, _ = convert(tmp_path / "other", unscored, "--successful", "--task", "pick_fruit")
    assert code == 0 and report["rollouts"] == {"pick_fruit": 1}
    assert convert(tmp_path / "other", bag)[0] == 2 and convert(tmp_path / "third", failed)[0] == 2


def test_a_task_given_again_is_judged_for_itself(tmp_path: Path) -> None:
    again_ns = START_NS + round(5.5e9)
    again = (CONTRACT.observation.instruction.topic, again_ns, task_to_message(Task(again_ns, 2, WORDS)))
    items = sorted([*demonstration(camera_hz=10.0), again], key=lambda item: item[1])
    code, report, output = convert(tmp_path / "set", by_mcap(tmp_path / "again.mcap", items))
    assert code == 0, output
    [stored] = report["bags"][0]["rollouts"]
    assert stored["start_s"] == pytest.approx(5.5, abs=0.11) and 58 <= stored["rows"] <= 61
    assert ("the task was not completed", WORDS) in {(p["text"], p["topic"]) for p in report["bags"][0]["problems"]}


def test_topics_of_other_types_are_named_and_do_without(tmp_path: Path) -> None:
    other = {
        CONTRACT.observation.instruction.topic: String(),
        CONTRACT.action.openings.topic: Float64MultiArray(),
        SCORE: Float64MultiArray(),
    }
    items = [(topic, time_ns, other.get(topic, message)) for topic, time_ns, message in demonstration(camera_hz=10.0)]
    bag = by_mcap(tmp_path / "other.mcap", [*items, (topics.GATE_STATE, items[-1][1], String())])
    code, report, output = convert(tmp_path / "set", bag, "--successful", "--instruction", WORDS)
    assert code == 0, output
    assert {p["topic"]: p["text"].split(", ")[1] for p in report["bags"][0]["problems"] if p["trouble"] == "refused"} == {
        CONTRACT.observation.instruction.topic: "expected harmowam_msgs/msg/Task",
        CONTRACT.action.openings.topic: "expected trajectory_msgs/msg/JointTrajectory",
        SCORE: "expected std_msgs/msg/String",
    }
    result = run(app, ["labels", str(bag)])
    assert result.exit_code == 0 and "refused  /harmowam/gate/state" in result.output, result.output


def test_gaps_end_a_rollout_and_missing_topics_are_named(tmp_path: Path) -> None:
    items = [item for item in demonstration(success=None) if not (item[0] == SCENE and 5.0 < (item[1] - START_NS) / 1e9 < 5.6)]
    items = [item for item in items if item[0] != CONTRACT.action.openings.topic]
    code, report, output = convert(tmp_path / "set", by_mcap(tmp_path / "gap.mcap", items), "--successful")
    assert code == 0, output
    assert report["rollouts"] == {"recorded": 2}
    problems = {(problem["trouble"], problem["topic"]) for problem in report["bags"][0]["problems"]}
    assert {("gap", SCENE), ("topic missing", CONTRACT.action.openings.topic)} <= problems


def test_a_gap_does_not_undo_a_success(tmp_path: Path) -> None:
    items = [item for item in demonstration() if not (item[0] == SCENE and 10.0 < (item[1] - START_NS) / 1e9 < 10.6)]
    code, report, output = convert(tmp_path / "set", by_mcap(tmp_path / "gap.mcap", items))
    assert code == 0, output
    assert report["rollouts"] == {"pick_fruit": 1}  # what comes before the gap; what comes after it is too short
    left_out = [problem["text"] for problem in report["bags"][0]["problems"] if problem["topic"] == WORDS]
    assert len(left_out) == 1 and "shorter than 2.0 s" in left_out[0]


@given(st.lists(st.floats(0.001, 0.4), min_size=1, max_size=200))
def test_the_pace_is_a_period_or_says_so(intervals: list[float]) -> None:
    pace, picked = Pace(0.1), []
    stamp_ns = 0
    for interval in intervals:
        stamp_ns += round(interval * 1e9)
        picked += list(pace.see(stamp_ns, stamp_ns))
    picked += list(pace.end())
    stamps = [stamp for stamp, _, _ in picked]
    assert stamps == sorted(set(stamps))
    for before, (stamp, _, follows) in zip(stamps, picked[1:], strict=False):
        assert follows == (abs(stamp - before - 100_000_000) <= 50_000_000) and stamp - before >= 50_000_000


@pytest.mark.parametrize("hz", [10.0, 9.3, 30.0, 60.0])
def test_a_steady_camera_gives_unbroken_rows(hz: float) -> None:
    pace = Pace(0.1)
    jitter = np.random.default_rng(0).normal(0, 0.002, 300)
    picked = [row for k in range(300) for row in pace.see(round((k / hz + jitter[k]) * 1e9), 0)]
    assert all(follows for _, _, follows in picked[1:]) and len(picked) >= 0.9 * 300 / max(hz, 10.0) * 10.0 * 0.98


@pytest.mark.parametrize(("bad", "lost", "broken"), [((), 0, []), ((100,), 0, []), (range(100, 300), 1, [34])])
@pytest.mark.parametrize("jump_s", [-20, 3000])
def test_a_bad_stamp_costs_itself_and_a_set_clock_a_gap(bad: Sequence[int], lost: int, broken: list[int], jump_s: int) -> None:
    pace, picked = Pace(0.1), []
    for k in range(300):
        time_ns = START_NS + k * 10**9 // 30
        picked += list(pace.see(time_ns + (k in bad) * jump_s * 10**9, time_ns))
    picked += list(pace.end())
    assert 101 - lost <= len(picked) <= 101
    assert [k for k, (_, _, follows) in enumerate(picked) if k and not follows] == broken


def test_a_clock_that_was_set_back_ends_a_rollout_and_no_more(tmp_path: Path) -> None:
    items = demonstration(success=None, camera_hz=10.0)
    for _, time_ns, message in items:
        if time_ns > START_NS + 6 * 10**9 and hasattr(message, "header"):
            message.header.stamp.sec -= 30
    code, report, output = convert(tmp_path / "set", by_mcap(tmp_path / "set.mcap", items), "--successful")
    assert code == 0, output
    first, second = report["bags"][0]["rollouts"]
    assert first["rows"] + second["rows"] > 100
    assert {p["count"] for p in report["bags"][0]["problems"] if p["trouble"] == "out of order"} == {1}


def test_labels_are_shown_and_exported(bag: Path, tmp_path: Path) -> None:
    result = run(app, ["labels", str(bag), "--png", str(tmp_path / "l.png"), "--json", str(tmp_path / "l.json")])
    assert result.exit_code == 0, result.output
    assert "█" in result.output and "left gripper closes" in result.output
    assert (tmp_path / "l.png").read_bytes()[:4] == b"\x89PNG"
    found = json.loads((tmp_path / "l.json").read_text())
    closing, opening_event = found["events"]
    assert (closing["closes"], opening_event["closes"], closing["arm"]) == (True, False, "left")
    assert closing["time_s"] == pytest.approx(CLOSES_S, abs=0.15) and opening_event["time_s"] == pytest.approx(OPENS_S, abs=0.15)
    phases = [segment["phase"] for segment in found["segments"]]
    assert phases == ["transit", "interaction", "transit", "interaction", "transit"]
    for segment, event_s in ((found["segments"][1], CLOSES_S), (found["segments"][3], OPENS_S)):
        assert segment["start_s"] < event_s < segment["end_s"]
    assert found["gate"] is None and not found["problems"] and len(found["interaction"]) == len(found["times_s"]) == 120


def test_labels_need_joint_states(tmp_path: Path) -> None:
    images = [item for item in demonstration() if item[0] == SCENE][:5]
    result = run(app, ["labels", str(by_mcap(tmp_path / "a.mcap", images))])
    assert result.exit_code == 2 and "no usable joint states on /joint_states" in result.output
    assert "topic missing" in result.output


def test_the_hand_of_the_demonstration_moves_down(cell: Cell = CELL) -> None:
    heights = [KINEMATICS.forward(joints(time))[0][0, 2] for time in (0.0, CLOSES_S, 6.0, OPENS_S)]
    assert heights[0] - heights[1] > 0.15 and heights[2] - heights[3] > 0.1 and cell.arm_names[0] == "left"
