"""README's tables say what the published episodes say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harmowam_training.evaluate import ENVIRONMENTS, TASKS, read_journal, summarise

REPOSITORY = Path(__file__).resolve().parents[3]
RESULTS = REPOSITORY / "docs" / "results"
POLICIES = ("harmowam", "predictive_only", "reactive_only", "scripted_transit")

Cells = dict[tuple[str, str, str], dict[str, Any]]


def cells(name: str) -> Cells:
    summary = summarise(read_journal(RESULTS / f"{name}.episodes.jsonl"))
    assert summary == json.loads((RESULTS / f"{name}.json").read_text())["cells"], f"{name}.json is not of these episodes"
    return {(cell["policy"], cell["task"], cell["environment"]): cell for cell in summary}


def row(*columns: str) -> str:
    return "| " + " | ".join(columns) + " |"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_readme_says_what_was_measured(task: str, environment: str) -> None:
    readme = (REPOSITORY / "README.md").read_text().splitlines()
    fresh, near = cells("fresh_seeds"), cells("near_target")["predictive_only", task, environment]
    cell = fresh["harmowam", task, environment]
    low, high = cell["ci95"]
    shares = [f"{cell[key]:.2f}" for key in ("success", "transit", "interaction")]
    counts = [f"{cell[key]['successes']}/{cell[key]['episodes']}" for key in ("free", "obstacle")]
    assert row(task, environment, f"{cell['score']:.2f}", f"{low:.2f}–{high:.2f}", *shares, *counts, str(cell["latched"])) in readme
    compared = [fresh[policy, task, environment] for policy in POLICIES]
    assert all(other["episodes"] == 50 for other in (*compared, near))
    shown = [f"{other['score']:.2f} ({other['success']:.2f}, {other['transit']:.2f})" for other in compared]
    assert row(task, environment, *shown, f"{near['interaction']:.2f}") in readme
