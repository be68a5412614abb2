"""The demonstrators' bench counts what they did, and asks for what it should."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from harmowam_sim.splits import EVALUATION_SEED_START
from harmowam_training import bench_demonstrators as module
from harmowam_training.bench_demonstrators import Shown, bench_demonstrators, summarise

app = Typer()
app.command()(bench_demonstrators)


def test_cells_are_measured_in_processes_and_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "result.json"
    given = ["--episodes", "2", "--task", "pick_fruit", "--environment", "in_domain", "--seed", "7", "--json", str(path)]
    ran = CliRunner().invoke(app, given)
    assert ran.exit_code == 0, ran.output
    (cell,) = json.loads(path.read_text())["cells"]
    assert (cell["task"], cell["environment"], cell["episodes"], cell["success"]) == ("pick_fruit", "in_domain", 2, 1.0)
    assert cell["mean_steps"] > 50


def test_a_failure_is_counted_and_named() -> None:
    shown = [Shown("stack_cans", "objects", EVALUATION_SEED_START + k, k > 0, k == 1, 100, None if k else "dropped it") for k in range(4)]
    cell = summarise(shown)
    assert (cell["success"], cell["with_obstacle"], cell["mean_steps"]) == (0.75, 1, 100)
    assert cell["failures"] == [{"seed": EVALUATION_SEED_START, "why": "dropped it"}]


def test_too_few_successes_and_unknown_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def demonstrate(task: str, environment: str, seed: int) -> Shown:
        return Shown(task, environment, seed, seed % 2 == 0, False, 100, None)

    monkeypatch.setattr(module, "demonstrate", demonstrate)
    monkeypatch.setattr(module, "pool_of", ThreadPoolExecutor)
    assert CliRunner().invoke(app, ["--episodes", "4", "--require", "0.5"]).exit_code == 0
    assert CliRunner().invoke(app, ["--episodes", "4"]).exit_code == 1
    assert CliRunner().invoke(app, ["--task", "juggle"]).exit_code == 2
