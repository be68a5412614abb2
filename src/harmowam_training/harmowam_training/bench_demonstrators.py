"""``harmowam bench demonstrators``: how often the scripted demonstrators succeed, by task and environment."""

from __future__ import annotations

from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from harmowam_core.results import commit, write_json
from harmowam_sim.intervals import wilson
from harmowam_sim.splits import ENVIRONMENTS, EVALUATION_SEED_START, TASKS
from harmowam_training.evaluate import TABLE_WIDTH, expand, pool_of


@dataclass(frozen=True)
class Shown:
    """One demonstration; failure says why it did not succeed."""

    task: str
    environment: str
    seed: int
    success: bool
    obstacle: bool
    steps: int
    failure: str | None


def demonstrate(task: str, environment: str, seed: int) -> Shown:
    """Worker: one demonstration without pictures. ``seed`` chooses the episode and the demonstrator's style."""
    import numpy as np

    from harmowam_sim.demonstrators import Demonstrator, rollout
    from harmowam_sim.environments import sample_episode

    spec = sample_episode(task, environment, seed)
    result = rollout(Demonstrator(spec, np.random.default_rng(seed)), spec, cameras=())
    return Shown(task, environment, seed, bool(result.success), spec.has_obstacle, len(result), result.failure)


def summarise(shown: list[Shown]) -> dict[str, Any]:
    """One cell of the table."""
    success = sum(one.success for one in shown) / len(shown)
    return {
        "task": shown[0].task,
        "environment": shown[0].environment,
        "episodes": len(shown),
        "success": success,
        "ci95": list(wilson(success, len(shown))),
        "with_obstacle": sum(one.obstacle for one in shown),
        "mean_steps": sum(one.steps for one in shown) / len(shown),
        "failures": [{"seed": one.seed, "why": one.failure} for one in shown if not one.success],
    }


def bench_demonstrators(
    task: Annotated[str, typer.Option(help=f"{', '.join(TASKS)} or all")] = "all",
    environment: Annotated[str, typer.Option(help=f"{', '.join(ENVIRONMENTS)} or all")] = "all",
    episodes: Annotated[int, typer.Option(min=1, help="demonstrations a cell of the table")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="first evaluation seed, counted from the start of the evaluation range")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    require: Annotated[float, typer.Option(min=0, max=1, help="success below which the exit code is 1")] = 0.95,
    json_to: Annotated[str, typer.Option("--json", help="write the cells here, - for standard output")] = "",
) -> None:
    """Success of the scripted demonstrators with Wilson 95 % intervals; exit 1 if one succeeds less often than ``--require``."""
    cells = [(t, e) for t in expand(task, TASKS, "task") for e in expand(environment, ENVIRONMENTS, "environment")]
    first = EVALUATION_SEED_START + seed
    shown: dict[tuple[str, str], list[Shown]] = {cell: [] for cell in cells}
    with Progress(console=Console(stderr=True)) as progress, pool_of(workers) as pool:
        bar = progress.add_task("demonstrations", total=len(cells) * episodes)
        for done in as_completed([pool.submit(demonstrate, *cell, first + k) for cell in cells for k in range(episodes)]):
            one = done.result()
            shown[one.task, one.environment].append(one)
            progress.advance(bar)
    results = [summarise(sorted(group, key=lambda one: one.seed)) for group in shown.values()]
    table = Table("task", "environment", "n", "success", "95 %", "with obstacle", "steps", title="scripted demonstrators")
    for cell in results:
        low, high = cell["ci95"]
        counts = (f"{cell['success']:.2f}", f"{low:.2f}–{high:.2f}", str(cell["with_obstacle"]), f"{cell['mean_steps']:.0f}")
        table.add_row(cell["task"], cell["environment"], str(cell["episodes"]), *counts)
    Console(stderr=json_to == "-", width=TABLE_WIDTH).print(table)
    write_json(json_to, {"cells": results, "seed": seed, "commit": commit()})
    raise typer.Exit(0 if all(cell["success"] >= require for cell in results) else 1)
