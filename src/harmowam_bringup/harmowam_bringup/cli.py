"""The ``harmowam`` command. Everything heavy is imported by the command that needs it: help comes at once.

Exit codes: 0 done; 1 it ran and failed (the task, a check); 2 bad input; 3 the graph did not run; 130 interrupted.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from harmowam_core.results import write_json

FAILED, BAD_INPUT, NO_GRAPH, INTERRUPTED = 1, 2, 3, 130

ELSEWHERE = {
    "train": ("harmowam_training.train", "train"),
    "evaluate": ("harmowam_training.evaluate", "evaluate"),
    "models": ("harmowam_training.open_loop", "bench_models"),
    "demonstrators": ("harmowam_training.bench_demonstrators", "bench_demonstrators"),
    "backends": ("harmowam_training.bench_backends", "bench"),
    "build": ("harmowam_training.engines", "build"),
    "engines list": ("harmowam_training.engines", "list_engines"),
    "replay": ("harmowam_bringup.replay.command", "replay"),
    "play": ("harmowam_bringup.replay.play", "play"),
    "bench replay": ("harmowam_bringup.replay.bench", "bench_replay"),
    "check": ("harmowam_bringup.profile.command", "check"),
    "prepare": ("harmowam_bringup.profile.command", "prepare"),
    "profile list": ("harmowam_bringup.profile.command", "listed"),
    "wait": ("harmowam_bringup.startup", "wait"),
    "activate": ("harmowam_bringup.startup", "activate"),
    "calibrate-drift": ("harmowam_training.calibrate_drift", "calibrate_drift"),
    "watch": ("harmowam_bringup.watch.commands", "watch"),
    "urdf": ("harmowam_bringup.watch.commands", "urdf"),
    "bench watch": ("harmowam_bringup.watch.commands", "bench_watch"),
    "record": ("harmowam_bringup.bags.commands", "record"),
    "bench record": ("harmowam_bringup.bags.commands", "bench_record"),
    "bag": ("harmowam_bringup.bags.commands", "bench_bag"),
    "publish-cameras": ("harmowam_bringup.bags.commands", "publish_cameras"),
    "from-bags": ("harmowam_bringup.bags.commands", "from_bags"),
    "labels": ("harmowam_bringup.bags.commands", "labels"),
    "fuzz": ("harmowam_bringup.fuzz.command", "fuzz"),
    "soak": ("harmowam_bringup.faults.soak", "soak"),
    "faults": ("harmowam_bringup.faults.bench", "bench_faults"),
    "limits": ("harmowam_gate.bench_limits", "bench_limits"),
    "planner": ("harmowam_bringup.planning.bench", "bench_planner"),
    "cameras": ("harmowam_bringup.cameras.command", "cameras"),
    "camera-node": ("harmowam_bringup.cameras.bench", "camera_node"),
    "calibration": ("harmowam_bringup.calibration.bench", "calibration"),
    "board": ("harmowam_bringup.calibration.command", "board"),
    "wrist": ("harmowam_bringup.calibration.command", "wrist"),
    "scene": ("harmowam_bringup.calibration.command", "scene"),
}
"""Commands whose options another module defines: module and function, imported when called; "group command" where the name is taken."""


class _Group(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        grouped = f"{ctx.info_name} {name}"
        for known in (grouped, name):
            if known in ELSEWHERE:
                return name, _load(known), rest
        return name, command, rest


def _load(name: str) -> Any:
    from importlib import import_module

    module, name_there = ELSEWHERE[name]
    function = getattr(import_module(module), name_there)

    @wraps(function)
    def command(*words: Any, **options: Any) -> Any:
        with _reported(Console(stderr=True, highlight=False, soft_wrap=True)):
            return function(*words, **options)

    alone = typer.Typer(add_completion=False)
    alone.command(name.split()[-1])(command)
    return typer.main.get_command(alone)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, help="HarmoWAM: world action models on ROS 2.")
bench = typer.Typer(cls=_Group, no_args_is_help=True, help="Measure performance.")
app.add_typer(bench, name="bench")
engines = typer.Typer(cls=_Group, no_args_is_help=True, help="Engines: networks compiled for a backend, checked and cached.")
app.add_typer(engines, name="engines")
dataset = typer.Typer(cls=_Group, no_args_is_help=True, help="Training sets.")
app.add_typer(dataset, name="dataset")
calibrate = typer.Typer(cls=_Group, no_args_is_help=True, help="Measure where the cameras are, and write it to the cell profile.")
app.add_typer(calibrate, name="calibrate")
profile = typer.Typer(cls=_Group, no_args_is_help=True, help="Robot profiles: what the arms, grippers, cameras and controllers are.")
app.add_typer(profile, name="profile")

Json = Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write the results as JSON to FILE; without FILE to standard output.")]
Task = Annotated[str, typer.Option(help="Task laid out on the table.")]
Environment = Annotated[str, typer.Option(help="in_domain, background, position or objects.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the episode, among those no training has seen.")]
Preset = Annotated[str, typer.Option(help="Preset by name, or path of a preset file.")]
Backend = Annotated[str, typer.Option(help="What runs the networks: torch, torch_bf16, openvino, onnx or tensorrt.")]


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
    write_json(json, summary)
    raise typer.Exit(0 if summary["success"] else FAILED)


@app.command("train", help="Train from nothing to weights: data, world model, experts and gate.")
def _train() -> None: ...


@app.command("evaluate", help="Closed-loop benchmark in one process: many episodes by policy, task and environment.")
def _evaluate() -> None: ...


@app.command("replay", help="Offline evaluation of recordings: both experts, imagination and gate against what was executed.")
def _replay() -> None: ...


@app.command("play", help="Play a recording into a live graph that runs on its clock (replay.launch.yaml does both).")
def _play() -> None: ...


@bench.command("replay", help="How much faster than real time a recording of three 640x480 cameras is evaluated.")
def _bench_replay() -> None: ...


@app.command("cameras", help="List the connected RealSense cameras; exit 1 if there are none.")
def _cameras() -> None: ...


@calibrate.command("board", help="Write a ChArUco board to print, at true scale.")
def _calibrate_board() -> None: ...


@calibrate.command("wrist", help="A camera on a hand, from views of a board that stays where it is.")
def _calibrate_wrist() -> None: ...


@calibrate.command("scene", help="A camera that stays where it is, from views of a board in a hand.")
def _calibrate_scene() -> None: ...


@bench.command("camera-node", help="Processor time and dropped frames of the camera node, on three software cameras.")
def _bench_camera_node() -> None: ...


@bench.command("calibration", help="Errors of the calibration against known truth, on rendered views.")
def _bench_calibration() -> None: ...


@app.command("watch", help="See a running graph, or a bag, in Rerun: arms, cameras, imagination, experts, gate, latencies, drift.")
def _watch() -> None: ...


@app.command("urdf", help="Print the whole cell as one URDF, for robot_state_publisher.")
def _urdf() -> None: ...


@bench.command("watch", help="What watching costs the graph: with Rerun, with what rviz subscribes to, and without.")
def _bench_watch() -> None: ...


@app.command("calibrate-drift", help="Find out how far imagination and reality part in normal runs of these weights.")
def _calibrate_drift() -> None: ...


@app.command("fuzz", help="Random chunks and joint states through the pure arbiter, judged by the auditor.")
def _fuzz() -> None: ...


@app.command("soak", help="Hours of the whole graph with random faults, judged by the auditor.")
def _soak() -> None: ...


@bench.command("models", help="Open-loop errors of every model on held-out demonstrations, by task and environment.")
def _bench_models() -> None: ...


@bench.command("demonstrators", help="How often the scripted demonstrators succeed, by task and environment.")
def _bench_demonstrators() -> None: ...


@bench.command("backends", help="Times of imagination, experts and gate by backend, and their nearness to PyTorch.")
def _bench_backends() -> None: ...


@engines.command("build", help="Export every network, build its engines, and compare them with PyTorch.")
def _engines_build() -> None: ...


@engines.command("list", help="What is in the cache, and what of it is stale or damaged.")
def _engines_list() -> None: ...


@profile.command("check", help="Say what is wrong with a profile; exit 1 if anything is.")
def _profile_check() -> None: ...


@profile.command("prepare", help="Write what a launch file needs of a profile: controllers, robot description, nodes to start.")
def _profile_prepare() -> None: ...


@profile.command("list", help="The profiles there are, and the preset that was trained for each.")
def _profile_list() -> None: ...


@app.command("wait", help="Wait until a part of the graph is alive; exit 3 and say what is missing if it does not come.")
def _wait() -> None: ...


@app.command("activate", help="Configure and activate a node that does not bring itself up.")
def _activate() -> None: ...


@app.command("record", help="Record the running graph to a rosbag2 (MCAP).")
def _record() -> None: ...


@app.command("labels", help="Interaction and transit in recordings, from gripper events and heights, on a timeline.")
def _labels() -> None: ...


@dataset.command("from-bags", help="Make a training set of recorded demonstrations.")
def _dataset_from_bags() -> None: ...


@bench.command("record", help="Three 640x480 cameras at 30 Hz beside the graph: lost messages, and what the recorder costs.")
def _bench_record() -> None: ...


@bench.command("bag", help="How much faster than real time a bag is read and decoded.")
def _bench_bag() -> None: ...


@bench.command("publish-cameras", help="Publish made-up camera images, to measure what listens.")
def _bench_publish_cameras() -> None: ...


@bench.command("faults", help="Reaction times to every fault of the catalogue.")
def _bench_faults() -> None: ...


@bench.command("limits", help="How long the arbiter's limits take for one trajectory of all arms.")
def _bench_limits() -> None: ...


@bench.command("planner", help="Random moves of both arms among clutter: success, planning times, collisions by an independent checker.")
def _bench_planner() -> None: ...


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
    write_json(json, results)


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
    from_home: Annotated[bool, typer.Option("--from-home", help="First bring the arms home by a planned way.")] = False,
    json: Json = "",
) -> None:
    """Give a running graph a task and watch it; Ctrl-C cancels."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.operator import execute

        result = execute(instruction, time_limit, console, from_home)
    write_json(json, result)
    raise typer.Exit(0 if result["outcome"] == "SUCCEEDED" else FAILED)


