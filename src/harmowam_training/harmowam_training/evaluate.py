"""``harmowam evaluate``: closed-loop episodes in lock-step, over policies, tasks and environments; resumable; a table and JSON."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from harmowam_core.results import commit, write_json
from harmowam_sim.intervals import wilson
from harmowam_sim.splits import ENVIRONMENTS, EVALUATION_SEED_START, STARTS, TASKS, Start

SELECTORS = {
    "harmowam": "gate",
    "predictive_only": "predictive",
    "reactive_only": "reactive",
    "average": "average",
    "keyframe_average": "keyframe_average",
    "scripted_transit": "gate",
}
BATCH = 8
TIME_LIMIT_S = 30.0
TABLE_WIDTH = 140


@dataclass(frozen=True)
class EpisodeResult:
    """One finished episode; transit and interaction are None where none was due.

    weights: digest of what was evaluated, see ``digest_of``; latched: what the arbiter held the arm for at the end, if it did; unusable:
    why the seed has no such episode, which then counts nowhere.
    """

    policy: str
    task: str
    environment: str
    start: str
    seed: int
    score: float
    success: bool
    transit: float | None
    interaction: float | None
    failure: str | None
    obstacle: bool
    duration_s: float
    stages: dict[str, bool]
    weights: str
    latched: str = ""
    commit: str = ""
    unusable: str = ""


@dataclass(frozen=True)
class Batch:
    """Episodes that run side by side in one process."""

    policy: str
    task: str
    environment: str
    start: Start
    seeds: tuple[int, ...]
    preset: str
    weights: Path | None
    digest: str
    time_limit_s: float
    commit: str


def digest_of(preset: str, weights: Path | None, time_limit_s: float = TIME_LIMIT_S) -> str:
    """Of the preset, the weights and the time limit; a journal's episodes count for these alone. CheckpointError where none are."""
    from harmowam_core.checkpoints import CheckpointError
    from harmowam_core.presets import load_preset

    config = load_preset(preset)
    folder = weights or config.weights_dir()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"no weights in {folder}; run `harmowam train`, or check out the files from the repository")
    digest = hashlib.sha256(f"{config.model_dump_json()} {time_limit_s}".encode())
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run_batch(batch: Batch) -> list[EpisodeResult]:
    """Worker: load the policy (once a process), run the episodes."""
    from harmowam_sim.environments import UnusableSeedError, sample_episode
    from harmowam_training.policies import load_policy

    lockstep = load_policy(batch.policy, batch.preset, batch.weights)
    specs, unusable = [], {}
    for seed in batch.seeds:
        try:
            specs.append(sample_episode(batch.task, batch.environment, seed, start=batch.start))
        except UnusableSeedError as error:
            unusable[seed] = str(error)
    results = []
    for episode in lockstep.run(specs, batch.time_limit_s, unusable):
        score = episode.score
        results.append(
            EpisodeResult(
                batch.policy, batch.task, batch.environment, batch.start, episode.spec.seed, score.score, score.success, score.transit,
                score.interaction, score.failure, episode.spec.has_obstacle, episode.duration_s, score.stages, batch.digest,
                episode.arbiter.latched, batch.commit,
            )
        )  # fmt: skip
    for seed, why in unusable.items():
        results.append(
            EpisodeResult(
                batch.policy, batch.task, batch.environment, batch.start, seed, 0.0, False, None, None, None, False, 0.0, {},
                batch.digest, commit=batch.commit, unusable=why,
            )
        )  # fmt: skip
    return results


def summarise(results: Sequence[EpisodeResult]) -> list[dict[str, Any]]:
    """One cell a (policy, task, environment, start), in order of appearance; one that has no usable seed is left out."""
    groups: dict[tuple[str, ...], list[EpisodeResult]] = {}
    for result in results:
        groups.setdefault((result.policy, result.task, result.environment, result.start), []).append(result)
    cells = []
    for (policy, task, environment, start), tried in groups.items():
        group = [result for result in tried if not result.unusable]
        if not group:
            continue
        score = fmean(r.score for r in group)
        cells.append(
            {
                "policy": policy,
                "task": task,
                "environment": environment,
                "start": start,
                "episodes": len(group),
                "unusable": len(tried) - len(group),
                "score": score,
                "success": fmean(r.success for r in group),
                "transit": _mean([r.transit for r in group]),
                "interaction": _mean([r.interaction for r in group]),
                "ci95": list(wilson(score, len(group))),
                "latched": sum(bool(r.latched) for r in group),
                "free": _successes([r for r in group if not r.obstacle]),
                "obstacle": _successes([r for r in group if r.obstacle]),
            }
        )
    return cells


