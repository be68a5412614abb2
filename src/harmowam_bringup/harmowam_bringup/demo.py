"""The demo: one task of the simulated cell by the whole graph, watched, scored and reported."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from harmowam_bringup.launch_yaml import Launch, read_launch
from harmowam_bringup.palette import EXPERT_COLOURS
from harmowam_bringup.recorder import Recorder
from harmowam_bringup.recording import Recording
from harmowam_bringup.report import write_report
from harmowam_bringup.session import GraphError, GraphSession, TaskResult, free_domain, isolated_environment
from harmowam_bringup.summary import new_results_dir, summarise_run
from harmowam_bringup.supervisor import Line
from harmowam_bringup.video import SCENE_SIZE, WRIST_SIZE, write_video
from harmowam_core.cell import load_cell
from harmowam_core.results import commit, write_json
from harmowam_core.stages import Expert
from harmowam_core.status import GateState, Status
from harmowam_sim.environments import EpisodeSpec, sample_episode
from harmowam_sim.replay_render import replay_frames
from harmowam_sim.splits import EVALUATION_SEED_START
from harmowam_sim.state_log import StateLog, StateLogError

START_TIMEOUT_S = 300.0
"""A first start compiles the networks, which takes a while on two cores."""
AFTER_END_S = 1.0
"""The graph goes on for so long once the simulator has seen success or failure."""
LOG_EVERY_S, HOLD_LOG_EVERY_S = 2.0, 1.0
"""Lines are at most so far apart, and those about a mere change of status at least so far."""
SIM_LAUNCH = "sim.launch.yaml"


@dataclass(frozen=True)
class DemoOptions:
    """What to run; ``seed`` counts evaluation episodes, which no training has seen. Empty ``instruction``: the episode's own."""

    task: str = "pick_fruit"
    environment: str = "in_domain"
    seed: int = 0
    time_limit_s: float = 90.0
    instruction: str = ""
    preset: str = "compact"
    backend: str = "openvino"
    out: Path = Path("out/demo")

    @property
    def episode_seed(self) -> int:
        """The simulator's seed."""
        return EVALUATION_SEED_START + self.seed


def launch_simulation(options: DemoOptions, domain_id: int, state_log: Path | None) -> Launch:
    """sim.launch.yaml for these options, in a ROS domain of its own."""
    path = Path(get_package_share_directory("harmowam_bringup")) / "launch" / SIM_LAUNCH
    arguments = {
        "task": options.task,
        "environment": options.environment,
        "seed": str(options.episode_seed),
        "preset": options.preset,
        "backend": options.backend,
        "state_log": str(state_log.resolve()) if state_log is not None else "",
    }
    return read_launch(path, arguments, isolated_environment(domain_id))


