"""``harmowam bench models``: what each model gets right on held-out demonstrations, open loop, in every environment.

Demonstrations of evaluation seeds are the truth: where the hand really was 1.2 s later, when it really interacted, where it really grasped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harmowam_core.results import commit, write_json
from harmowam_sim.splits import ENVIRONMENTS, EVALUATION_SEED_START, TASKS
from harmowam_training.evaluate import TABLE_WIDTH, expand

if TYPE_CHECKING:
    from harmowam_core.stages import Observation
    from harmowam_sim.demonstrators import Rollout

STRIDE = 4
BATCH = 16
CAMERAS = ("scene", "wrist_left", "wrist_right")


@dataclass(frozen=True)
class Frame:
    """Errors at one frame of the working arm: m, pixels; gate_right is None where the label is masked."""

    imagined_m: float  # reactive expert's reading at the horizon against the demonstrator
    still_m: float  # how far the hand moved by then: the error of imagining no motion
    predictive_m: float
    target_px: float | None
    goal_px: float | None
    gate_right: bool
    transit: bool


def observations(rollout: Rollout) -> list[Observation]:
    """Every frame of a rollout as a policy would see it."""
    from harmowam_core.stages import Observation

    return [
        Observation(
            EVALUATION_SEED_START + t * 100_000_000,
            {camera: frames[t] for camera, frames in rollout.frames.items()},
            rollout.positions[t],
            rollout.orientations[t],
            rollout.openings[t],
            rollout.instructions[t],
        )
        for t in range(len(rollout))
    ]


def demonstrations(task: str, environment: str, episodes: int, seed: int) -> Iterator[Rollout]:
    """Successful demonstrations of evaluation seeds."""
    from harmowam_sim.demonstrators import Demonstrator, rollout
    from harmowam_sim.environments import sample_episode

    for number in range(episodes):
        spec = sample_episode(task, environment, EVALUATION_SEED_START + seed + number)
        shown = rollout(Demonstrator(spec, np.random.default_rng([spec.seed, 3])), spec, cameras=CAMERAS)
        if shown.success:
            yield shown


def measure(rollout: Rollout, policy: Any) -> list[Frame]:
    """Errors of one demonstration; ``policy`` is a harmowam_training.lockstep.Policy."""
    from harmowam_core.cell import load_cell
    from harmowam_core.scene_view import SceneView
    from harmowam_gate.labels import interaction_labels
    from harmowam_training.hindsight import grasp_and_release
    from harmowam_world_model.protocol import GroundingMemory

    seen = observations(rollout)
    labels = interaction_labels(rollout.commanded_openings, rollout.positions)
    view = SceneView(load_cell().camera("scene"), rollout.frames["scene"].shape[1:3])
    events = grasp_and_release(rollout.commanded_openings[:, 0], rollout.openings[:, 0])
    result = []
    for start in range(0, len(seen), STRIDE * BATCH):
        picked = list(range(start, min(start + STRIDE * BATCH, len(seen)), STRIDE))
        batch = [seen[t] for t in picked]
        dreams = policy.world_model.imagine(batch, [GroundingMemory() for _ in batch])
        reactive, predictive = policy.reactive.act(batch, dreams), policy.predictive.act(batch, dreams)
        scores = policy.gate.score(batch)
        for t, dream, read, chunk, score in zip(picked, dreams, reactive, predictive, scores, strict=True):
            later = min(t + chunk.horizon, len(seen) - 1)
            truth = rollout.positions[later, 0]
            marks: list[float | None] = [None, None]
            if events:
                places = (rollout.positions[min(max(t, events[0]), events[1]), 0], rollout.positions[events[1], 0])
                marks = [_distance(p.pixel, view.project(place)) for p, place in zip(dream.grounding, places, strict=True)]
            result.append(
                Frame(
                    _distance(read.positions[-1, 0], truth),
                    _distance(rollout.positions[t, 0], truth),
                    _distance(chunk.positions[-1, 0], truth),
                    marks[0],
                    marks[1],
                    (score > 0.5) == bool(labels[t]),
                    not labels[t],
                )
            )
    return result


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.linalg.norm(np.asarray(a, float) - np.asarray(b, float)))


def summarise(frames: list[Frame]) -> dict[str, float]:
    """Medians in cm and pixels, shares."""

    def median(values: list[float]) -> float:
        return float(np.median(values)) if values else float("nan")

    transit = [f for f in frames if f.transit]
    return {
        "frames": len(frames),
        "imagined_cm": 100 * median([f.imagined_m for f in frames]),
        "imagined_transit_cm": 100 * median([f.imagined_m for f in transit]),
        "still_transit_cm": 100 * median([f.still_m for f in transit]),
        "predictive_cm": 100 * median([f.predictive_m for f in frames]),
        "predictive_transit_cm": 100 * median([f.predictive_m for f in transit]),
        "target_px": median([f.target_px for f in frames if f.target_px is not None]),
        "target_px_p90": float(np.quantile([f.target_px for f in frames if f.target_px is not None], 0.9)),
        "goal_px": median([f.goal_px for f in frames if f.goal_px is not None]),
        "goal_px_p90": float(np.quantile([f.goal_px for f in frames if f.goal_px is not None], 0.9)),
        "gate_accuracy": float(np.mean([f.gate_right for f in frames])),
    }


def bench_models(
    task: Annotated[str, typer.Option(help=f"{', '.join(TASKS)} or all")] = "all",
    environment: Annotated[str, typer.Option(help=f"{', '.join(ENVIRONMENTS)} or all")] = "all",
    episodes: Annotated[int, typer.Option(min=1, help="demonstrations a cell of the table")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="first evaluation seed, counted from the start of the evaluation range")] = 0,
    preset: Annotated[str, typer.Option(help="preset name or YAML file")] = "compact",
    weights: Annotated[Path | None, typer.Option(help="folder of weights; default: those of the preset")] = None,
    json_to: Annotated[str, typer.Option("--json", help="write the cells here, - for standard output")] = "",
) -> None:
    """Open-loop figures of every model on held-out demonstrations, by task and environment."""
    from harmowam_training.policies import load_policy

    cells = [(t, e) for t in expand(task, TASKS, "task") for e in expand(environment, ENVIRONMENTS, "environment")]
    policy = load_policy("harmowam", preset, weights).policy
    results = []
    for name, where in cells:
        frames: list[Frame] = []
        shows = demonstrations(name, where, episodes, seed)
        for shown in track(shows, description=f"{name} {where}", total=episodes, console=Console(stderr=True)):
            frames += measure(shown, policy)
        results.append({"task": name, "environment": where, "episodes": episodes} | summarise(frames))
    table = Table(title="open loop, median errors")
    columns = [k for k in results[0] if k not in ("task", "environment", "episodes")]
    for column in ("task", "environment", "n", *columns):
        table.add_column(column.replace("_", " "))
    for cell in results:
        names = (str(cell["task"]), str(cell["environment"]), str(cell["episodes"]))
        table.add_row(*names, *(f"{cell[c]:.3g}" for c in columns))
    Console(stderr=json_to == "-", width=TABLE_WIDTH).print(table)
    write_json(json_to, {"cells": results, "seed": seed, "commit": commit()})
