"""`harmowam bench calibration`: errors against known truth, over many seeds."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harmowam_core.results import write_json

MAX_MM, MAX_DEG = 2.0, 0.2


def calibration(
    repeats: Annotated[int, typer.Option(min=1, help="Seeds a set-up.")] = 10,
    views: Annotated[int, typer.Option(min=8, help="Views a calibration.")] = 20,
    json: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write as JSON to FILE; without FILE to standard output.")] = "",
) -> None:
    """Calibrate from rendered views with lens, blur, noise and an imperfect arm; exit 1 if any is off by more than 2 mm or 0.2 degrees."""
    console = Console(stderr=json == "-", highlight=False, soft_wrap=True)
    setups = [(kind, intrinsics) for kind in ("wrist", "scene") for intrinsics in ("given", "fitted")]
    todo = [(*setup, seed) for setup in setups for seed in range(repeats)]
    progress = track(todo, "calibrating", console=console, transient=True)
    runs = [one(kind, intrinsics, views, seed) for kind, intrinsics, seed in progress]
    rows = [summary(runs, kind, intrinsics) for kind, intrinsics in setups]
    table = Table("camera", "lens", "mm p50", "p95", "max", "deg p50", "p95", "max", "sigma mm", box=None, pad_edge=False)
    for row in rows:
        figures = [f"{row[key][p]:.3f}" for key in ("error_mm", "error_deg") for p in ("p50", "p95", "max")]
        table.add_row(row["kind"], row["intrinsics"], *figures, f"{row['sigma_mm']:.3f}")
    console.print(table)
    result = {"repeats": repeats, "views": views, "setups": rows}
    write_json(json, result)
    met = all(run["error_mm"] <= MAX_MM and run["error_deg"] <= MAX_DEG for run in runs)
    raise typer.Exit(0 if met else 1)


def one(kind: Any, intrinsics: str, views: int, seed: int) -> dict[str, Any]:
    """One calibration with its errors; ``given`` takes the true lens, ``fitted`` knows nothing of it."""
    from harmowam_bringup.calibration.board import Board
    from harmowam_bringup.calibration.calibrate import calibrate
    from harmowam_bringup.calibration.hand_eye import angle_deg
    from harmowam_bringup.calibration.recordings import Picture
    from harmowam_bringup.calibration.synthetic import show

    shown = show(kind, Board(), views, np.random.default_rng([seed, kind == "wrist"]))
    pictures = [Picture(str(k), image, tool) for k, (image, tool) in enumerate(zip(shown.images, shown.tools, strict=True))]
    result = calibrate(kind, pictures, shown.truth.lens, Board(), intrinsics == "fitted")
    found, truth = result.solution.camera, shown.truth.camera
    return {
        "kind": kind,
        "intrinsics": intrinsics,
        "seed": seed,
        "sigma_mm": result.solution.sigma_mm,
        "error_mm": 1e3 * float(np.linalg.norm(found[:3, 3] - truth[:3, 3])),
        "error_deg": angle_deg(found, truth),
    }


def summary(runs: list[dict[str, Any]], kind: str, intrinsics: str) -> dict[str, Any]:
    """The distribution over the seeds of one set-up."""
    mine = [run for run in runs if (run["kind"], run["intrinsics"]) == (kind, intrinsics)]
    row: dict[str, Any] = {"kind": kind, "intrinsics": intrinsics}
    for key in ("error_mm", "error_deg"):
        values = [run[key] for run in mine]
        row[key] = {"p50": float(np.median(values)), "p95": float(np.percentile(values, 95)), "max": max(values), "all": values}
    return {**row, "sigma_mm": float(np.median([run["sigma_mm"] for run in mine]))}
