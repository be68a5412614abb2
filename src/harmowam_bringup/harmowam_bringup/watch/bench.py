"""``harmowam bench watch``: one graph at work, watched in turn by nobody, by Rerun, and by what rviz would subscribe to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from harmowam_bringup.bench import figures
from harmowam_bringup.demo import DemoOptions, launch_simulation, resolved_config, wait_until_active
from harmowam_bringup.recorder import Recorder
from harmowam_bringup.session import GraphError, GraphSession, free_domain, isolated_environment
from harmowam_bringup.summary import new_results_dir
from harmowam_core.cell import load_cell
from harmowam_core.results import commit, write_json
from harmowam_sim.environments import sample_episode

SETTLE_S = 5.0
"""A watcher's start costs more than its watching; this is left out."""
LIMIT = 0.05
"""Most that watching may cost of actions a second, and of the 95th percentile of latency."""
WATCHERS: dict[str, list[str]] = {
    "nobody": [],
    "rerun": [sys.executable, "-c", "from harmowam_bringup.cli import main; main()", "watch", "--save", os.devnull],
    "rviz": [sys.executable, "-m", "harmowam_bringup.watch.rviz_load"],
}


@dataclass(frozen=True)
class WatchBenchOptions:
    """How long each way of watching is measured each time, and how often."""

    seconds: float = 15.0
    repetitions: int = 4
    preset: str = "compact"
    backend: str = "openvino"
    out: Path = Path("out/bench")


def bench_watch(options: WatchBenchOptions, console: Console) -> dict[str, Any]:
    """Medians over the repetitions by watcher, and what each costs against nobody; GraphError where nothing was measured."""
    run = DemoOptions("pick_fruit", "in_domain", 0, preset=options.preset, backend=options.backend)
    instruction = sample_episode(run.task, run.environment, run.episode_seed).instruction
    domain_id = free_domain()
    launch = launch_simulation(run, domain_id, None)
    folder = new_results_dir(options.out)
    measured: dict[str, list[dict[str, float]]] = {watcher: [] for watcher in WATCHERS}
    with GraphSession(launch, folder / "nodes.log", domain_id) as session:
        wait_until_active(session, console)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("measuring", total=options.repetitions * len(WATCHERS))
            for repetition in range(options.repetitions):
                for turn in range(len(WATCHERS)):
                    watcher = list(WATCHERS)[(turn + repetition) % len(WATCHERS)]
                    bag = folder / f"{watcher}_{repetition}"
                    recorder = Recorder(session.node, bag, load_cell(), preset=options.preset, pictures=False)
                    with _watching(WATCHERS[watcher], domain_id) as cpu_s:
                        measured[watcher].append(_measure(session, recorder, instruction, options.seconds, cpu_s))
                    progress.advance(bar)
    results = {
        **summary(measured),
        "measured": measured,
        "seconds": options.seconds,
        "repetitions": options.repetitions,
        "cpu_count": psutil.cpu_count(),
        "commit": commit(),
        "config": resolved_config(launch, options),
    }
    write_json(folder / "watch.json", results)
    _print_table(console, results)
    console.print(f"  {folder / 'watch.json'}")
    return results


@contextmanager
def _watching(command: list[str], domain_id: int) -> Iterator[Any]:
    """A watcher at work; yields what tells its processor time so far, s."""
    if not command:
        yield lambda: 0.0
        return
    process = subprocess.Popen(command, env=isolated_environment(domain_id), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield lambda: sum(psutil.Process(process.pid).cpu_times()[:2])
        if process.poll() is not None:
            raise GraphError(f"the watcher ended by itself: {process.stderr.read().decode()[-500:] if process.stderr else ''}")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def _measure(session: GraphSession, recorder: Recorder, instruction: str, seconds: float, cpu_s: Any) -> dict[str, float]:
    """One turn: the task is given again whenever it ends early."""
    began_s = time.monotonic()
    end_s, before_s = began_s + SETTLE_S + seconds, -1.0

    def on_wait() -> None:
        nonlocal before_s
        if before_s < 0 and time.monotonic() - began_s >= SETTLE_S:
            before_s = cpu_s()
            recorder.restart()

    with recorder:
        faults = session.keep_executing(instruction, on_wait, lambda: time.monotonic() >= end_s, SETTLE_S + seconds + 10.0)
        recorder.stop()
        used_s = cpu_s() - before_s
    found = figures(recorder.recording())
    return {
        "actions_per_s": found["actions_per_s"],
        "observation_to_trajectory_p95_ms": found["observation_to_trajectory_ms"]["p95"],
        "faults": faults,
        "watcher_cpu_percent": round(100 * used_s / seconds, 1),
    }


def summary(measured: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """{"watchers": {name: medians}, "cost": {name: shares lost against nobody}, "within_limit"}; a negative cost is chance."""
    watchers = {name: {key: median(turn[key] for turn in turns) for key in turns[0]} for name, turns in measured.items()}
    alone = watchers["nobody"]
    cost = {
        name: {
            "actions_per_s": round(1 - found["actions_per_s"] / alone["actions_per_s"], 4),
            "observation_to_trajectory_p95_ms": round(
                found["observation_to_trajectory_p95_ms"] / alone["observation_to_trajectory_p95_ms"] - 1, 4
            ),
        }
        for name, found in watchers.items()
        if name != "nobody"
    }
    return {"watchers": watchers, "cost": cost, "within_limit": all(share < LIMIT for costs in cost.values() for share in costs.values())}


def _print_table(console: Console, results: dict[str, Any]) -> None:
    table = Table("watched by", box=None, pad_edge=False)
    for title in ("actions a second", "cost", "observation to trajectory p95, ms", "cost", "watcher, % of a core", "faults"):
        table.add_column(title, justify="right")
    for name, found in results["watchers"].items():
        cost = results["cost"].get(name)
        actions, latency = ("", "") if cost is None else (f"{100 * share:+.1f} %" for share in cost.values())
        table.add_row(
            name, f"{found['actions_per_s']:.1f}", actions, f"{found['observation_to_trajectory_p95_ms']:.0f}", latency,
            f"{found['watcher_cpu_percent']:.0f}", f"{found['faults']:.0f}",
        )  # fmt: skip
    console.print(table)
