"""``harmowam bench replay``: how much faster than real time a recording of three full-size cameras is evaluated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from harmowam_sim.demonstrators import Rollout

FAILED = 1
SIZE, IMAGES_A_ROW = (480, 640), 3


def bench_replay(
    seconds: Annotated[float, typer.Option(min=5.0, help="Length of the recording; a second takes 80 MiB of disk until the end.")] = 60.0,
    runs: Annotated[int, typer.Option(min=2, help="How often to replay it; all digests must be the same.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/bench"),
    json_file: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Also write the results to FILE; - for standard output.")] = "",
) -> None:
    """Replay scripted demonstrations recorded as three 640x480 cameras at 30 Hz (enlarged pictures); exit 1 if two runs differ."""
    from harmowam_bringup.bags.demonstrations import demonstrate, write_demonstrations
    from harmowam_bringup.replay.command import replay
    from harmowam_bringup.summary import new_results_dir
    from harmowam_core.cell import load_cell
    from harmowam_core.contract import load_contract
    from harmowam_core.results import write_json

    console = Console(stderr=True, highlight=False)
    folder, cell, contract = new_results_dir(out), load_cell(), load_contract()
    shown: list[Rollout] = []
    with console.status("demonstrating"):
        while sum(len(rollout) for rollout in shown) * contract.period_s < seconds:
            shown.append(demonstrate("pick_fruit", "in_domain", len(shown), cell))
    try:
        with console.status("writing the recording"):
            write_demonstrations(folder / "bag", shown, cell, contract, size=SIZE, images_a_row=IMAGES_A_ROW)
        replayed: list[dict[str, Any]] = []
        for number in range(runs):
            replay([folder / "bag"], None, "compact", contract.name, "", 0.2, 0, 2, folder / f"run{number}", "")
            replayed.append(json.loads((folder / f"run{number}" / "latest" / "replay.json").read_text()))
    finally:
        shutil.rmtree(folder / "bag", ignore_errors=True)
    same = len({run["digest"] for run in replayed}) == 1
    result = {"same_digest": same, "runs": [{name: run[name] for name in ("digest", "realtime_factor", "seconds")} for run in replayed]}
    result["commit"] = replayed[0]["commit"]
    write_json(folder / "replay.json", result)
    console.print("digests are " + ("the same" if same else "[red]different[/red]"), f" {folder / 'replay.json'}")
    write_json(json_file, result)
    raise typer.Exit(0 if same else FAILED)
