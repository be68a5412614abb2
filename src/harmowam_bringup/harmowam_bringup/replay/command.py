"""``harmowam replay``: runs the models on recordings and says how far they are from what was done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from harmowam_bringup.replay.measures import StepErrors
    from harmowam_bringup.replay.recorded import Recorded
    from harmowam_core.contract import Contract
    from harmowam_core.presets import Preset

FAILED, BAD_INPUT = 1, 2


@dataclass(frozen=True)
class Run:
    """One recording under one set of weights."""

    name: str
    recorded: Recorded
    judged: list[StepErrors]
    figures: dict[str, Any]


def replay(
    bags: Annotated[list[Path], typer.Argument(metavar="BAG...", help="rosbag2 recordings: folders, or .mcap or .db3 files.")],
    weights: Annotated[list[Path] | None, typer.Option(help="Folder of weights; several to compare. Default: the preset's.")] = None,
    preset: Annotated[str, typer.Option(help="Preset by name, or path of a preset file.")] = "compact",
    contract: Annotated[str, typer.Option(help="How topics become observations: contract by name, or path; default: the cell's.")] = "",
    instruction: Annotated[str, typer.Option(help="What was done, in words, where the bag has no task topic.")] = "",
    step: Annotated[float, typer.Option(min=0.05, help="Seconds between two steps; the live graph imagines five times a second.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise that the models start from.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Batches that are worked on at once, each by one thread.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/replay"),
    json_file: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Also write the figures to FILE; - for standard output.")] = "",
) -> None:
    """Run the models on recorded observations, both experts at every step, and compare with what was executed.

    Exit 1 if some of the recordings could not be evaluated, 2 if none could.
    """
    console = Console(stderr=json_file == "-", highlight=False, soft_wrap=True)
    from harmowam_core.contract import contract_for
    from harmowam_core.wan_preset import load_any_preset

    folders: list[Path | None] = list(weights) if weights else [None]
    left_out: dict[Path, dict[str, Any]] = {}
    try:
        config = load_any_preset(preset)
        rules = contract_for(config, contract)
        asked = (preset, config, rules, instruction, step, seed, threads)
        runs = [run for chosen in folders for run in _runs(bags, chosen, *asked, console, left_out)]
    except (ValueError, FileNotFoundError) as error:
        console.print(Text(str(error), style="red"))
        raise typer.Exit(BAD_INPUT) from error
    if not runs:
        raise typer.Exit(BAD_INPUT)
    from harmowam_bringup.bags.problems import print_problems
    from harmowam_bringup.replay.report import write_report
    from harmowam_bringup.summary import new_results_dir
    from harmowam_core.results import commit, write_json

    folder = new_results_dir(out)
    facts = {"preset": preset, "contract": contract or rules.name, "seed": seed, "step_s": step, "threads": threads, "commit": commit()}
    facts |= {"started": datetime.now().isoformat(timespec="seconds")}
    figures = [run.figures | facts for run in runs]
    one = len(figures) == 1 and not left_out
    document = figures[0] if one else {"runs": figures, "left_out": list(left_out.values())}
    write_json(folder / "replay.json", document)
    write_report(folder / "report.html", runs, list(left_out.values()), facts)
    console.print(_table(runs))
    for run in runs:
        if run.recorded.problems:
            console.print(Text(run.name, style="yellow"))
            print_problems(run.recorded.problems, run.recorded.started_ns, console)
    console.print(f"  {folder / 'replay.json'}\n  {folder / 'report.html'}")
    write_json(json_file, document)
    if left_out:
        raise typer.Exit(FAILED)


def _runs(
    bags: list[Path], weights: Path | None, preset: str, config: Preset, rules: Contract, instruction: str, step_s: float, seed: int,
    threads: int, console: Console, left_out: dict[Path, dict[str, Any]],
) -> list[Run]:  # fmt: skip
    """A run of each bag; one that cannot be evaluated is told, noted in ``left_out`` and not tried again."""
    from harmowam_bringup.bags.bag import BagError
    from harmowam_bringup.bags.problems import print_problems
    from harmowam_bringup.bags.progress import following
    from harmowam_bringup.replay.measures import judge, summarise
    from harmowam_bringup.replay.recorded import NothingToReplayError, read_recorded
    from harmowam_bringup.replay.stack import Digest, Stack

    stride = max(round(step_s / rules.period_s), 1)
    began_s = time.perf_counter()
    stack = Stack.load(preset, weights)
    load_s = time.perf_counter() - began_s
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    runs = []
    for path in (path for path in bags if path not in left_out):
        name = path.name if weights is None else f"{path.name} ({weights.name})"
        began_s = time.perf_counter()
        try:
            with following(console, f"{name}: reading") as shown:
                recorded = read_recorded(path, rules, config, instruction=instruction, progress=shown)
        except (BagError, NothingToReplayError) as error:
            problems, started_ns = (error.problems, error.started_ns) if isinstance(error, NothingToReplayError) else ([], 0)
            console.print(Text(str(error), style="red"))
            print_problems(problems, started_ns, console)
            left_out[path] = {
                "bag": str(path),
                "error": str(error),
                "started_ns": started_ns,
                "problems": [problem.to_json() for problem in problems],
            }
            continue
        read_s = time.perf_counter() - began_s
        digest = Digest()
        judged: list[StepErrors] = []
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task(name, total=-(-int((recorded.tasks > 0).sum()) // stride))
            for step in stack.run(recorded, stride, seed, threads):
                digest.add(step)
                same_task = bool(judged) and recorded.tasks[judged[-1].step.row] == recorded.tasks[step.row]
                judged.append(judge(step, recorded, judged[-1].step if same_task else None))
                progress.advance(bar)
        took_s = time.perf_counter() - began_s
        figures = {
            "bag": str(path),
            "weights": None if weights is None else str(weights),
            "digest": digest.hex(),
            "realtime_factor": round(recorded.duration_s / took_s, 3),
            "seconds": {
                "recording": round(recorded.duration_s, 3),
                "load": round(load_s, 3),
                "read": round(read_s, 3),
                "all": round(took_s, 3),
            },
            **summarise(judged, recorded),
            "latencies_ms": _latencies(recorded, judged),
            "started_ns": recorded.started_ns,
            "problems": [problem.to_json() for problem in recorded.problems],
        }
        runs.append(Run(name, recorded, judged, figures))
    return runs


def _latencies(recorded: Recorded, judged: list[StepErrors]) -> dict[str, Any]:
    """Of the live graph, from observation to what was recorded; and how long the same took here, a step."""
    from harmowam_bringup.recording import percentiles

    here = {name: percentiles(1000 * e.step.timings_s[name] for e in judged) for name in judged[0].step.timings_s}
    return {"live": {stage: percentiles(values) for stage, values in recorded.latencies_ms.items()}, "here": here}


def _table(runs: list[Run]) -> Table:
    table = Table(title="offline, medians; errors in cm", box=None, pad_edge=False)
    for column in (
        "recording",
        "predictive",
        "reactive",
        "chosen",
        "chosen, transit",
        "interaction",
        "gate",
        "SSIM",
        "violations",
        "× real time",
    ):
        table.add_column(column, justify="left" if column == "recording" else "right")
    for run in runs:
        figures, actions = run.figures, run.figures["actions"]
        cells = [actions[name]["all"]["position_cm"] for name in ("predictive", "reactive", "chosen")]
        cells += [actions["chosen"][phase]["position_cm"] for phase in ("transit", "interaction")]
        ssim = [value for value in figures["imagination"]["ssim"] if value is not None]
        audit = figures["auditor"]
        table.add_row(
            Text(run.name), *("–" if cell is None else f"{cell:.1f}" for cell in cells), f"{figures['gate_accuracy']:.2f}",
            f"{ssim[-1]:.2f}" if ssim else "–", str(audit["violations"]) if audit else "–", f"{figures['realtime_factor']:.1f}",
        )  # fmt: skip
    return table
