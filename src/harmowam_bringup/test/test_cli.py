"""The harmowam command: help everywhere, clear errors, exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harmowam_bringup import cli, doctor
from harmowam_bringup.cli import app, with_json_target

SOURCE = Path(__file__).parents[1]
run = CliRunner().invoke
COMMANDS = [
    "demo",
    "train",
    "evaluate",
    "up",
    "do",
    "status",
    "watch",
    "urdf",
    "calibrate-drift",
    "drill",
    "audit",
    "doctor",
    "bench",
    "bench graph",
    "bench models",
    "bench watch",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = run(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output and len(result.output.splitlines()) > 5


def test_help_lists_all_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harmowam_bringup.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('rclpy', 'torch', 'numpy', 'mujoco', 'harmowam_training') if m in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert all(command.split()[0] in result.stdout for command in COMMANDS)
    assert result.stderr.strip() == "[]"


def test_json_without_a_file_means_standard_output() -> None:
    assert with_json_target(["demo", "--json"]) == ["demo", "--json", "-"]
    assert with_json_target(["demo", "--json", "--seed", "1"]) == ["demo", "--json", "-", "--seed", "1"]
    assert with_json_target(["demo", "--json", "a.json", "--seed", "1"]) == ["demo", "--json", "a.json", "--seed", "1"]


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["demo", "--task", "juggle"], 2, "unknown task 'juggle'; known: pick_fruit, stack_cans"),
        (["demo", "--environment", "mars"], 2, "unknown environment 'mars'"),
        (["demo", "--seed", "-1"], 2, "seed"),
        (["demo", "--seed", "many"], 2, "'--seed'"),
        (["demo", "--backend", "abacus"], 2, "'backend' is 'abacus'"),
        (["bench", "graph", "--task", "juggle"], 2, "unknown task 'juggle'"),
        (["up", "no.launch.yaml"], 2, "no launch file 'no.launch.yaml'"),
        (["up", "/no/such.launch.yaml"], 2, "/no/such.launch.yaml"),
        (["up", "sim.launch.yaml", "seed=3"], 2, "name:=value, not 'seed=3'"),
        (["up", "sim.launch.yaml", "sead:=3"], 2, "no argument 'sead'; it has"),
        (["audit", "no_bag"], 2, "no_bag"),
        (["audit", ".", "--cell", "barn"], 2, "no cell profile"),
        (["dance"], 2, "No such command 'dance'"),
    ],
)
def test_bad_input_is_named(words: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(app, words)
    assert result.exit_code == code
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("stand_ins")
def test_up_shows_arguments_and_what_it_would_run() -> None:
    shown = run(app, ["up", "sim.launch.yaml", "--show-args"])
    assert shown.exit_code == 0 and "environment  what differs" in shown.output and "one of: in_domain" in shown.output
    printed = run(app, ["up", "sim.launch.yaml", "seed:=5", "--print"])
    assert printed.exit_code == 0
    assert all(text in printed.output for text in ("cell_node-1: ", "seed: 5", "respawns after 1.0 s"))


def test_up_runs_labels_respawns_and_stops_on_interrupt(make_package: Callable[..., Path], tmp_path: Path) -> None:
    make_package("pkg", ticker="#!/bin/sh\ntrap 'echo bye; exit 0' INT\necho '[WARN] tick' >&2\nwhile :; do sleep 0.05; done\n")
    (tmp_path / "a.launch.yaml").write_text(
        """
launch:
  - node: {pkg: pkg, exec: ticker, output: screen}
  - executable: {cmd: "sh -c 'echo once; exit 4'", name: once, output: screen, respawn: "true", respawn_max_retries: 1}
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = "from harmowam_bringup.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "up", str(tmp_path / "a.launch.yaml")], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    lines: list[str] = []
    while not {"[once-2] ended with code 4\n", "[ticker-1] [WARN] tick\n"} <= set(lines):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 1  # a process had failed
    assert "[once-2] ended with code 4; starting it again\n" in lines and "[ticker-1] bye" in rest


def test_up_ends_with_what_it_runs(tmp_path: Path) -> None:
    (tmp_path / "a.launch.yaml").write_text("launch: [{executable: {cmd: 'true'}}]")
    started = time.monotonic()
    assert run(app, ["up", str(tmp_path / "a.launch.yaml")]).exit_code == 0
    assert time.monotonic() - started < 20


def test_doctor_is_wired(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(doctor, "main", lambda json: asked.append(json) or 1)
    assert run(app, ["doctor"]).exit_code == 1 and run(app, ["doctor", "--json", "-"]).exit_code == 1
    assert asked == [False, True]


def test_training_commands_come_from_their_package() -> None:
    import harmowam_training.train

    loaded = cli._load("train")
    assert {option.name for option in loaded.params} >= set(harmowam_training.train.train.__annotations__) - {"return", "json_file"}


def test_status_is_a_table() -> None:
    from harmowam_bringup.status import status_table

    console = Console(record=True, width=140, file=io.StringIO())
    values = {"images rate (Hz)": "10.00", "images age (s)": "0.041", "chunk p50 (ms)": "29.0", "chunk p95 (ms)": "31.0", "drift": "0.4"}
    node = {"state": "active", "level": "ERROR", "message": "images: [frozen]", "values": values}
    gate = {"status": "HOLDING", "text": "image frozen", "phase": "transit", "expert": None, "score": None}
    console.print(status_table({"nodes": {"/arbiter": node}, "gate": gate}))
    text = console.export_text()
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[1:4] == ["/arbiter active ERROR images 10.00 0.041", "chunk 29.0 31.0", "drift: 0.4"]
    assert "/arbiter: images: [frozen]" in rows and "gate: holding (image frozen), transit, expert none, score –" in text


def test_status_goes_on_until_it_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    from harmowam_bringup.session import GraphClient, NodeStatus
    from harmowam_core.health import Level

    turns: list[float] = []

    def spin_for(graph: GraphClient, seconds: float) -> None:
        turns.append(seconds)
        if len(turns) > 2:
            raise KeyboardInterrupt
        level = Level.OK if len(turns) == 1 else Level.ERROR
        graph.nodes["/arbiter"] = NodeStatus("active", level, f"turn {len(turns)}", {"tick p95 (ms)": "3.1"})

    monkeypatch.setattr(GraphClient, "spin_for", spin_for)
    result = run(app, ["status", "--watch"])
    assert result.exit_code == 1 and len(turns) == 3
    assert "/arbiter" in result.output and "3.1" in result.output and "turn 2" in result.output


def test_status_and_do_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    from harmowam_bringup import operator
    from harmowam_bringup.session import free_domain

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setattr(operator, "ANSWER_S", 0.5)
    status = run(app, ["status", "--seconds", "0.5", "--json", "-"])
    assert status.exit_code == 1 and json.loads(status.stdout) == {"nodes": {}, "gate": None}
    result = run(app, ["do", "put the banana on the plate"])
    assert result.exit_code == 3 and "an arbiter that takes tasks" in result.output