def _successes(group: Sequence[EpisodeResult]) -> dict[str, int]:
    return {"successes": sum(r.success for r in group), "episodes": len(group)}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def expand(name: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Names of a list with commas, or "all". BadParameter names the first unknown."""
    if name == "all":
        return tuple(known)
    names = tuple(name.split(","))
    unknown = [n for n in names if n not in known]
    if unknown:
        raise typer.BadParameter(f"unknown {what} '{unknown[0]}'; known: {', '.join(known)}, all")
    return names


def _batches(
    cells: Sequence[tuple[str, str, str]], start: Start, seeds: Sequence[int], done: set[tuple[str, str, str, str, int]], **common: Any
) -> Iterator[Batch]:
    for policy, task, environment in cells:
        missing = [s for s in seeds if (policy, task, environment, start, s) not in done]
        for i in range(0, len(missing), BATCH):
            yield Batch(policy, task, environment, start, tuple(missing[i : i + BATCH]), **common)


def evaluate(
    policy: Annotated[str, typer.Option(help=f"{', '.join(SELECTORS)}, several with commas, or all")] = "harmowam",
    task: Annotated[str, typer.Option(help=f"{', '.join(TASKS)} or all")] = "all",
    environment: Annotated[str, typer.Option(help=f"{', '.join(ENVIRONMENTS)} or all")] = "all",
    episodes: Annotated[int, typer.Option(min=1, help="episodes a cell of the table")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="first evaluation seed, counted from the start of the evaluation range")] = 0,
    start: Annotated[str, typer.Option(help="home; near_target or near_goal score interaction alone")] = "home",
    preset: Annotated[str, typer.Option(help="preset name or YAML file")] = "compact",
    weights: Annotated[Path | None, typer.Option(help="folder of weights; default: those of the preset")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 2,
    time_limit: Annotated[float, typer.Option(min=1, help="simulated seconds an episode")] = TIME_LIMIT_S,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="write the cells here, - for standard output; episodes go beside it and are not run twice")
    ] = None,
) -> None:
    """Run closed-loop episodes in simulation and report scores with Wilson 95 % intervals."""
    policies = expand(policy, tuple(SELECTORS), "policy")
    cells = [(p, t, e) for p in policies for t in expand(task, TASKS, "task") for e in expand(environment, ENVIRONMENTS, "environment")]
    beginning = next((s for s in STARTS if s == start), None)
    if beginning is None:
        raise typer.BadParameter(f"unknown start '{start}'; known: {', '.join(STARTS)}")
    to_standard_output = json_file == Path("-")
    journal = json_file.with_suffix(".episodes.jsonl") if json_file and not to_standard_output else None
    results = read_journal(journal) if journal and journal.is_file() else []
    digest = digest_of(preset, weights, time_limit)
    wanted = {(*c, start, EVALUATION_SEED_START + seed + i) for c in cells for i in range(episodes)}
    others = [r for r in results if r.weights != digest]
    if others:
        Console(stderr=True).print(f"[yellow]{journal}: leaving out {len(others)} episodes of other weights, preset or time limit[/]")
    results = [r for r in results if r.weights == digest and (r.policy, r.task, r.environment, r.start, r.seed) in wanted]
    done = {(r.policy, r.task, r.environment, r.start, r.seed) for r in results}
    here = commit()
    if older := Counter(r.commit or "an unknown commit" for r in results if r.commit != here):
        counts = ", ".join(f"{count} of {name}" for name, count in older.items())
        Console(stderr=True).print(f"[yellow]{journal}: goes on from episodes of other code: {counts}[/]")
    seeds = [EVALUATION_SEED_START + seed + i for i in range(episodes)]
    batches = list(
        _batches(cells, beginning, seeds, done, preset=preset, weights=weights, digest=digest, time_limit_s=time_limit, commit=here)
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True, width=TABLE_WIDTH)
    with Progress(*columns, console=console) as progress, pool_of(workers) as pool:
        bar = progress.add_task("episodes", total=len(wanted), completed=len(done))
        for future in as_completed([pool.submit(run_batch, batch) for batch in batches]):
            new = future.result()
            results += new
            if journal:
                journal.parent.mkdir(parents=True, exist_ok=True)
                with journal.open("a") as file:
                    file.writelines(json.dumps(asdict(r)) + "\n" for r in new)
            progress.update(bar, advance=len(new), description=f"{new[0].policy} {new[0].task} {new[0].environment}")
    order = {c: i for i, c in enumerate(cells)}
    results.sort(key=lambda r: (order[r.policy, r.task, r.environment], r.seed))
    for result in results:
        if result.unusable:
            console.print(f"[yellow]left out: {result.policy} {result.task} {result.environment}: {result.unusable}[/]")
    summary = summarise(results)
    (console if to_standard_output else Console(width=TABLE_WIDTH)).print(_table(summary))
    facts = {"command": "evaluate", "seed": seed, "episodes": episodes, "start": start, "preset": preset, "weights": digest}
    facts |= {"time_limit_s": time_limit, "commit": here, "commits": sorted({r.commit or "unknown" for r in results})}
    write_json(json_file or "", {"cells": summary} | facts)


def _table(cells: Sequence[dict[str, Any]]) -> Table:
    title = "closed loop, lock-step; free, obstacle: successes without and with a tall obstacle; latched: episodes that the arbiter ended"
    table = Table(title=title)
    for column in (
        "policy",
        "task",
        "environment",
        "start",
        "n",
        "score",
        "95 %",
        "success",
        "transit",
        "interaction",
        "free",
        "obstacle",
        "latched",
    ):
        table.add_column(column, justify="left" if column in ("policy", "task", "environment", "start") else "right")
    for cell in cells:
        low, high = cell["ci95"]
        shown = [f"{cell['score']:.2f}", f"{low:.2f}–{high:.2f}", f"{cell['success']:.2f}"]
        shown += ["–" if cell[k] is None else f"{cell[k]:.2f}" for k in ("transit", "interaction")]
        shown += [f"{cell[k]['successes']}/{cell[k]['episodes']}" for k in ("free", "obstacle")] + [str(cell["latched"])]
        table.add_row(cell["policy"], cell["task"], cell["environment"], cell["start"], str(cell["episodes"]), *shown)
    return table


@contextmanager
def pool_of(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for batches; after an error or Ctrl-C those that have not begun are dropped."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def read_journal(path: Path) -> list[EpisodeResult]:
    """Earlier episodes; a torn last line is dropped, and ended, so that the next one stands by itself."""
    results = []
    text = path.read_text()
    if text and not text.endswith("\n"):
        with path.open("a") as file:
            file.write("\n")
    for line in text.splitlines():
        try:
            results.append(EpisodeResult(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            Console(stderr=True).print(f"[yellow]{path}: skipping a damaged line; its episode runs again[/]")
    return results
