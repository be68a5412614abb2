"""Commands about recordings: record, dataset from-bags, labels, and their benchmarks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from harmowam_bringup.cli import Json, Preset, _console, _reported, _write

Contract = Annotated[str, typer.Option(help="What is read from which topic: a contract by name, or path of one.")]
Bags = Annotated[list[Path], typer.Argument(help="Rosbag2 recordings: their folders, or single .mcap or .db3 files.")]


def record(
    out: Annotated[Path | None, typer.Option(help="Folder of the bag, which must not exist; default: out/bags/<time>.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Record this topic as well; may be repeated.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Record every topic there is.")] = False,
    compress_images: Annotated[
        Literal["none", "jpeg"], typer.Option(help="jpeg: smaller, but not exact, and more processor time.")
    ] = "none",
    preset: Preset = "compact",
    contract: Contract = "franka_dual",
    seconds: Annotated[float, typer.Option(min=0.0, help="How long; 0: until Ctrl-C.")] = 0.0,
    json: Json = "",
) -> None:
    """Record the running graph to a rosbag2 (MCAP) until Ctrl-C; exit 3 if the disk fills up."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.record import RecordOptions
        from harmowam_bringup.bags.record import record as run

        folder = out or Path("out/bags") / datetime.now().strftime("%Y%m%d-%H%M%S")
        options = RecordOptions(folder, tuple(topic or ()), everything, compress_images == "jpeg", preset, contract, seconds)
        result = run(options, console)
    _write(json, result)


def from_bags(
    bags: Bags,
    out: Annotated[Path, typer.Option(help="Folder of the training set, new or empty.")],
    preset: Preset = "compact",
    contract: Contract = "franka_dual",
    successful: Annotated[bool, typer.Option("--successful", help="What no simulator has scored are good demonstrations.")] = False,
    task: Annotated[str, typer.Option(help="Name of the task; default: as recorded.")] = "",
    instruction: Annotated[str, typer.Option(help="Of recordings without a task, in words.")] = "",
    json: Json = "",
) -> None:
    """Make a training set of recorded demonstrations: teleoperated, scripted, or runs of the stack that succeeded."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.dataset import DatasetOptions
        from harmowam_bringup.bags.dataset import from_bags as convert

        options = DatasetOptions(out, preset, contract, successful, task, instruction)
        report = convert(bags, options, console)
    _write(json, report)


def labels(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    png: Annotated[Path | None, typer.Option(help="Draw heights, openings and labels to this file.")] = None,
    cell: Annotated[str, typer.Option(help="Cell profile by name, or path of a profile.")] = "franka_dual",
    contract: Contract = "franka_dual",
    json: Json = "",
) -> None:
    """Interaction and transit in a recording, by gripper events and where the tools were: the rule that teaches the gate."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.labels import label_bag, plot_labels, print_labels
        from harmowam_core.cell import load_cell
        from harmowam_core.contract import load_contract

        profile = load_cell(cell)
        found, motion = label_bag(bag, load_contract(contract), profile, console)
        print_labels(found, console)
        if png is not None:
            plot_labels(found, motion, profile, png)
            console.print(f"  {png}")
    _write(json, found)
