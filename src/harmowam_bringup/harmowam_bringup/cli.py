"""The ``harmowam`` command. Everything heavy is imported by the command that needs it: help comes at once.

Exit codes: 0 done; 1 it ran and failed (the task, a check); 2 bad input; 3 the graph did not run; 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

FAILED, BAD_INPUT, NO_GRAPH, INTERRUPTED = 1, 2, 3, 130

ELSEWHERE = {
    "train": ("harmowam_training.train", "train"),
    "evaluate": ("harmowam_training.evaluate", "evaluate"),
    "models": ("harmowam_training.open_loop", "bench_models"),
    "limits": ("harmowam_gate.bench_limits", "bench_limits"),
    "planner": ("harmowam_bringup.planning.bench", "bench_planner"),
}
"""Commands whose options another package defines: module and function, imported when called."""


class _Group(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if name in ELSEWHERE:
            command = _load(name)
        return name, command, rest


def _load(name: str) -> Any:
    from importlib import import_module

    module, function = ELSEWHERE[name]
    alone = typer.Typer(add_completion=False)
    alone.command(name)(getattr(import_module(module), function))
    return typer.main.get_command(alone)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, help="HarmoWAM: world action models on ROS 2.")
bench = typer.Typer(cls=_Group, no_args_is_help=True, help="Measure performance.")
app.add_typer(bench, name="bench")

Json = Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write the results as JSON to FILE; without FILE to standard output.")]
Task = Annotated[str, typer.Option(help="Task laid out on the table.")]
Environment = Annotated[str, typer.Option(help="in_domain, background, position or objects.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the episode, among those no training has seen.")]
Preset = Annotated[str, typer.Option(help="Preset by name, or path of a preset file.")]
Backend = Annotated[str, typer.Option(help="What runs the networks: torch, torch_bf16, openvino, onnxruntime or tensorrt.")]


@contextmanager
def _reported(console: Console) -> Iterator[None]:
    """Errors that a user can mend become one clear message and an exit code."""
    from harmowam_bringup.session import GraphError

    try:
        yield
    except GraphError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(NO_GRAPH) from error
    except (ValueError, FileNotFoundError) as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _console(json_to: str) -> Console:
    """Where humans read: standard error when machines read standard output."""
    return Console(stderr=json_to == "-", highlight=False, soft_wrap=True)


def _write(json_to: str, result: Any) -> None:
    if json_to == "-":
        print(json.dumps(result, indent=2, allow_nan=False))
    elif json_to:
        from harmowam_bringup.summary import write_json

        write_json(Path(json_to), result)


@app.command()
def demo(
    task: Task = "pick_fruit",
    environment: Environment = "in_domain",
    seed: Seed = 0,
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds the task may take.")] = 90.0,
    instruction: Annotated[str, typer.Option(help="In your own words; default: the episode's instruction.")] = "",
    preset: Preset = "compact",
    backend: Backend = "openvino",
    json: Json = "",
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/demo"),
) -> None:
    """Run one task in the simulated cell by the whole ROS graph, and report; exit 0 only if it succeeded."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.demo import DemoOptions, run_demo

        options = DemoOptions(task, environment, seed, time_limit, instruction, preset, backend, out)
        summary = run_demo(options, console)
    _write(json, summary)
    raise typer.Exit(0 if summary["success"] else FAILED)


@app.command("train", help="Train from nothing to weights: data, world model, experts and gate.")
def _train() -> None: ...


@app.command("evaluate", help="Closed-loop benchmark in one process: many episodes by policy, task and environment.")
def _evaluate() -> None: ...


@bench.command("models", help="Open-loop errors of every model on held-out demonstrations, by task and environment.")
def _models() -> None: ...


@bench.command("limits", help="How long the arbiter's limits take for one trajectory of all arms.")
def _limits() -> None: ...


@bench.command("planner", help="Random moves of both arms among clutter: success, planning times, collisions by an independent checker.")
def _planner() -> None: ...


