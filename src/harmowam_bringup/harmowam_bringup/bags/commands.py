"""Commands about recordings: record, dataset from-bags, labels, and their benchmarks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from harmowam_bringup.cli import FAILED, Json, Preset, _console, _reported, _write

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
