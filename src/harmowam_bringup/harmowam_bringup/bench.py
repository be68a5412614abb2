"""Measures the running graph: rates, latencies, real-time factor and processor time."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from harmowam_bringup.demo import DemoOptions, launch_simulation, resolved_config, wait_until_active
from harmowam_bringup.recorder import Recorder
from harmowam_bringup.recording import Recording, latencies_ms, percentiles, rates, real_time_factor, slower_expert
from harmowam_bringup.session import GraphError, GraphSession, free_domain
from harmowam_bringup.summary import new_results_dir
from harmowam_core.cell import load_cell
from harmowam_core.results import commit, write_json
from harmowam_sim.environments import sample_episode

WARM_UP_S = 5.0
TICKS_TOLD_S = 10.0


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and for how long."""

    seconds: float = 30.0
    task: str = "pick_fruit"
    environment: str = "in_domain"
    seed: int = 0
    preset: str = "compact"
    backend: str = "openvino"
    out: Path = Path("out/bench")


def bench_graph(options: BenchOptions, console: Console) -> dict[str, Any]:
    """Run the simulated graph at a task for ``seconds`` after warming up; the task is given again whenever it ends early."""
    run = DemoOptions(options.task, options.environment, options.seed, preset=options.preset, backend=options.backend)
    instruction = sample_episode(run.task, run.environment, run.episode_seed).instruction
    domain_id = free_domain()
    launch = launch_simulation(run, domain_id, None)
    folder = new_results_dir(options.out)
    with (
        GraphSession(launch, folder / "nodes.log", domain_id) as session,
        Recorder(session.node, folder / "bag", load_cell(), preset=options.preset, pictures=False) as recorder,
    ):
        wait_until_active(session, console)
        console.print(f"  measuring for {options.seconds:.0f} s after {WARM_UP_S:.0f} s of warming up")
        cpu, arbiter = _Cpu(session.supervisor.pids), _Arbiter(session)
        began_s = time.monotonic()
        end_s, warm = began_s + WARM_UP_S + options.seconds, False

        def on_wait() -> None:
            nonlocal warm
            if not warm and time.monotonic() - began_s >= WARM_UP_S:
                warm = True
                recorder.restart()
                cpu.start()
                arbiter.start()
            arbiter.look()

        faults = session.keep_executing(instruction, on_wait, lambda: time.monotonic() >= end_s, WARM_UP_S + options.seconds + 10.0)
        recorder.stop()
        cpu_percent = cpu.percent()
    results = {
        **figures(recorder.recording()),
        "arbiter": arbiter.figures(),
        "faults": faults,
        "seconds": options.seconds,
        "cpu_percent": cpu_percent,
        "cpu_count": psutil.cpu_count(),
        "instruction": instruction,
        "task": options.task,
        "environment": options.environment,
        "seed": options.seed,
        "commit": commit(),
        "config": resolved_config(launch, options),
    }
    write_json(folder / "graph.json", results)
    _print_table(console, results)
    console.print(f"  {folder / 'graph.json'}")
    return results


def figures(recording: Recording) -> dict[str, Any]:
    """The stable keys of ``bench graph``; GraphError where nothing was measured."""
    arm_topic = load_cell().controllers.arm_topic
    measured = rates(recording, arm_topic)
    latencies = latencies_ms(recording, arm_topic)
    if not latencies["trajectory"]:
        raise GraphError("no trajectory followed from an observation; see what the nodes say in nodes.log")
    factor = real_time_factor(recording)
    return {
        "actions_per_s": measured.pop("actions_per_s"),
        "slower_expert": slower_expert(recording).value,
        "imagination_hz": measured["imagination_hz"],
        "trajectory_hz": measured["trajectory_hz"],
        "observation_to_trajectory_ms": percentiles(latencies["trajectory"]),
        "observation_to_imagination_ms": percentiles(latencies["imagination"]),
        "real_time_factor": round(factor, 3) if factor is not None else None,
        "rates_hz": {name.removesuffix("_hz"): hz for name, hz in measured.items()},
    }