@bench.command()
def graph(
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to measure.")] = 30.0,
    task: Task = "pick_fruit",
    environment: Environment = "in_domain",
    seed: Seed = 0,
    preset: Preset = "compact",
    backend: Backend = "openvino",
    json: Json = "",
    out: Annotated[Path, typer.Option(help="Folder for results.")] = Path("out/bench"),
) -> None:
    """Rates and latencies of the ROS graph at work in the simulated cell."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.bench import BenchOptions, bench_graph

        results = bench_graph(BenchOptions(seconds, task, environment, seed, preset, backend, out), console)
    _write(json, results)


@app.command()
def up(
    file: Annotated[str, typer.Argument(help="A YAML launch file: a path, or the name of one of ours such as sim.launch.yaml.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[NAME:=VALUE]...", help="Launch arguments.")] = None,
    show_args: Annotated[bool, typer.Option("--show-args", "-s", help="List the launch arguments, run nothing.")] = False,
    print_only: Annotated[bool, typer.Option("--print", "-p", help="Print what would be started, run nothing.")] = False,
) -> None:
    """Run a ROS 2 YAML launch file, also where the launch packages are not installed."""
    from harmowam_bringup import up as runner

    console = _console("")
    with _reported(console):
        code = runner.run(file, arguments or [], console, show_args=show_args, print_only=print_only)
    raise typer.Exit(code)


@app.command()
def do(
    instruction: Annotated[str, typer.Argument(help='What to do, in words: "put the banana on the plate".')],
    time_limit: Annotated[float, typer.Option(min=1.0, help="Seconds the task may take.")] = 120.0,
    json: Json = "",
) -> None:
    """Give a running graph a task and watch it; Ctrl-C cancels."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.operator import execute

        result = execute(instruction, time_limit, console)
    _write(json, result)
    raise typer.Exit(0 if result["outcome"] == "SUCCEEDED" else FAILED)


@app.command()
def status(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long to listen.")] = 2.5,
    json: Json = "",
) -> None:
    """What the nodes of a running graph and its gate say of themselves; exit 1 if any has a fault or none is heard."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.operator import listen, print_status

        heard = listen(seconds)
    if json != "-":
        print_status(heard, console)
    _write(json, heard)
    raise typer.Exit(0 if heard["nodes"] and all(node["level"] != "ERROR" for node in heard["nodes"].values()) else FAILED)


@app.command()
def drill(
    topic: Annotated[str, typer.Argument(help="Topic to break, 'all' of them, or 'clear' to end every fault; without it: list all.")] = "",
    mode: Annotated[str, typer.Argument(help="How, such as off or delayed; pass heals.")] = "",
    value: Annotated[float, typer.Option(help="What the mode takes, such as a delay in s; 0: its default.")] = 0.0,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long; 0: until told.")] = 0.0,
    json: Json = "",
) -> None:
    """Break topics of a running graph on purpose (started with drill:=true), to see that the arms stay safe."""
    if topic == "clear" and not mode:
        topic, mode = "all", "pass"
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.drill import command

        if not topic:
            result = command.overview()
        elif not mode:
            raise ValueError(f"how shall {topic} break? give a mode: {', '.join(command.MODES)}")
        else:
            result = command.set_fault(topic, mode, value, seconds)
    if not topic and json != "-":
        command.print_overview(result, console)
    elif topic:
        console.print(escape(result["message"]))
    _write(json, result)


@app.command()
def audit(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    cell: Annotated[str, typer.Option(help="Cell profile by name, or path of a profile.")] = "franka_dual",
    json: Json = "",
) -> None:
    """Judge every trajectory that a bag recorded on the command topics; exit 1 if any breaks a rule."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.auditor.from_bag import audit_bag, print_verdict
        from harmowam_core.cell import load_cell

        verdict = audit_bag(bag, load_cell(cell))
    if json != "-":
        print_verdict(verdict, console)
    _write(json, verdict)
    raise typer.Exit(FAILED if verdict["violations"] else 0)


@app.command()
def doctor(json: Json = "") -> None:
    """What this machine lacks for running the stack, and how to get it; exit 1 if something needed is missing."""
    from harmowam_bringup import doctor as checks

    raise typer.Exit(checks.main(json=bool(json)))


def with_json_target(words: list[str]) -> list[str]:
    """``--json`` without a file means standard output, ``--json -``."""
    result: list[str] = []
    for index, word in enumerate(words):
        result.append(word)
        following = words[index + 1] if index + 1 < len(words) else "--"
        if word == "--json" and following.startswith("--"):
            result.append("-")
    return result


def main(words: list[str] | None = None, run: Callable[..., Any] = app) -> None:
    """Entry point."""
    # A shell that starts us in the background has SIGINT ignored, here and in every node; yet it is how all of them are stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(args=with_json_target(sys.argv[1:] if words is None else words), prog_name="harmowam")
