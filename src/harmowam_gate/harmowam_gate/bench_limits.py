"""``harmowam bench limits``: how long the whole stack of limits takes for one trajectory of all arms."""

from __future__ import annotations

import time
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.results import write_json
from harmowam_gate.body import Body
from harmowam_gate.brake import Brake
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline
from harmowam_gate.limits import Context, Motion, Source, stack
from harmowam_gate.settings import ArbiterSettings

FOLLOWED = 11
"""Points before the brake: 0.2 s, as the arbiter looks ahead."""
SWAY_RAD, SLOWEST_HZ, FASTEST_HZ = 0.15, 0.2, 0.6


def trajectories(cell: Cell, kinematics: Kinematics, count: int, seed: int = 0) -> list[JointSpline]:
    """As the arbiter publishes them: all joints of all arms sway about home, then brake to rest."""
    random = np.random.default_rng(seed)
    home, brake = kinematics.home(), Brake(cell)
    times_ns = np.arange(FOLLOWED, dtype=np.int64) * GRID_NS
    made = []
    for _ in range(count):
        omega, phase = 2 * np.pi * random.uniform(SLOWEST_HZ, FASTEST_HZ, len(home)), random.uniform(0, 2 * np.pi, len(home))
        angle = omega * times_ns[:, None] * 1e-9 + phase
        sway = SWAY_RAD * random.uniform(0, 1, len(home))
        q, v, a = home + sway * np.sin(angle), sway * omega * np.cos(angle), -sway * omega**2 * np.sin(angle)
        course = JointSpline(times_ns[:-1], q[:-1], v[:-1], a[:-1])
        made.append(course.then(brake.plan(JointMotion(q[-1], v[-1], a[-1]), int(times_ns[-1]))))
    return made


def measure(count: int) -> dict[str, Any]:
    """{"trajectories", "points", "p50_ms", "p99_ms", "max_ms", "processor_p50_ms", "processor_p99_ms", "refused", "by_limit_p50_ms"}.

    Processor times leave out what other processes took meanwhile.
    """
    cell = load_cell()
    kinematics = Kinematics(cell)
    context = Context(cell, Body(cell, kinematics), ArbiterSettings())
    _, published = stack(context)
    splines = trajectories(cell, kinematics, count)
    source = Source(age_s=0.2, off_rad=0.0)

    def motion(spline: JointSpline) -> Motion:
        return Motion(cell.arm_joint_names, spline, context.body, spline, source)

    for spline in splines[:20]:  # warm up
        published.check(motion(spline))
    took_ms, worked_ms, refused = [], [], 0
    by_limit: dict[str, list[float]] = {name: [] for name in cell.safety.limits}
    for spline in track(splines, "Judging trajectories", console=Console(stderr=True)):
        whole, apart = motion(spline), motion(spline)
        started_s, working_s = time.perf_counter(), time.thread_time()
        refused += not published.check(whole).ok
        worked_ms.append((time.thread_time() - working_s) * 1e3)
        took_ms.append((time.perf_counter() - started_s) * 1e3)
        for name, limit in zip(cell.safety.limits, published.limits, strict=True):
            started_s = time.perf_counter()
            limit.check(apart)
            by_limit[name].append((time.perf_counter() - started_s) * 1e3)
    return {
        "trajectories": count,
        "points": float(np.mean([len(spline.times_ns) for spline in splines])),
        "p50_ms": float(np.percentile(took_ms, 50)),
        "p99_ms": float(np.percentile(took_ms, 99)),
        "max_ms": max(took_ms),
        "processor_p50_ms": float(np.percentile(worked_ms, 50)),
        "processor_p99_ms": float(np.percentile(worked_ms, 99)),
        "refused": refused,
        "by_limit_p50_ms": {name: float(np.median(values)) for name, values in by_limit.items()},
    }


def bench_limits(
    trajectories: Annotated[int, typer.Option(min=100, help="How many to judge.")] = 2000,
    json: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write as JSON to FILE; without FILE to standard output.")] = "",
) -> None:
    """Time that the whole stack of limits takes for one trajectory of all arms."""
    results = measure(trajectories)
    write_json(json, results)
    if json == "-":
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("limit")
    table.add_column("p50, ms", justify="right")
    for name, value in results["by_limit_p50_ms"].items():
        table.add_row(name, f"{value:.3f}")
    console = Console(highlight=False)
    console.print(table)
    for what, key in (("whole stack", ""), ("of it, processor time", "processor_")):
        console.print(f"{what}: p50 {results[key + 'p50_ms']:.2f} ms, p99 {results[key + 'p99_ms']:.2f} ms")
