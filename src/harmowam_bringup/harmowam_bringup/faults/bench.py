"""``harmowam bench faults``: how fast every fault of the catalogue is answered, over repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from harmowam_bringup.faults.catalogue import SCENARIOS
from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.scenario import STOLEN_S, Measured, Scenario
from harmowam_bringup.session import GraphError
from harmowam_bringup.summary import new_results_dir
from harmowam_core.results import commit, write_json

FAILED, NO_GRAPH, INTERRUPTED = 1, 3, 130


def bench_faults(
    repeats: Annotated[int, typer.Option(min=1, help="How often each fault is injected; 20 for a p99 that means something.")] = 20,
    row: Annotated[list[int] | None, typer.Option(help="Rows of the catalogue (docs/faults.md), again for several; default: all.")] = None,
    json: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write the results as JSON to FILE, or to standard output.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/faults"),
) -> None:
    """Reaction times to every fault of the catalogue; exit 1 if any was wrong or missing, or one in a hundred late."""
    console = Console(stderr=json == "-", highlight=False, soft_wrap=True)
    scenarios = [kind() for kind in SCENARIOS if not row or kind.row in row]
    if not scenarios:
        raise typer.BadParameter(f"no scenario of row {row}; there are {sorted({kind.row for kind in SCENARIOS})}")
    folder = new_results_dir(out)
    measured: list[Measured] = []
    code = 0
    try:
        _measure(scenarios, repeats, folder, measured, console)
    except GraphError as error:
        console.print(str(error), style="red", markup=False)
        code = NO_GRAPH
    except KeyboardInterrupt:
        code = INTERRUPTED
    results = {
        "faults": summarise(scenarios, measured),
        "repeats": repeats,
        "complete": code == 0,
        "cpu_count": psutil.cpu_count(),
        "commit": commit(),
        "measured": [asdict(one) for one in measured],
    }
    write_json(folder / "faults.json", results)
    write_json(json, results)
    print_table(results["faults"], console)
    for one in measured:
        if one.says:
            console.print(f"  row {one.row} {one.name} {one.variant}: {one.says}", style="red", markup=False)
    console.print(f"  {folder / 'faults.json'}")
    raise typer.Exit(code or (0 if all(row["ok"] for row in results["faults"]) else FAILED))


def _measure(scenarios: Sequence[Scenario], repeats: int, folder: Path, measured: list[Measured], console: Console) -> None:
    """One graph for all, and one more for those that need its clock to be settable."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=repeats * len(scenarios))
        for fake_clock in (False, True):
            mine = [scenario for scenario in scenarios if scenario.fake_clock is fake_clock]
            if not mine:
                continue
            progress.update(bar, description="starting the graph")
            (folder / f"clock_{fake_clock}").mkdir()
            with FaultGraph(folder / f"clock_{fake_clock}", fake_clock) as graph:
                for scenario in mine:
                    for repetition in range(repeats):
                        progress.update(bar, description=f"{scenario.row} {scenario.name}")
                        measured.append(scenario.run(graph, repetition))
                        progress.advance(bar)


def summarise(scenarios: Sequence[Scenario], measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """One row a scenario, ready for JSON.

    {"row", "name", "fault", "expected", "bound_ms", "p50_ms", "p99_ms", "max_ms", "n", "late", "wrong", "stolen", "ok"}: where variants
    differ in their bound, the largest is shown. stolen: how many of the late and the wrong ones came while the machine's host took
    processor time. ok: no reaction was wrong or missing, and 99 of 100 were in time, whatever the host took.
    """
    rows = []
    for scenario in scenarios:
        mine = [one for one in measured if one.name == scenario.name]
        times_ms = [one.reaction_s * 1e3 for one in mine if one.reaction_s is not None]
        p50, p99 = np.percentile(times_ms, (50, 99)).round(1).tolist() if times_ms else (None, None)
        rows.append(
            {
                "row": scenario.row,
                "name": scenario.name,
                "fault": scenario.fault,
                "expected": scenario.expected,
                "bound_ms": round(max((one.bound_s for one in mine), default=scenario.bound_s) * 1e3, 1),
                "p50_ms": p50,
                "p99_ms": p99,
                "max_ms": round(max(times_ms), 1) if times_ms else None,
                "n": len(mine),
                "late": sum(one.late for one in mine),
                "wrong": sum(bool(one.complaints) for one in mine),
                "stolen": sum(one.stolen_s >= STOLEN_S for one in mine if one.late or one.complaints),
                "ok": not any(one.complaints for one in mine) and sum(one.late for one in mine) <= len(mine) // 100,
            }
        )
    return rows


def print_table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Of what ``summarise`` gives."""
    table = Table(title="reaction times, ms")
    for column in ("row", "fault", "bound", "p50", "p99", "max", "n", "late", "wrong", "stolen"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for row in rows:
        shown = [row[key] for key in ("bound_ms", "p50_ms", "p99_ms", "max_ms", "n", "late", "wrong", "stolen")]
        table.add_row(str(row["row"]), row["name"], *("–" if value is None else str(value) for value in shown))
    console.print(table)