def resolved_config(launch: Launch, options: Any) -> dict[str, Any]:
    """Options and every process as it was started, ready for JSON."""

    def plain(value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    return {
        "options": {name: plain(value) for name, value in asdict(options).items()},
        "processes": {
            process.name: {
                "command": [*process.command, *process.ros_arguments],
                "parameters": [plain(source) for source in process.parameters],
            }
            for process in launch.processes
        },
    }


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run, record, score and report; returns the summary. ValueError for an unknown task or environment, GraphError if it does not run."""
    spec = sample_episode(options.task, options.environment, options.episode_seed)
    instruction = options.instruction or spec.instruction
    started = datetime.now().isoformat(timespec="seconds")
    domain_id = free_domain()
    launch_simulation(options, domain_id, None)  # bad arguments and missing programs are found before a folder is made
    folder = new_results_dir(options.out)
    launch = launch_simulation(options, domain_id, folder / "states.npz")
    console.print(f"[bold]{escape(instruction)}[/bold]  ({options.task}, {options.environment}, seed {options.seed})")
    result, recording = _run_graph(options, launch, domain_id, folder, instruction, console)

    cell = load_cell()
    summary = summarise_run(
        recording,
        cell,
        instruction,
        outcome={"name": result.outcome.name, "why": result.why},
        run={
            "task": options.task,
            "environment": options.environment,
            "seed": options.seed,
            "episode_seed": options.episode_seed,
            "started": started,
            "commit": commit(),
            "config": resolved_config(launch, options),
        },
    )
    write_json(folder / "summary.json", summary)
    write_report(folder / "report.html", recording, summary, cell)
    try:
        log = StateLog.load(folder / "states.npz")
    except StateLogError as error:
        raise GraphError(f"no video: {error}; {folder / 'nodes.log'} may say why") from error
    if not log.stamps_ns or not recording.scores:
        raise GraphError(
            f"no video: the simulated cell showed nothing while the task ran; is the machine too busy? See {folder / 'nodes.log'}"
        )
    with console.status("rendering the video") if console.is_terminal else nullcontext():
        write_video(folder / "video.mp4", recording, instruction, _views(log, spec))
    _conclude(console, summary, folder)
    return summary


def _run_graph(
    options: DemoOptions, launch: Launch, domain_id: int, folder: Path, instruction: str, console: Console
) -> tuple[TaskResult, Recording]:
    said: set[tuple[str, str]] = set()

    def on_line(line: Line) -> None:
        kind = line.process, re.sub(r"[\d.]+", "#", line.text)  # the same with other numbers is in the log
        if re.search(r"\[(ERROR|FATAL)\]", line.text) and kind not in said:
            said.add(kind)
            console.print(Text(f"  {line.process}: {line.text}", style="red"))

    watcher = Watcher(console)
    begin_s = time.monotonic()
    with (
        GraphSession(launch, folder / "nodes.log", domain_id, on_line) as session,
        Recorder(
            session.node, folder / "bag", load_cell(), preset=options.preset, on_gate=watcher.on_gate, on_score=watcher.on_score
        ) as recorder,
    ):
        console.print(f"  {len(launch.processes)} processes in ROS domain {domain_id}; what they say is in {folder / 'nodes.log'}")
        wait_until_active(session, console)
        console.print(f"  all nodes are active after {time.monotonic() - begin_s:.1f} s")
        watcher.start()
        recorder.restart()
        result = session.execute(instruction, options.time_limit_s, stop=watcher.is_over)
        session.spin_for(0.3)  # the last score
        recorder.stop()
    return result, recorder.recording()


def wait_until_active(session: GraphSession, console: Console) -> None:
    """Wait for all nodes, saying for which."""
    said = ""
    status = console.status("starting") if console.is_terminal else None

    def on_wait() -> None:
        nonlocal said
        text = "waiting for " + ", ".join(f"{name.lstrip('/')} ({what.split(':')[0]})" for name, what in session.inactive.items())
        if session.inactive and text != said:
            said = text
            if status is not None:
                status.update(text)
            else:
                console.print(f"  {text}")

    with status or nullcontext():
        session.wait_active(START_TIMEOUT_S, on_wait)


class Watcher:
    """Writes what happens from ``start`` on, and notices when the simulator has seen the end."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._began_s: float | None = None
        self._score: dict[str, Any] = {}
        self._ended_s: float | None = None
        self._expert: Expert | None = None
        self._last: tuple[Any, ...] = ()
        self._last_status: tuple[Any, ...] = ()
        self._printed_s = -math.inf

    def start(self) -> None:
        """The task begins now."""
        self._began_s = self._clock()
        self._console.print(f"  [dim]{'time':>6}  {'expert':<11} {'gate':>4}  {'status':<10} {'score':>5}  sub-stage[/dim]")

    def on_score(self, score: dict[str, Any]) -> None:
        """The simulator's score."""
        self._score = score
        if self._ended_s is None and (score.get("success") or score.get("failure")):
            self._ended_s = self._clock()

    def is_over(self) -> bool:
        """Whether success or failure was seen a moment ago."""
        return self._ended_s is not None and self._clock() - self._ended_s >= AFTER_END_S

    def on_gate(self, state: GateState) -> None:
        """Print a line when something changes, and now and then."""
        stage = self._score.get("sub_stage") or state.sub_stage
        self._expert = state.expert or self._expert  # a hold in between is a matter of status
        key = (state.phase, self._expert, stage, self._score.get("failure"), state.status is Status.LATCHED)
        status = (state.status, state.reason)
        now_s = self._clock()
        since_s = now_s - self._printed_s
        due = key != self._last or since_s >= LOG_EVERY_S or (status != self._last_status and since_s >= HOLD_LOG_EVERY_S)
        if self._began_s is None or not due:
            return
        self._last, self._last_status, self._printed_s = key, status, now_s
        line = Text(f"  {now_s - self._began_s:5.1f} s  ")
        line.append(f"{state.expert.value if state.expert else '–':<11}", EXPERT_COLOURS[state.expert])
        line.append(f" {'–' if math.isnan(state.score) else f'{state.score:.2f}':>4}  {state.status.name.lower():<10} ")
        line.append(f"{self._score.get('score', 0):5.2f}  {stage}")
        if state.status in (Status.HOLDING, Status.LATCHED, Status.SLOWED):
            line.append(f"  ({state.text})", "yellow")
        if self._score.get("failure"):
            line.append(f"  {self._score['failure']}", "red")
        self._console.print(line)


def _views(log: StateLog, spec: EpisodeSpec) -> dict[str, Any]:
    return {
        "scene": replay_frames(log, "scene", SCENE_SIZE, spec=spec),
        "wrist": replay_frames(log, f"wrist_{spec.arm}", WRIST_SIZE, spec=spec),
    }


def _conclude(console: Console, summary: dict[str, Any], folder: Path) -> None:
    stages = "  ".join(f"{'[green]✓[/green]' if reached else '[red]✗[/red]'} {stage}" for stage, reached in summary["stages"].items())
    word = "[bold green]succeeded[/bold green]" if summary["success"] else "[bold red]failed[/bold red]"
    console.print(f"{word} in {summary['duration_s']:.1f} s   {stages}")
    if not summary["success"]:
        console.print(f"  {escape(summary['failure'] or summary['outcome']['why'])}")
    rates, latency, audit = summary["rates"], summary["latencies_ms"]["trajectory"], summary["auditor"]
    console.print(
        f"  {rates['actions_per_s']} actions/s, imagination {rates['imagination_hz']} Hz, trajectories {rates['trajectory_hz']} Hz, "
        f"observation to trajectory p95 {latency['p95']} ms; {audit['violations']} violations in {audit['trajectories']} trajectories"
        + (f" ({audit['live']['violations']} found live)" if audit["live"] else "")
    )
    for text in audit["first"] or (audit["live"] or {}).get("first", []):
        console.print(Text(f"  {text}", style="yellow"))
    console.print(f"  {folder / 'summary.json'}\n  {folder / 'video.mp4'}\n  {folder / 'report.html'}\n  {folder / 'bag'}")
