"""Offline evaluation of a recorded demonstration, and of damaged ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bag_writers import by_mcap
from sensor_msgs.msg import JointState
from typer.testing import CliRunner

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.demonstrations import demonstrate, write_demonstrations
from harmowam_bringup.cli import app
from harmowam_bringup.replay.command import Run
from harmowam_bringup.replay.measures import action_errors, image_errors, judge, summarise_actions, summarise_gate
from harmowam_bringup.replay.recorded import NothingToReplayError, number_tasks, onward_ns, read_recorded
from harmowam_bringup.replay.report import SHOWN_FRAMES, _picture
from harmowam_bringup.replay.stack import Digest, Stack
from harmowam_core.cell import load_cell
from harmowam_core.contract import load_contract
from harmowam_core.images import prepare_image
from harmowam_core.presets import Preset, load_preset
from harmowam_core.stages import ActionChunk, Expert
from harmowam_gate.labels import gripper_events
from harmowam_gate.pose_path import PosePath
from harmowam_sim.demonstrators import Rollout

CELL, CONTRACT, PRESET = load_cell(), load_contract(), load_preset("compact")


@pytest.fixture(scope="module")
def shown() -> Rollout:
    return demonstrate("pick_fruit", "in_domain", 0, CELL)


@pytest.fixture(scope="module")
def bag(shown: Rollout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demonstrations(tmp_path_factory.mktemp("bags") / "shown", [shown], CELL, CONTRACT)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack.load("compact", None)


def _without(monkeypatch: pytest.MonkeyPatch, drop: Callable[[str, int], bool]) -> None:
    """Readers of the bag miss messages: those of (topic, seconds since the start) that ``drop`` names."""
    real = Bag.messages

    def messages(self: Bag, *arguments: object, **options: object) -> Iterator[object]:
        for item in real(self, *arguments, **options):  # type: ignore[arg-type]
            if not drop(item.topic, (item.time_ns - self.started_ns) * 1e-9):
                yield item

    monkeypatch.setattr(Bag, "messages", messages)


def test_a_recording_is_what_was_shown(bag: Path, shown: Rollout) -> None:
    recorded = read_recorded(bag, CONTRACT, PRESET)
    assert len(recorded.observations) == len(shown) and recorded.problems == [] and (recorded.tasks == 1).all()
    for t in range(0, len(shown), 17):
        seen = recorded.observations[t]
        for camera, size in (("scene", PRESET.scene_size), ("wrist_left", PRESET.wrist_size), ("wrist_right", PRESET.wrist_size)):
            assert (seen.image(camera) == prepare_image(shown.frames[camera][t], size)).all()
        assert np.abs(recorded.executed.positions[t] - shown.positions[t]).max() < 1e-4
        assert seen.instruction == shown.instructions[0]
    assert (gripper_events(recorded.executed.grippers[:, 0].astype(np.float32)) == gripper_events(shown.commanded_openings[:, 0])).all()


def test_gaps_cost_their_observations_and_are_reported(bag: Path, shown: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, lambda topic, at_s: "wrist_left" in topic and 2 < at_s < 4)
    recorded = read_recorded(bag, CONTRACT, PRESET)
    [problem] = recorded.problems
    assert "wrist_left" in problem.text and 15 <= problem.count <= 20
    assert len(recorded.observations) == len(shown) - problem.count


def test_tasks_are_told_apart() -> None:
    given = [(0, ""), (1, "a"), (1, "a"), (0, ""), (1, "a"), (2, "a"), (2, "b"), (0, "")]
    assert number_tasks(given).tolist() == [0, 1, 1, 0, 2, 3, 4, 0]
    assert number_tasks([(0, "a")] * 3).tolist() == [1, 1, 1]  # by --instruction


def test_stamps_go_on_where_a_clock_was_set_back() -> None:
    assert onward_ns([(50, 0), (60, 11), (20, 20), (30, 31), (90, 40)]) == [50, 60, 69, 79, 139]


def test_missing_topics_are_named(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _without(patch, lambda topic, _: topic == "/harmowam/task")
        with pytest.raises(NothingToReplayError, match="--instruction"):
            read_recorded(bag, CONTRACT, PRESET)
        told = read_recorded(bag, CONTRACT, PRESET, instruction="put the green lime onto the plate")
        assert (told.tasks == 1).all() and "lime" in told.observations[-1].instruction
    _without(monkeypatch, lambda topic, _: "wrist_right" in topic)
    with pytest.raises(NothingToReplayError, match="0 usable") as raised:
        read_recorded(bag, CONTRACT, PRESET)
    assert any("wrist_right" in problem.text for problem in raised.value.problems)


def _chunk(executed: PosePath, source: Expert = Expert.REACTIVE) -> ActionChunk:
    k = slice(1, 13)
    arrays = (a[k].astype(np.float32) for a in (executed.positions, executed.orientations, executed.grippers))
    return ActionChunk(int(executed.times_ns[0]), 1, source, 0.1, CELL.arm_names, *arrays)


def test_errors_are_the_distances_from_what_was_executed(bag: Path) -> None:
    recorded = read_recorded(bag, CONTRACT, PRESET)
    assert [CELL.arm_names[arm] for arm in recorded.working] == ["left"]
    assert 0.1 < recorded.labels.mean() < 0.9
    chunk = _chunk(recorded.executed)
    same = action_errors(chunk, recorded.executed, recorded.working)
    assert same.position_m.max() < 1e-6 and same.rotation_rad.max() < 2e-3 and not same.gripper_wrong.any()
    beside = replace(chunk, positions=chunk.positions + np.float32([0.03, 0, 0.04]), grippers=1 - chunk.grippers)
    other = action_errors(beside, recorded.executed, recorded.working)
    np.testing.assert_allclose(other.position_m, 0.05, atol=1e-5)
    assert (other.gripper_wrong == 1).all()
    late = replace(chunk, stamp_ns=int(recorded.executed.times_ns[-4]))
    assert len(action_errors(late, recorded.executed, recorded.working).position_m) == 3


def test_nothing_is_invented_where_nothing_was_recorded(bag: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_recorded(bag, CONTRACT, PRESET)
    chunk = replace(_chunk(whole.executed), stamp_ns=int(whole.executed.times_ns[14]))
    _without(monkeypatch, lambda topic, at_s: topic == CONTRACT.observation.images["scene"].topic and 1.75 < at_s < 2.25)
    recorded = read_recorded(bag, CONTRACT, PRESET)
    lost = np.isin(chunk.stamp_ns + 100_000_000 * np.arange(1, 13), recorded.executed.times_ns, invert=True)
    assert lost.sum() == 5
    errors = action_errors(chunk, recorded.executed, recorded.working)
    for values in (errors.position_m, errors.rotation_rad, errors.gripper_wrong):
        assert (np.isnan(values) == lost).all()
    figures = summarise_actions([errors])
    assert figures["steps"] == 1 and figures["position_cm"] == pytest.approx(100 * np.nanmean(errors.position_m), abs=1e-3)
    some = replace(recorded, tasks=np.where(np.arange(len(recorded.tasks)) < 15, 1, 0))
    judged = judge(list(stack.run(some, 14, 0, 1))[-1], recorded, None)
    came = [frame is not None for frame in _picture(Run("", recorded, [judged], {}), 0)["came"]]
    assert came == [not np.isnan(judged.ssim[k - 1]) for k in SHOWN_FRAMES] == [True, False, True, True]


def test_image_errors_leave_out_what_did_not_come() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 64, 80, 3), dtype=np.uint8)
    psnr, ssim = image_errors(frames, [frames[0], None, 255 - frames[2]])
    assert psnr[0] == 99 and ssim[0] == pytest.approx(1) and np.isnan(psnr[1]) and np.isnan(ssim[1])
    assert psnr[2] < 10 and ssim[2] < 0.2


def test_replay_is_the_same_whatever_the_threads(bag: Path, stack: Stack) -> None:
    recorded = read_recorded(bag, CONTRACT, PRESET)
    some = replace(recorded, tasks=np.where(np.arange(len(recorded.tasks)) < 50, recorded.tasks, 0))
    digests, steps = [], []
    for threads in (1, 3):
        digest = Digest()
        steps = list(stack.run(some, 2, 0, threads))
        for step in steps:
            digest.add(step)
        digests.append(digest.hex())
    assert digests[0] == digests[1]
    assert [step.row for step in steps] == list(range(0, 50, 2))
    assert all(set(step.chunks) == set(Expert) for step in steps)
    other = Digest()
    for step in stack.run(some, 2, 1, 1):
        other.add(step)
    assert other.hex() != digests[0]


def test_a_failing_model_ends_the_run_with_its_error(bag: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = read_recorded(bag, CONTRACT, PRESET)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stack.world_model, "imagine", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(stack.run(recorded, 2, 0, 2))


def test_the_command_reports(bag: Path, tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["replay", str(bag), "--step", "0.6", "--out", str(tmp_path), "--json", str(tmp_path / "figures.json")])
    assert ran.exit_code == 0, ran.output
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["digest"]) == 64 and figures["realtime_factor"] > 0
    for name in ("predictive", "reactive", "chosen"):
        assert 0 < figures[f"{name}_error_m"] < 0.1  # weights that ship, a demonstration of the seen region
    assert figures["contract"] == "franka_dual"  # of the preset's cell
    assert figures["gate_accuracy"] > 0.8 and len(figures["imagination"]["ssim"]) == PRESET.horizon
    assert figures["auditor"] == {"trajectories": 3, "violations": 0, "by_rule": {}, "first": [], "problems": []}
    assert set(figures["gate"]["confusion"].values()) and sum(figures["gate"]["confusion"].values()) == figures["steps"]
    report = (tmp_path / "latest" / "report.html").read_text()
    assert "Decisive moments" in report and "gripper" in report and ": NaN" not in report


def test_several_runs_stand_side_by_side(bag: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, lambda topic, at_s: "wrist_left" in topic and 2 < at_s < 4)
    weights = PRESET.weights_dir()
    ran = CliRunner().invoke(
        app, ["replay", str(bag), "--weights", str(weights), "--weights", str(weights), "--step", "1", "--out", str(tmp_path)]
    )
    assert ran.exit_code == 0, ran.output
    runs = json.loads((tmp_path / "latest" / "replay.json").read_text())["runs"]
    assert len(runs) == 2 and runs[0]["digest"] == runs[1]["digest"]
    [problem] = runs[0]["problems"]
    at = f"{(problem['time_ns'] - runs[0]['started_ns']) / 1e9:.2f} s"
    assert at in ran.output and at in (tmp_path / "latest" / "report.html").read_text()


def test_a_bad_recording_does_not_cost_the_others(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.mcap").write_text("junk")
    state = JointState(name=["elbow"], position=[0.0], velocity=[0.0])
    other = by_mcap(tmp_path / "other.mcap", [(CONTRACT.observation.joints.topic, k, state) for k in range(3)])
    ran = CliRunner().invoke(app, ["replay", str(tmp_path / "junk.mcap"), str(bag), str(other), "--step", "3", "--out", str(tmp_path)])
    assert ran.exit_code == 1, ran.output
    assert "has 0 usable observations" in ran.output and "refused" in ran.output
    document = json.loads((tmp_path / "latest" / "replay.json").read_text())
    assert [run["bag"] for run in document["runs"]] == [str(bag)]
    junk, nameless = document["left_out"]
    assert "is not a readable rosbag2" in junk["error"] and nameless["bag"] == str(other)
    assert {problem["trouble"] for problem in nameless["problems"]} == {"refused", "topic missing"}
    assert any("joint state lacks" in problem["text"] for problem in nameless["problems"])
    assert "Not evaluated" in (tmp_path / "latest" / "report.html").read_text()


def test_bad_input_ends_with_what_to_do(tmp_path: Path, bag: Path) -> None:
    for arguments, words in (
        ([str(tmp_path / "nothing")], "there is no"),
        ([str(bag), "--contract", "martian"], "no contract 'martian'; known"),
        ([str(bag), "--preset", "martian"], "martian"),
        ([str(bag), "--weights", str(tmp_path)], "no weights at"),
    ):
        ran = CliRunner().invoke(app, ["replay", *arguments])
        assert ran.exit_code == 2 and words in ran.output.replace("\n", " "), ran.output


def test_the_contract_is_the_cells_unless_told(bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Preset, "load_cell", lambda _: CELL.model_copy(update={"name": "another_cell"}))
    ran = CliRunner().invoke(app, ["replay", str(bag)])
    assert ran.exit_code == 2 and "no contract 'another_cell'" in ran.output.replace("\n", " "), ran.output


def test_gate_figures_count_changes_and_chatter(bag: Path, stack: Stack) -> None:
    from harmowam_core.stages import Phase

    recorded = read_recorded(bag, CONTRACT, PRESET)
    step = next(iter(stack.run(recorded, 1, 0, 1)))
    judged = []
    for k, phase in enumerate("tttitttiiii"):
        stamp = step.imagination.stamp_ns + k * 200_000_000
        moved = replace(
            step, row=0, phase=Phase.INTERACTION if phase == "i" else Phase.TRANSIT, score=0.9 if phase == "i" else 0.1,
            imagination=replace(step.imagination, stamp_ns=stamp),
        )  # fmt: skip
        judged.append(replace(judge(step, recorded, None), step=moved, interaction=phase == "i"))
    figures = summarise_gate(judged)
    assert figures["switches"] == 3 and figures["label_switches"] == 3 and figures["chatter"] == 1 and figures["accuracy"] == 1
