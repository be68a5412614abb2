"""Commands about recordings: record, dataset from-bags, labels, and their benchmarks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from harmowam_bringup.cli import FAILED, Json, Preset, _console, _reported
from harmowam_core.results import write_json

Contract = Annotated[str, typer.Option(help="What is read from which topic: name or path; default: the contract of the cell.")]
Bags = Annotated[list[Path], typer.Argument(help="Rosbag2 recordings: their folders, or single .mcap or .db3 files.")]


def record(
    out: Annotated[Path | None, typer.Option(help="Folder of the bag, which must not exist; default: out/bags/<time>.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Record this topic as well; may be repeated.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Record every topic there is.")] = False,
    compress_images: Annotated[
        Literal["none", "jpeg"], typer.Option(help="jpeg: smaller, but not exact, and more processor time.")
    ] = "none",
    preset: Preset = "compact",
    contract: Contract = "",
    cell: Annotated[str, typer.Option(help="Of a robot without the policy: its cell profile by name, or path. Records all topics.")] = "",
    seconds: Annotated[float, typer.Option(min=0.0, help="How long; 0: until Ctrl-C.")] = 0.0,
    json: Json = "",
) -> None:
    """Record the running graph to a rosbag2 (MCAP) until Ctrl-C; exit 3 if the disk fills up."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.record import RecordOptions
        from harmowam_bringup.bags.record import record as run

        folder = out or Path("out/bags") / datetime.now().strftime("%Y%m%d-%H%M%S")
        options = RecordOptions(folder, tuple(topic or ()), everything, compress_images == "jpeg", preset, contract, seconds, cell)
        result = run(options, console)
    write_json(json, result)


def from_bags(
    bags: Bags,
    out: Annotated[Path, typer.Option(help="Folder of the training set, new or empty.")],
    preset: Preset = "compact",
    contract: Contract = "",
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
    write_json(json, report)


def labels(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    png: Annotated[Path | None, typer.Option(help="Draw heights, openings and labels to this file.")] = None,
    cell: Annotated[str, typer.Option(help="Cell profile by name, or path of a profile.")] = "franka_dual",
    contract: Contract = "",
    json: Json = "",
) -> None:
    """Interaction and transit in a recording, by gripper events and where the tools were: the rule that teaches the gate."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.labels import label_bag, plot_labels, print_labels
        from harmowam_core.cell import load_cell
        from harmowam_core.contract import load_contract

        profile = load_cell(cell)
        found, motion = label_bag(bag, load_contract(contract or profile.name), profile, console)
        print_labels(found, console)
        if png is not None:
            plot_labels(found, motion, profile, png)
            console.print(f"  {png}")
    write_json(json, found)


def bench_bag(
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the bag; a second takes 80 MiB.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/bench"),
    json: Json = "",
) -> None:
    """How much faster than real time a bag of three 640x480 cameras at 30 Hz is read and decoded."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.bench import bench_bag as run

        results = run(seconds, out, console)
    write_json(json, results)


def bench_record(
    seconds: Annotated[float, typer.Option(min=5.0, help="How long; a second takes 80 MiB of disk until the end.")] = 120.0,
    graph: Annotated[bool, typer.Option(help="With the simulated graph at work beside it.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/bench"),
    json: Json = "",
) -> None:
    """Record three 640x480 cameras at 30 Hz; exit 1 if any image was dropped."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.bench import bench_record as run

        results = run(seconds, graph, out, console)
    write_json(json, results)
    raise typer.Exit(FAILED if results["dropped"] else 0)


def publish_cameras(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long, once somebody listens.")] = 10.0,
    cameras: Annotated[int, typer.Option(min=1, max=16, help="How many.")] = 3,
    width: Annotated[int, typer.Option(min=1)] = 640,
    height: Annotated[int, typer.Option(min=1)] = 480,
    hz: Annotated[float, typer.Option(min=0.1, help="Images a second of each.")] = 30.0,
    json: Json = "",
) -> None:
    """Publish made-up images on /bench/camera_<k>/color/image_raw; prints how many."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bags.made_up_cameras import Cameras, publish
        from harmowam_bringup.session import GraphError

        try:
            sent = publish(Cameras(cameras, width, height, hz), seconds)
        except TimeoutError as error:
            raise GraphError(str(error)) from error
    console.print(f"{sum(sent.values())} images sent")
    write_json(json, sent)
