"""Data generation: play, demonstrations and recoveries in simulation, in parallel processes, resumable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harmowam_training.config import CollectConfig
from harmowam_training.dataset import save_rollout

TASKS = ("pick_fruit", "stack_cans")
CAMERAS = ("scene", "wrist_left", "wrist_right")


@dataclass(frozen=True)
class Job:
    """One rollout to make."""

    kind: str  # play, demonstration or recovery
    task: str
    seed: int
    path: Path


def jobs(config: CollectConfig, folder: Path) -> Iterator[Job]:
    """Everything the recipe asks for, most useful first."""
    for kind, count in (("demonstration", config.demonstrations), ("recovery", config.recovery)):
        for task in TASKS:
            for seed in range(count):
                yield Job(kind, task, seed, folder / f"{kind}_{task}" / f"{seed:06d}.safetensors")
    for seed in range(config.play):
        yield Job("play", "play", seed, folder / "play" / f"{seed:06d}.safetensors")


def perform(job: Job) -> bool:
    """Roll one out and store it if it succeeded (a failed demonstration is not one); returns whether it was stored.

    A failed attempt leaves a marker that says why, so that a resumed run does not try it again.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")
    from harmowam_sim import demonstrators, environments, play, recovery

    rng = np.random.default_rng([job.seed, 3])
    try:
        if job.kind == "play":
            playing = play.sample_play(job.seed)
            rollout = demonstrators.rollout(play.PlayAgent(playing, rng), playing, cameras=CAMERAS, max_steps=play.PLAY_STEPS)
        elif job.kind == "recovery":
            spec = recovery.sample_recovery(job.task, job.seed)
            rollout = recovery.rollout_recovery(spec, rng, cameras=CAMERAS)
        else:
            spec = environments.sample_episode(job.task, "in_domain", job.seed)
            rollout = demonstrators.rollout(demonstrators.Demonstrator(spec, rng), spec, cameras=CAMERAS)
        failure = (rollout.failure or f"score {rollout.score}") if rollout.success is False else None  # play is neither
    except RuntimeError as error:  # no room for this seed's objects, or a start that cannot be reached
        failure = str(error)
    if failure is not None:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        job.path.with_suffix(".failed").write_text(failure + "\n")
        return False
    save_rollout(job.path, rollout, seed=str(job.seed), task=job.task)
    return True


def collect(config: CollectConfig, folder: Path, workers: int) -> dict[str, int]:
    """Make what is missing; returns how many rollouts of each kind were stored now."""
    missing = [j for j in jobs(config, folder) if not j.path.exists() and not j.path.with_suffix(".failed").exists()]
    stored: dict[str, int] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, refresh_per_second=0.5) as progress, ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        bar = progress.add_task("rollouts", total=len(missing))
        futures = {pool.submit(perform, job): job for job in missing}
        for future in as_completed(futures):
            job = futures[future]
            if future.result():
                stored[job.kind] = stored.get(job.kind, 0) + 1
            progress.update(bar, advance=1, description=f"rollouts {job.kind}")
    return stored
