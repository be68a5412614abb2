"""Demo, bench, do and status over DDS: the real simulated cell, and stand-ins for the policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harmowam_bringup import bench, session
from harmowam_bringup.cli import app
from harmowam_bringup.launch_yaml import read_launch
from harmowam_bringup.session import GraphError, GraphSession

run = CliRunner().invoke


def use_real_cell(stand_ins: Path) -> None:
    folder = stand_ins / "harmowam_sim/lib/harmowam_sim"
    (folder / "real_cell_node").replace(folder / "cell_node")


def launch_file(folder: Path, node: str) -> Path:
    path = folder / "some.launch.yaml"
    path.write_text(f"launch:\n  - node: {{{node}, respawn: 'true'}}\n")
    return path


def test_demo_leaves_its_results_and_says_that_the_task_failed(stand_ins: Path, tmp_path: Path) -> None:
    """With the real cell, whose scorer sees that the stand-ins hold the arm still, whatever the arbiter says."""
    use_real_cell(stand_ins)
    result = run(app, ["demo", "--seed", "3", "--out", str(tmp_path), "--json", str(tmp_path / "copy.json")])
    assert result.exit_code == 1, result.output
    assert "all nodes are active" in result.output and "reactive" in result.output and "predictive" in result.output
    latest = tmp_path / "latest"
    assert {path.name for path in latest.iterdir()} == {"summary.json", "video.mp4", "report.html", "nodes.log", "states.npz", "bag"}
    summary = json.loads((latest / "summary.json").read_text())
    assert summary == json.loads((tmp_path / "copy.json").read_text())
    assert summary["success"] is False and summary["score"] == 0 and summary["outcome"] == {"name": "SUCCEEDED", "why": "stood still"}
    assert summary["seed"] == 3 and summary["episode_seed"] == 1_000_003 and summary["stages"]["reach"] is False
    assert {"reactive", "predictive"} <= {phase["expert"] for phase in summary["phases"]}
    assert summary["auditor"]["trajectories"] > 5 and summary["auditor"]["violations"] == 0 and summary["malformed_messages"] == 0
    live = summary["auditor"]["live"]
    assert live["trajectories"] > 5 and live["violations"] == 0
    assert "cell_node-1" in summary["config"]["processes"]
    assert (latest / "video.mp4").stat().st_size > 20_000


@pytest.mark.usefixtures("stand_ins")
def test_bench_measures_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UP_S", 1.0)
    result = run(app, ["bench", "graph", "--seconds", "3", "--out", str(tmp_path), "--json", str(tmp_path / "graph.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "graph.json").read_text())
    # Stand-ins run at 20 Hz and 5 Hz at most; how much of it a busy machine reaches is what the bench is there to tell.
    assert 1 < figures["trajectory_hz"] < 22 and 0 < figures["imagination_hz"] < 6
    slower = min(figures["rates_hz"]["predictive_chunk"], figures["rates_hz"]["reactive_chunk"])
    assert figures["actions_per_s"] == pytest.approx(12 * slower, abs=0.2)
    latency = figures["observation_to_trajectory_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert figures["real_time_factor"] == pytest.approx(1.0, abs=0.3)
    assert len(figures["cpu_percent"]) == 7 and "arbiter_node-5" in figures["cpu_percent"]
    assert "expert, the slower" in result.output and (tmp_path / "latest/graph.json").is_file()


@pytest.mark.usefixtures("stand_ins")
def test_do_and_status_of_a_running_graph(tmp_path: Path, domain_id: int) -> None:
    path = launch_file(tmp_path, "pkg: harmowam_gate, exec: arbiter_node, name: arbiter")
    with GraphSession(read_launch(path), tmp_path / "nodes.log", domain_id) as running:
        running.wait_active(60)
        done = run(app, ["do", "put the banana on the plate", "--json", "-"])
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["outcome"] == "SUCCEEDED" and "on my way" in done.stderr
        assert run(app, ["do", "refuse"]).exit_code == 1
        status = run(app, ["status", "--seconds", "5", "--json", "-"])
        heard = json.loads(status.stdout)
        assert {name: node["state"] for name, node in heard["nodes"].items()} == {"/arbiter": "active"}
        assert heard["gate"]["status"] == "IDLE" and status.exit_code == 0
        assert running.execute("wait", 30.0, stop=lambda: True).outcome.name == "CANCELLED"


@pytest.mark.usefixtures("stand_ins")
def test_an_arbiter_that_dies_is_named(tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_S", 2.0)
    path = launch_file(tmp_path, "pkg: harmowam_gate, exec: arbiter_node, name: arbiter")
    with GraphSession(read_launch(path), tmp_path / "nodes.log", domain_id) as running:
        running.wait_active(60)
        with pytest.raises(GraphError, match="waited 2 s for the arbiter to answer"):
            running.execute("die", 10.0)


def test_nodes_that_do_not_come_up_are_named(stand_ins: Path, tmp_path: Path, domain_id: int) -> None:
    program = stand_ins / "harmowam_world_model/lib/harmowam_world_model/world_model_node"
    program.write_text(program.read_text().replace('world_model "$@"', 'stuck "$@"'))
    path = launch_file(tmp_path, "pkg: harmowam_world_model, exec: world_model_node, name: world_model")
    with GraphSession(read_launch(path), tmp_path / "nodes.log", domain_id) as running:
        running.spin(lambda: "/world_model" in running.nodes, 60, "the world model's diagnostics")
        with pytest.raises(GraphError, match="no weights in /nowhere") as caught:
            running.wait_active(1.0)
        assert "/world_model (unconfigured" in str(caught.value)
        with pytest.raises(GraphError, match=r"world_model_node-1 ended with code 1; it said last:\n(.*\n)*.*giving up"):
            running.wait_active(60.0)


@pytest.mark.usefixtures("stand_ins")
def test_a_cell_without_a_log_is_no_silent_loss_of_the_video(tmp_path: Path) -> None:
    """The stand-in cell writes no state log: report and summary are there, and the error says what is missing."""
    result = run(app, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 3 and "states.npz" in result.output
    assert {path.name for path in (tmp_path / "latest").iterdir()} == {"summary.json", "report.html", "nodes.log", "bag"}
