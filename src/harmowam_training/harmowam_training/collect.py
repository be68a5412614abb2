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

from harmowam_sim.splits import TASKS
from harmowam_training.config import CollectConfig
from harmowam_training.dataset import save_rollout

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


def failed_marker(job: Job) -> Path:
    """What a failed attempt leaves."""
    return job.path.with_suffix(".failed")


def missing_jobs(config: CollectConfig, folder: Path) -> list[Job]:
    """What has been neither stored nor tried in vain."""
    return [job for job in jobs(config, folder) if not job.path.exists() and not failed_marker(job).exists()]


def perform(job: Job) -> bool:
    """Roll one out and store it if it succeeded (a failed demonstration is not one); returns whether it was stored.

    A failed attempt leaves a marker that says why, so that a resumed run does not try it again. What is no fault of the seed is raised.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")
    from harmowam_sim import demonstrators, environments, play, recovery
    from harmowam_sim.servo import UnreachableError

    rng = np.random.default_rng([job.seed, 3])
    try:
        if job.kind == "play":
            playing = play.sample_play(job.seed)
            rollout = demonstrators.rollout(play.PlayAgent(playing, rng), playing, cameras=CAMERAS, max_steps=play.PLAY_STEPS)
        elif job.kind == "recovery":
            spec = recovery.sample_recovery(job.task, job.seed)
            rollout = recovery.rollout_recovery(spec, rng, cameras=CAMERAS)
        else:
            spec = environments.sample_episode(job.task, "in_domain", job.seed, obstacle=job.seed % 2 == 1)
            rollout = demonstrators.rollout(demonstrators.Demonstrator(spec, rng), spec, cameras=CAMERAS)
        failure = (rollout.failure or f"score {rollout.score}") if rollout.success is False else None  # play is neither
    except (environments.UnusableSeedError, UnreachableError) as error:
        failure = str(error)
    if failure is not None:
        job.path.parent.mkdir(parents=True, exist_ok=True)
        failed_marker(job).write_text(failure + "\n")
        return False
    save_rollout(job.path, rollout, seed=str(job.seed), task=job.task)
    return True


@dataclass(frozen=True)
class Tally:
    """Of the rollouts that the recipe asks for."""

    stored: int
    failed: int
    wanted: int


def collect(config: CollectConfig, folder: Path, workers: int) -> Tally:
    """Make what is missing; what goes wrong with the machine rather than a rollout is raised at once, and the rest not begun."""
    missing = missing_jobs(config, folder)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, refresh_per_second=0.5) as progress, ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        bar = progress.add_task("rollouts", total=len(missing))
        futures = {pool.submit(perform, job): job for job in missing}
        try:
            for future in as_completed(futures):
                future.result()
                progress.update(bar, advance=1, description=f"rollouts {futures[future].kind}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    wanted = list(jobs(config, folder))
    return Tally(sum(job.path.exists() for job in wanted), sum(failed_marker(job).exists() for job in wanted), len(wanted))
