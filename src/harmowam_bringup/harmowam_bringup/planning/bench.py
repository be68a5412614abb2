"""``harmowam bench planner``: random moves among random clutter, every path judged by an independent checker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from harmowam_bringup.planning.checker import PathChecker
from harmowam_bringup.planning.collision import CollisionModel
from harmowam_bringup.planning.embedded import EmbeddedPlanner
from harmowam_bringup.planning.protocol import Obstacle, Plan, PlanningError, PlanningScene
from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.results import commit, write_json
from harmowam_gate.rounded_path import RoundedPath

Float64 = NDArray[np.float64]

CLUTTER = 5
CLUTTER_LOWER, CLUTTER_UPPER = (0.30, -0.55), (0.80, 0.55)  # where boxes stand, m
BOX_SIDE_M, BOX_HEIGHT_M = (0.05, 0.18), (0.05, 0.30)
CLEARANCE_M = 0.02
"""Start and goal of a pair keep this from everything."""
DRAWS = 400


@dataclass(frozen=True)
class Pair:
    """A move to plan among clutter; joints (A*J,)."""

    clutter: tuple[Obstacle, ...]
    start: Float64
    goal: Float64


def random_pairs(cell: Cell, planner: EmbeddedPlanner, seed: int) -> Iterator[Pair]:
    """Endless. Joints are uniform within their limits, tools in the workspace; of every other pair one arm alone has to move."""
    for number in range(10**9):
        rng = np.random.default_rng([seed, number])
        clutter = tuple(_box(rng, index) for index in range(CLUTTER))
        scene = PlanningScene.of(cell, clutter)
        start, goal = _free(rng, planner, scene, None, -1), None
        if start is not None:
            goal = _free(rng, planner, scene, start, -1 if number % 2 == 0 else int(rng.integers(len(cell.arms))))
        if start is not None and goal is not None:
            yield Pair(clutter, start, goal)


def _box(rng: np.random.Generator, index: int) -> Obstacle:
    width, depth, height = rng.uniform(*BOX_SIDE_M), rng.uniform(*BOX_SIDE_M), rng.uniform(*BOX_HEIGHT_M)
    x, y = rng.uniform(CLUTTER_LOWER, CLUTTER_UPPER)
    half = rng.uniform(0, np.pi) / 2
    turn = (0.0, 0.0, float(np.sin(half)), float(np.cos(half)))
    return Obstacle(f"box{index}", (width, depth, height), (float(x), float(y), height / 2), turn)


def _free(rng: np.random.Generator, planner: EmbeddedPlanner, scene: PlanningScene, like: Float64 | None, only: int) -> Float64 | None:
    """Joints (A*J,) with CLEARANCE_M: as ``like`` but for arm ``only``, or anew (-1); None where the clutter leaves hardly any room."""
    limits, arms = scene.cell.limits, range(len(scene.cell.arms))
    joints = len(scene.cell.joints)
    everyone = CollisionModel(planner.robots, scene, arms, CLEARANCE_M)
    base = planner.home if like is None else like
    moving = arms if only < 0 else (only,)
    alone = {arm: CollisionModel(planner.robots, PlanningScene(scene.cell, scene.obstacles), (arm,), CLEARANCE_M) for arm in moving}
    for _ in range(DRAWS):
        q = base.copy()
        for arm in moving:
            for _ in range(DRAWS):
                q[arm * joints : (arm + 1) * joints] = rng.uniform(limits.position_lower, limits.position_upper)
                if alone[arm].free(q):
                    break
        if everyone.free(q):
            return q
    return None


def measure(pairs: int, seed: int, cell: Cell, reference_s: float, console: Console) -> dict[str, Any]:
    """Plan until ``pairs`` reachable ones are done; a pair is left out where neither we nor a search of ``reference_s`` get there."""
    from ompl import util

    util.RNG.setSeed(seed + 1)
    kinematics = Kinematics(cell)
    planner = EmbeddedPlanner(PlanningScene.of(cell), kinematics)
    reference = EmbeddedPlanner(PlanningScene.of(cell), kinematics, time_limit_s=reference_s)
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    ratios: list[float] = []
    rungs: Counter[str] = Counter()
    failures: list[str] = []
    collisions: list[str] = []
    unreachable = samples = 0
    draws = random_pairs(cell, planner, seed)
    for number in track(range(pairs), description="planning", console=console):
        for pair in draws:
            scene = PlanningScene.of(cell, pair.clutter)
            planner.look_at(scene)
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            try:
                plan: Plan | None = planner.plan(pair.start, pair.goal)
            except PlanningError as error:
                plan, why = None, str(error)
            took_s, took_cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
            if plan is not None or _solves(reference, scene, pair):
                break
            unreachable += 1
        seconds.append(took_s)
        cpu_seconds.append(took_cpu_s)
        if plan is None:
            failures.append(f"pair {number}: {why}")
            continue
        path = RoundedPath(plan.path)
        count, contacts = PathChecker(cell, pair.clutter).walk(path)
        samples += count
        collisions += [f"pair {number}: {a} and {b} overlap by {depth * 1e3:.1f} mm" for a, b, depth in contacts[:1]]
        ratios.append(path.length / float(np.linalg.norm(pair.goal - pair.start)))
        rungs[plan.method.rpartition(" (")[0] or plan.method] += 1
    return {
        "pairs": pairs,
        "success": (pairs - len(failures)) / pairs,
        "planning_s": _spread(seconds),
        "planning_cpu_s": _spread(cpu_seconds),
        "path_length_ratio": _spread(ratios),
        "collisions": len(collisions),
        "points_checked": samples,
        "unreachable_left_out": unreachable,
        "reference_s": reference_s,
        "rungs": dict(rungs.most_common()),
        "failures": failures,
        "contacts": collisions,
        "seed": seed,
        "commit": commit(),
    }


def _spread(values: list[float]) -> dict[str, float]:
    """Empty where there are none."""
    if not values:
        return {}
    return {name: round(float(np.percentile(values, percent)), 3) for name, percent in (("p50", 50), ("p95", 95), ("max", 100))}


def _solves(reference: EmbeddedPlanner, scene: PlanningScene, pair: Pair) -> bool:
    reference.look_at(scene)
    try:
        reference.plan(pair.start, pair.goal)
    except PlanningError:
        return False
    return True


def bench_planner(
    pairs: Annotated[int, typer.Option(min=1, help="Reachable start-goal pairs.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of clutter, pairs and planner.")] = 0,
    cell: Annotated[str, typer.Option(help="Cell profile by name, or path of a profile.")] = "franka_dual",
    reference: Annotated[
        float, typer.Option(min=1.0, help="Seconds of a second search, after which an unsolved pair counts as unreachable.")
    ] = 10.0,
    json: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write JSON to FILE; without FILE to standard output.")] = "",
) -> None:
    """The embedded motion planner among random clutter; exit 1 if any path touches something or success is below 99 %."""
    console = Console(stderr=json == "-", highlight=False, soft_wrap=True)
    results = measure(pairs, seed, load_cell(cell), reference, console)
    write_json(json, results)
    _print(results, console)
    raise typer.Exit(0 if results["success"] >= 0.99 and not results["collisions"] else 1)


def _print(results: dict[str, Any], console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("measured")
    table.add_column("value", justify="right")
    ratio = results["path_length_ratio"]
    table.add_row("success", f"{results['success']:.1%} of {results['pairs']}")
    for name, key in (("planning", "planning_s"), ("its processor time", "planning_cpu_s")):
        figures = " / ".join(f"{results[key][percentile]:.2f}" for percentile in ("p50", "p95", "max"))
        table.add_row(f"{name} p50 / p95 / longest", f"{figures} s")
    if ratio:
        table.add_row("path length over straight line p50 / p95", f"{ratio['p50']:.2f} / {ratio['p95']:.2f}")
    table.add_row("paths that touch something, at 1 mm", f"{results['collisions']} ({results['points_checked']} points)")
    table.add_row(f"left out, unreachable within {results['reference_s']:.0f} s", str(results["unreachable_left_out"]))
    console.print(table)
    for line in (*results["failures"], *results["contacts"]):
        console.print(escape(line))