class _Cpu:
    """Processor time of processes over a while, in percent of one core; one that was started again meanwhile is left out."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self.start()

    def start(self) -> None:
        self._began_s = time.monotonic()
        self._before_s = self._used_s()

    def percent(self) -> dict[str, float]:
        span_s = time.monotonic() - self._began_s
        return {name: round(100 * (used_s - self._before_s[name]) / span_s, 1) for name, used_s in self._used_s().items()}

    def _used_s(self) -> dict[str, float]:
        used = {}
        for name, process in self._processes.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                used[name] = sum(process.cpu_times()[:2])
        return used


class _Arbiter:
    """What the arbiter tells in its diagnostics: how long its ticks take, over 10 s each time, how many were missed, and how many chunks
    it refused.
    """

    def __init__(self, session: GraphSession) -> None:
        self._session = session
        self.start()

    def start(self) -> None:
        self._began_s = time.monotonic()
        self._before = self._counts()
        self._p50_ms: list[float] = []
        self._p99_ms: list[float] = []

    def look(self) -> None:
        """Of ten seconds that lie within the measurement; again and again."""
        status = self._session.nodes.get("/arbiter")
        if status is not None and time.monotonic() - self._began_s >= TICKS_TOLD_S:
            self._p50_ms.append(float(status.values["tick p50 (ms)"]))
            self._p99_ms.append(float(status.values["tick p99 (ms)"]))

    def figures(self) -> dict[str, Any]:
        """Medians and the highest p99; None after less than ten seconds."""
        missed, ticks, refused, chunks = (now - before for now, before in zip(self._counts(), self._before, strict=True))
        told = bool(self._p99_ms)
        return {
            "tick_p50_ms": round(median(self._p50_ms), 1) if told else None,
            "tick_p99_ms": round(median(self._p99_ms), 1) if told else None,
            "tick_p99_highest_ms": max(self._p99_ms) if told else None,
            "ticks_missed": missed,
            "ticks": ticks,
            "chunks_refused": refused,
            "chunks": chunks,
        }

    def _counts(self) -> list[int]:
        """Ticks missed, ticks, chunks refused, chunks."""
        status = self._session.nodes.get("/arbiter")
        told = [status.values.get(name, "0 of 0") if status is not None else "0 of 0" for name in ("ticks missed", "chunks refused")]
        return [int(number) for text in told for number in text.split(" of ")]


def _print_table(console: Console, results: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("measured")
    table.add_column("value", justify="right")
    latency, arbiter = results["observation_to_trajectory_ms"], results["arbiter"]
    for name, value in (
        (f"actions a second ({results['slower_expert']} expert, the slower)", f"{results['actions_per_s']:.1f}"),
        ("imagination", f"{results['imagination_hz']:.2f} Hz"),
        ("trajectories", f"{results['trajectory_hz']:.1f} Hz"),
        ("observation to trajectory p50 / p95 / p99", f"{latency['p50']:.0f} / {latency['p95']:.0f} / {latency['p99']:.0f} ms"),
        ("real-time factor", f"{results['real_time_factor']}"),
        ("arbiter's tick p50 / p99", f"{arbiter['tick_p50_ms']} / {arbiter['tick_p99_ms']} ms"),
        ("highest p99 of ten seconds", f"{arbiter['tick_p99_highest_ms']} ms"),
        ("arbiter's ticks missed", f"{arbiter['ticks_missed']} of {arbiter['ticks']}"),
        ("chunks refused", f"{arbiter['chunks_refused']} of {arbiter['chunks']}"),
        ("faults that were reset", f"{results['faults']}"),
        *((f"processor, {name}", f"{percent:.0f} %") for name, percent in results["cpu_percent"].items()),
    ):
        table.add_row(name, value)
    console.print(table)
