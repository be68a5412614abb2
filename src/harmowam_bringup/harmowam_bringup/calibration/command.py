"""`harmowam calibrate board|wrist|scene`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from harmowam_core.results import write_json

BAD_INPUT = 2

Columns = Annotated[int, typer.Option(help="Squares of the board along its longer side.")]
Rows = Annotated[int, typer.Option(help="Squares along its shorter side.")]
Square = Annotated[float, typer.Option(help="Side of a square, mm, as measured on the print.")]
Recording = Annotated[Path, typer.Argument(help="A rosbag2, or a folder of images with poses.json.")]
CellFile = Annotated[str, typer.Option(help="Your cell's profile, a .yaml file; it is written unless --dry-run.")]
Intrinsics = Annotated[str, typer.Option(help="given: the recorded camera_info; fitted: from the views.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report and show the change, write nothing.")]
Json = Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write the report as JSON to FILE; without FILE to standard output.")]


@contextmanager
def _reported(console: Console) -> Iterator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(BAD_INPUT) from error


def board(
    out: Annotated[Path, typer.Option(help="A .pdf or .png file.")] = Path("board.pdf"),
    columns: Columns = 9,
    rows: Rows = 6,
    square_mm: Square = 28.0,
) -> None:
    """Write a ChArUco board to print, at true scale."""
    from harmowam_bringup.calibration.board import Board, print_board

    console = Console(highlight=False, soft_wrap=True)
    with _reported(console):
        console.print(print_board(Board(columns, rows, square_mm / 1e3), out))


def wrist(
    recording: Recording,
    camera: Annotated[str, typer.Option(help="The camera's name in the profile.")] = "wrist_left",
    cell: CellFile = "franka_dual",
    columns: Columns = 9,
    rows: Rows = 6,
    square_mm: Square = 28.0,
    intrinsics: Intrinsics = "given",
    dry_run: DryRun = False,
    json: Json = "",
) -> None:
    """A camera on a hand, from views of a board that stays where it is."""
    _calibrate("wrist", recording, camera, "", cell, (columns, rows, square_mm), intrinsics, dry_run, json)


def scene(
    recording: Recording,
    camera: Annotated[str, typer.Option(help="The camera's name in the profile.")] = "scene",
    arm: Annotated[str, typer.Option(help="The arm that holds the board.")] = "left",
    cell: CellFile = "franka_dual",
    columns: Columns = 9,
    rows: Rows = 6,
    square_mm: Square = 28.0,
    intrinsics: Intrinsics = "given",
    dry_run: DryRun = False,
    json: Json = "",
) -> None:
    """A camera that stays where it is, from views of a board in a hand."""
    _calibrate("scene", recording, camera, arm, cell, (columns, rows, square_mm), intrinsics, dry_run, json)


def _calibrate(
    kind: Literal["wrist", "scene"],
    recording: Path,
    camera: str,
    arm: str,
    cell_file: str,
    squares: tuple[int, int, float],
    intrinsics: str,
    dry_run: bool,
    json: str,
) -> None:
    console = Console(stderr=json == "-", highlight=False, soft_wrap=True)
    with _reported(console):
        from harmowam_bringup.calibration import profile
        from harmowam_bringup.calibration.board import Board
        from harmowam_bringup.calibration.calibrate import calibrate
        from harmowam_bringup.calibration.recordings import load
        from harmowam_core.cell import load_cell

        if intrinsics not in ("given", "fitted"):
            raise ValueError(f"--intrinsics is '{intrinsics}', expected given or fitted")
        path = None if dry_run else profile.profile_path(cell_file)
        cell = load_cell(cell_file)
        try:
            entry = cell.camera(camera)
        except KeyError as error:
            raise ValueError(error.args[0]) from error
        if (kind == "wrist") != (entry.mounted_on is not None):
            other = "scene" if kind == "wrist" else "wrist"
            raise ValueError(f"camera '{camera}' is mounted on {entry.mounted_on or 'nothing'}; calibrate it as {other}")
        arm = entry.mounted_on or arm
        if arm not in cell.arm_names:
            raise ValueError(f"there is no arm '{arm}'; arms are {', '.join(cell.arm_names)}")
        recorded = load(recording, camera, arm, cell)
        printed = Board(squares[0], squares[1], squares[2] / 1e3)
        progress = partial(track, description="looking for the board", console=console, transient=True)
        result = calibrate(kind, recorded.pictures, recorded.lens, printed, intrinsics == "fitted", progress)
        if json != "-":
            print_report(result.to_json(), console)
        calibration = profile.calibration_of(result.solution.camera, result.lens)
        source = Path(cell_file) if cell_file.endswith(".yaml") else profile.CELLS_DIR / f"{cell_file}.yaml"
        old = source.read_text()
        new = profile.updated(old, camera, result.lens.size, calibration)
        console.print(escape(profile.difference(old, new, source)))
        if path is not None:
            console.print(f"written to {path}; the old one is {profile.write(path, new)}")
    report = {
        "camera": camera,
        "kind": kind,
        **result.to_json(),
        "calibration": calibration.model_dump(),
        "written": str(path or "") or None,
    }
    write_json(json, report)


def print_report(report: dict[str, Any], console: Console) -> None:
    """Residuals by pose, and what to make of them."""
    table = Table("pose", "corners", "px", "mm", "deg", "", box=None, pad_edge=False)
    for pose in report["poses"]:
        marks = "[red]left out[/red]" if pose["outlier"] else ""
        table.add_row(pose["name"], str(pose["corners"]), *(f"{pose[key]:.2f}" for key in ("px", "mm", "deg")), marks)
    console.print(table)
    if report["without_board"]:
        console.print(f"no board found in {', '.join(report['without_board'])}")
    console.print(
        f"{report['used']} views, residual {report['rms_px']:.2f} px; "
        f"one standard deviation of the result: {report['sigma_mm']:.2f} mm, {report['sigma_deg']:.3f} deg"
    )
    check = report["intrinsics_check"]
    console.print(f"lens {report['intrinsics']}: {check['given_px']:.2f} px in single views, fitted to them {check['fitted_px']:.2f} px")
    if report["doubt"]:
        console.print(f"[yellow]{escape(report['doubt'])}[/yellow]")
