"""Commands about watching: watch, urdf, bench watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harmowam_bringup.cli import FAILED, Backend, Json, Preset, _console, _reported
from harmowam_core.results import write_json

CellName = Annotated[str, typer.Option(help="Cell profile by name, or path of a profile.")]


def watch(
    bag: Annotated[Path | None, typer.Option(help="Show this rosbag2: its folder, or one file; default: the running graph.")] = None,
    web: Annotated[bool, typer.Option("--web", help="Look with a browser on this machine, not in a window.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write a Rerun recording (.rrd) and show nothing.")] = None,
    port: Annotated[int, typer.Option(min=1024, max=65534, help="Of the page with --web; the next one carries the data.")] = 9090,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long; 0: until Ctrl-C.")] = 0.0,
    cell: CellName = "franka_dual",
) -> None:
    """See a running graph, or a bag, in Rerun: arms, cameras, imagination beside what came, both experts, gate, latencies, drift."""
    console = _console("")
    with _reported(console):
        from harmowam_bringup.watch import command
        from harmowam_core.cell import load_cell

        command.watch(load_cell(cell), console, bag=bag, web=web, save=save, port=port, seconds=seconds)


def urdf(cell: CellName = "franka_dual") -> None:
    """Print the whole cell as one URDF, for robot_state_publisher."""
    with _reported(_console("-")):
        from harmowam_bringup.robot_description import robot_description
        from harmowam_core.cell import load_cell

        print(robot_description(load_cell(cell)))


def bench_watch(
    seconds: Annotated[float, typer.Option(min=2.0, help="How long each way is measured each time.")] = 15.0,
    repetitions: Annotated[int, typer.Option(min=1, help="How often each way is measured, taking turns.")] = 4,
    preset: Preset = "compact",
    backend: Backend = "openvino",
    json: Json = "",
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/bench"),
) -> None:
    """What watching costs the graph in actions a second and in latency; exit 1 if it is more than 5 %."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.watch.bench import WatchBenchOptions
        from harmowam_bringup.watch.bench import bench_watch as run

        results = run(WatchBenchOptions(seconds, repetitions, preset, backend, out), console)
    write_json(json, results)
    raise typer.Exit(0 if results["within_limit"] else FAILED)
