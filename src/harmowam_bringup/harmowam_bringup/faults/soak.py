"""``harmowam soak``: hours of the whole graph, one random fault after the other."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from harmowam_bringup.faults.bench import FAILED, INTERRUPTED, print_table, summarise
from harmowam_bringup.faults.catalogue import SCENARIOS
from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.resources import Resources
from harmowam_bringup.faults.scenario import Measured
from harmowam_bringup.plots import write_soak_plot
from harmowam_bringup.session import GraphError
from harmowam_bringup.summary import new_results_dir
from harmowam_core.results import commit, write_json

RARE = {"expert_killed": 0.5, "arbiter_killed": 0.25, "driver_restarts": 0.25, "arbiter_frozen": 0.5}
"""Weights of faults after which a process starts anew: a leak shows in processes that live long. All others: 1."""
PAUSE_S = 2.0
"""Longest quiet time between two faults."""
SAMPLE_S = 5.0
MOST_FAILURES = 3
INJECTED_RULE = "second_publisher"
"""What the auditor must object to, because a scenario does it."""


@dataclass
class Soak:
    """What has come of it so far."""

    seed: int
    measured: list[Measured] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    """The auditor's last word on each graph."""
    failures: list[str] = field(default_factory=list)
    """Why a graph had to be started again."""
    duration_s: float = 0.0
    ended: str = "interrupted"

    def results(self) -> dict[str, Any]:
        """Ready for JSON; ``ok`` only if the auditor, the reactions and the memory are all well."""
        by_rule: Counter[str] = Counter()
        for verdict in self.verdicts:
            by_rule.update(verdict.get("by_rule", {}))
        injected = by_rule.pop(INJECTED_RULE, 0)
        faults = summarise([kind() for kind in SCENARIOS], self.measured)
        resources = self.resources.verdict()
        hours = self.duration_s / 3600
        return {
            "ok": self.ended == "complete"
            and not self.failures
            and not by_rule
            and all(row["ok"] for row in faults if row["n"])
            and all(one["flat"] is not False for one in resources.values()),
            "ended": self.ended,
            "hours": round(hours, 4),
            "seed": self.seed,
            "faults": len(self.measured),
            "faults_per_hour": round(len(self.measured) / hours, 1) if hours else 0.0,
            "auditor": {
                "trajectories": sum(verdict.get("trajectories", 0) for verdict in self.verdicts),
                "violations": by_rule.total(),
                "by_rule": dict(by_rule),
                "first": [text for verdict in self.verdicts for text in verdict.get("first", [])],
                "injected": {INJECTED_RULE: injected},
            },
            "failures": self.failures,
            "by_fault": faults,
            "resources": resources,
            "wrong": [{**asdict(one), "says": one.says} for one in self.measured if one.complaints],
            "commit": commit(),
        }


def soak(
    hours: Annotated[float, typer.Option(min=0.005, help="How long.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same faults in the same order.")] = 0,
    json_file: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write the results as JSON to FILE, or standard output.")] = "",
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/soak"),
) -> None:
    """Random faults for hours; exit 0 only without a violation, a wrong reaction or growing memory. Ctrl-C keeps what there is."""
    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    folder = new_results_dir(out)
    run = Soak(seed)
    began_s = time.monotonic()
    try:
        _soak(run, hours * 3600, folder, console)
        run.ended = "complete"
    except GraphError as error:
        run.ended = f"failed: {error}"
    except KeyboardInterrupt:
        console.print("interrupted; this is what there is so far")
    run.duration_s = time.monotonic() - began_s
    results = run.results()
    write_json(folder / "soak.json", results)
    write_soak_plot(folder / "soak.png", run.resources.samples, results["faults"])
    write_json(json_file, results)
    _print(results, console)
    console.print(f"  {folder / 'soak.json'}, {folder / 'soak.png'}")
    raise typer.Exit(INTERRUPTED if run.ended == "interrupted" else 0 if results["ok"] else FAILED)


def _soak(run: Soak, duration_s: float, folder: Path, console: Console) -> None:
    """One graph after the other, should one not recover; GraphError when that happens too often."""
    random = np.random.default_rng(run.seed)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    end_s = time.monotonic() + duration_s
    with (folder / "faults.jsonl").open("w") as journal, Progress(*columns, console=console) as progress:
        bar = progress.add_task("starting the graph", total=duration_s)

        def show(text: str) -> None:
            wrong = sum(bool(one.complaints) for one in run.measured)
            spent_s = duration_s - (end_s - time.monotonic())
            progress.update(bar, completed=spent_s, description=f"{len(run.measured)} faults, {wrong} wrong; {text}")

        while time.monotonic() < end_s:
            part = folder / f"graph_{len(run.verdicts)}"
            part.mkdir()
            run.verdicts.append({})
            try:
                with FaultGraph(part) as graph:
                    graph.ready()
                    _inject(run, graph, random, end_s, journal, show)
            except GraphError as error:
                run.failures.append(str(error))
                console.print(f"starting the graph again: {error}", style="red", markup=False)
                if len(run.failures) > MOST_FAILURES:
                    raise
        progress.update(bar, completed=duration_s)


def _inject(run: Soak, graph: FaultGraph, random: np.random.Generator, end_s: float, journal: IO[str], show: Callable[[str], None]) -> None:
    """Faults until the time is over."""
    scenarios = [kind() for kind in SCENARIOS if kind.in_soak]
    weights = np.array([RARE.get(scenario.name, 1.0) for scenario in scenarios])
    sampled_s = 0.0
    while time.monotonic() < end_s:
        scenario = scenarios[int(random.choice(len(scenarios), p=weights / weights.sum()))]
        variant, pause_s = int(random.integers(len(scenario.variants))), PAUSE_S * random.random()
        show(f"now {scenario.name}")
        measured = scenario.run(graph, variant)
        run.measured.append(measured)
        run.verdicts[-1] = graph.observer.verdict()
        journal.write(json.dumps(asdict(measured)) + "\n")
        journal.flush()
        graph.rest(pause_s)
        if time.monotonic() - sampled_s >= SAMPLE_S:
            sampled_s = time.monotonic()
            run.resources.sample({**graph.node_pids, "observer": graph.observer.pid, "soak": os.getpid()})


def _print(results: dict[str, Any], console: Console) -> None:
    print_table(results["by_fault"], console)
    table = Table(title="memory and threads, early and late")
    for column in ("process", "MB", "MB", "drift", "threads", "threads", "flat"):
        table.add_column(column, justify="left" if column == "process" else "right")
    for name, one in results["resources"].items():
        if one["flat"] is None:
            table.add_row(name, *["–"] * 5, "too short-lived")
        else:
            numbers = [*one["memory_mb"], f"{one['memory_drift']:.2%}", *(int(count) for count in one["threads"])]
            table.add_row(name, *map(str, numbers), "yes" if one["flat"] else "NO")
    console.print(table)
    auditor = results["auditor"]
    console.print(
        f"{results['faults']} faults in {results['hours']:.2f} h ({results['faults_per_hour']:.0f} an hour), "
        f"{len(results['wrong'])} answered wrongly; {auditor['violations']} violations in {auditor.get('trajectories', 0)} trajectories"
    )
    for one in results["wrong"][:20]:
        console.print(f"  row {one['row']} {one['name']} {one['variant']}: {one['says']}", style="red", markup=False)