@app.command()
def home(json: Json = "") -> None:
    """Bring the arms of a running graph home by a planned, collision-free way; Ctrl-C cancels."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.operator import go_home

        result = go_home(console)
    write_json(json, result)
    raise typer.Exit(0 if result["outcome"] == "SUCCEEDED" else FAILED)


@app.command()
def hold(json: Json = "") -> None:
    """Brake the arms of a running graph to rest and keep them there until `harmowam reset`. Not an emergency stop."""
    _ask("HOLD", json)


@app.command()
def reset(json: Json = "") -> None:
    """Let the arms move again after a hold or a latched fault."""
    _ask("RESET", json)


def _ask(service: str, json: str) -> None:
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.operator import ask
        from harmowam_core import topics

        result = ask(getattr(topics, service))
    console.print(escape(result["message"]))
    write_json(json, result)
    raise typer.Exit(0 if result["success"] else FAILED)


@app.command()
def status(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long to listen.")] = 2.5,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, until Ctrl-C.")] = False,
    json: Json = "",
) -> None:
    """What the nodes of a running graph and its gate say of themselves; exit 1 if any has a fault or none is heard."""
    console = _console(json)
    with _reported(console):
        from harmowam_bringup.status import listen, show_live, status_table

        heard = show_live(console) if watch else listen(seconds)
    if json != "-" and not watch:
        console.print(status_table(heard))
    write_json(json, heard)
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
    write_json(json, result)


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
    write_json(json, verdict)
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
