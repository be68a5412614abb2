"""Figures of a recording, and the report and video made of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from synthetic import CELL, SECONDS, make_recording, make_summary, picture

from harmowam_bringup.pictures import STRIP_FRAMES, comparisons, evenly, nearest
from harmowam_bringup.plots import joint_positions
from harmowam_bringup.recording import (
    Received,
    Recording,
    latencies_ms,
    percentiles,
    phases,
    rate_hz,
    rates,
    real_time_factor,
    slower_expert,
)
from harmowam_bringup.report import write_report
from harmowam_bringup.summary import new_results_dir
from harmowam_bringup.video import FRAMES_PER_S, SIZE, View, write_video
from harmowam_core.cell import cell_files, load_cell
from harmowam_core.results import write_json
from harmowam_core.stages import Expert, JointState
from harmowam_core.status import Status

ARM_TOPIC = CELL.controllers.arm_topic


@pytest.fixture(scope="module")
def recording() -> Recording:
    return make_recording()


@pytest.mark.parametrize("name", sorted(cell_files()))
def test_joints_are_drawn_by_the_names_that_the_driver_gives_them(name: str) -> None:
    cell = load_cell(name)
    names = cell.arm_joint_names
    states = [Received(k, JointState(k, names, np.full(len(names), 0.1 * k), np.zeros(len(names)))) for k in range(3)]
    assert joint_positions(Recording(joint_states=states), cell).startswith("<svg")


def test_rates_are_messages_a_second(recording: Recording) -> None:
    found = rates(recording, ARM_TOPIC)
    assert found["imagination_hz"] == 5 and found["trajectory_hz"] == 20 and found["actions_per_s"] == 60 and found["scene_hz"] == 10
    assert rate_hz([]) == rate_hz(recording.gate[:1]) == 0


def test_actions_are_counted_of_the_slower_expert() -> None:
    recording = make_recording()
    recording.chunks[Expert.REACTIVE] = recording.chunks[Expert.REACTIVE][::2]
    assert slower_expert(recording) == Expert.REACTIVE
    assert rates(recording, ARM_TOPIC)["actions_per_s"] == pytest.approx(30, abs=0.1)


def test_latencies_run_from_the_observations_stamp(recording: Recording) -> None:
    found = latencies_ms(recording, ARM_TOPIC)
    assert percentiles(found["imagination"])["p50"] == 120 and percentiles(found["predictive_chunk"])["p95"] == 150
    # A chunk is used at the first tick (every 50 ms) at or after 200 ms.
    assert len(found["trajectory"]) >= 25 and min(found["trajectory"]) >= 199.9 and max(found["trajectory"]) <= 300.1
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}


def test_phases_are_cut_where_something_changes(recording: Recording) -> None:
    found = phases(recording)
    assert [(p["phase"], p["expert"], p["sub_stage"]) for p in found] == [
        ("transit", "reactive", "reaching"), ("transit", "reactive", "grasping"), ("interaction", "predictive", "grasping"),
        ("interaction", "predictive", "carrying"), ("interaction", "predictive", "placeing"), ("interaction", "predictive", "done"),
    ]  # fmt: skip
    assert all(p["end_s"] == q["start_s"] for p, q in zip(found, found[1:], strict=False))
    assert found[0]["gate_score"] == 0.05 and found[2]["gate_score"] == 0.93


def test_a_hold_is_no_phase_of_its_own() -> None:
    """From 2 s to 3 s, every other tick holds."""
    recording = make_recording()
    for index, item in enumerate(recording.gate):
        if 2.0 <= recording.since_start_s(item.received_ns) < 3.0 and index % 2:
            recording.gate[index] = Received(item.received_ns, replace(item.value, status=Status.HOLDING, expert=None))
    found = phases(recording)
    assert len(found) == len(phases(make_recording()))
    assert [p["held_s"] for p in found[:2]] == [0.0, pytest.approx(0.5)]


def test_real_time_factor_is_simulated_time_over_time(recording: Recording) -> None:
    assert real_time_factor(recording) == pytest.approx(1.0)
    half = Recording(scores=[Received(0, {"time_s": 1.0}), Received(4 * 10**9, {"time_s": 3.0})])
    assert real_time_factor(half) == 0.5 and real_time_factor(Recording()) is None


def test_imagined_frames_stand_beside_what_came(recording: Recording) -> None:
    pairs = comparisons(recording, 4)
    assert len(pairs) == 4 and pairs[0].imagined.shape == (len(STRIP_FRAMES), 64, 80, 3) == pairs[0].came.shape
    assert all(pair.error < 5 for pair in pairs)  # the made-up imagination is true
    scene = recording.pictures["scene"]
    wrong = replace(recording.imaginations[0].value, frames=np.zeros_like(recording.imaginations[0].value.frames))
    liar = Recording(pictures={"scene": scene}, imaginations=[Received(0, wrong)])
    assert comparisons(liar, 1)[0].error > 100
    assert comparisons(Recording(), 3) == []
    assert nearest(scene, scene[7].value.stamp_ns + 40_000_000).stamp_ns == scene[7].value.stamp_ns
    assert evenly(range(11), 3) == [0, 5, 10]


def test_summary_holds_the_stable_keys_and_is_json(recording: Recording, tmp_path: Path) -> None:
    summary = make_summary(recording)
    write_json(tmp_path / "summary.json", summary)
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read["success"] is True and read["score"] == 1.0 and read["phases"] and read["stages"]["place"] is True
    assert read["auditor"]["trajectories"] == len(recording.trajectories[ARM_TOPIC]) and read["auditor"]["violations"] == 0
    assert {"task", "environment", "seed", "instruction", "duration_s", "rates", "latencies_ms", "commit", "config"} <= set(read)


def test_without_a_score_nothing_succeeded() -> None:
    recording = make_recording()
    recording.scores.clear()
    summary = make_summary(recording)
    assert summary["success"] is False and summary["score"] is None


def test_report_is_one_file_with_everything(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, recording, {**make_summary(recording), "instruction": "put the <b>banana</b> on the plate"}, CELL)
    html = path.read_text()
    assert "&lt;b&gt;banana" in html and "succeeded" in html
    assert html.count("<svg") == 4 and html.count("data:image/png;base64,") == 10 + 5 * 2 * len(STRIP_FRAMES)
    # Nothing is fetched: every image is inside, every other address is the video beside the file or a name space.
    assert set(re.findall(r'(?:src|href)="([^"#][^"]*)"', re.sub(r'"data:[^"]*"', '"#"', html))) == {"video.mp4"}


def test_report_of_an_empty_run(tmp_path: Path) -> None:
    empty = Recording(started_ns=0, ended_ns=10**9)
    write_report(tmp_path / "report.html", empty, make_summary(empty), CELL)
    assert "No imagination" in (tmp_path / "report.html").read_text()


def recorded_view(recording: Recording, camera: str) -> View:
    return ((item.value.stamp_ns, item.value.image) for item in recording.pictures[camera])


def test_video_shows_the_run(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    views = {"scene": recorded_view(recording, "scene"), "wrist": recorded_view(recording, "wrist_left")}
    write_video(path, recording, "put the banana on the plate", views)
    frames = imageio_ffmpeg.read_frames(str(path))
    about = next(frames)
    assert about["size"] == SIZE and about["fps"] == FRAMES_PER_S and about["codec"] == "h264"
    assert about["duration"] == pytest.approx(SECONDS + 2.0, abs=0.2)
    shown = [np.frombuffer(data, np.uint8).reshape(SIZE[1], SIZE[0], 3) for data in frames]
    # At 3 s, the middle of the scene view shows the square where the recorded picture has it.
    at_3s = shown[round(3.0 * FRAMES_PER_S) + 4]
    columns = np.flatnonzero(at_3s[304, 16:656, 2].astype(int) < 90)
    truth = np.flatnonzero(picture("scene", 3.0)[64, :, 2] < 90) * 4
    assert columns.mean() == pytest.approx(truth.mean() + 2, abs=6)


def test_video_needs_pictures(recording: Recording, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrist view of the video shows nothing"):
        write_video(tmp_path / "v.mp4", recording, "x", {"scene": recorded_view(recording, "scene"), "wrist": []})
    assert list(tmp_path.iterdir()) == []


def test_results_have_a_folder_of_their_own_and_a_link_to_the_latest(tmp_path: Path) -> None:
    first = new_results_dir(tmp_path / "out")
    second = new_results_dir(tmp_path / "out")
    assert first != second and (tmp_path / "out/latest").resolve() == second.resolve()
