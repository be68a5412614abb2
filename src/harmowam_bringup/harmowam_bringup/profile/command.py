"""``harmowam profile``: list, check, prepare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from harmowam_bringup.cli import FAILED, Json, Preset, _console, _reported
from harmowam_core.results import write_json

Profile = Annotated[str, typer.Argument(help="Cell profile by name, or path of a profile.")]


def check(
    profile: Profile = "franka_dual",
    controllers: Annotated[Path | None, typer.Option(help="Check this ros2_control parameter file as well.")] = None,
    json: Json = "",
) -> None:
    """Say what is wrong with a profile; exit 1 if anything is."""
    console = _console(json)
    with _reported(console):
        import yaml

        from harmowam_bringup.profile.lint import lint, lint_controllers, serial_findings
        from harmowam_core.cell import cell_path, load_cell

        path = cell_path(profile)
        cell = load_cell(path)
        findings = lint(cell)
        if controllers is not None:
            try:
                content = yaml.safe_load(controllers.read_text())
            except yaml.YAMLError as error:
                raise ValueError(f"{controllers}: not YAML: {error}") from error
            findings += [f"{controllers}: {finding}" for finding in lint_controllers(content)]
        notes = list(serial_findings(cell))
    if json != "-":
        _print(console, path, findings, notes)
    write_json(json, {"profile": cell.name, "file": str(path), "findings": findings, "for_a_robot": notes})
    raise typer.Exit(FAILED if findings else 0)


def _print(console: Console, path: Path, findings: list[str], notes: list[str]) -> None:
    console.print(f"{path}: {'in order' if not findings else f'{len(findings)} findings'}")
    for finding in findings:
        console.print(f"[red]  {escape(finding)}[/red]")
    for note in notes:
        console.print(f"  before it runs on a robot: {escape(note)}")


def prepare(
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
    profile: Profile = "franka_dual",
    preset: Preset = "compact",
    arms: Annotated[bool, typer.Option(help="Start the arm driver.")] = True,
    cameras: Annotated[str, typer.Option(help="Who reads the cameras: harmowam, realsense, or none.")] = "harmowam",
    fake_hardware: Annotated[bool, typer.Option("--fake-hardware", help="ros2_control's mock components instead of arms.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load no controller that could move the arms.")] = False,
    rviz: Annotated[bool, typer.Option("--rviz", help="rviz2 must be installed.")] = False,
    json: Json = "",
) -> None:
    """Write what a launch file needs of a profile: controllers, robot description, nodes to start."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.profile.prepare import Wishes
        from harmowam_bringup.profile.prepare import prepare as write

        wishes = Wishes(preset, arms, cameras, fake_hardware, dry_run, rviz)  # type: ignore[arg-type]  # checked there
        launch = write(profile, out.resolve(), wishes)
    console.print(f"profile {launch['profile']}: {len(launch['hardware'])} nodes in {out / 'launch.json'}")
    write_json(json, launch)


def listed(json: Json = "") -> None:
    """The profiles there are, and the preset that was trained for each."""
    console = _console(json)
    with _reported(console):
        from harmowam_core.cell import cell_files, load_cell
        from harmowam_core.presets import PRESETS_DIR
        from harmowam_core.wan_preset import load_any_preset

        presets = {path.stem: load_any_preset(path.stem).cell for path in sorted(PRESETS_DIR.glob("*.yaml"))}
        found = {
            name: {
                "file": str(path),
                "arms": list(load_cell(path).arm_names),
                "presets": [p for p, cell in presets.items() if cell == name],
            }
            for name, path in cell_files().items()
        }
    if json != "-":
        for name, entry in found.items():
            console.print(f"{name:<14} arms {', '.join(entry['arms']):<12} presets {', '.join(entry['presets']) or 'none'}")
    write_json(json, found)
