"""``harmowam calibrate-drift``: how far imagination and reality usually part, from normal episodes; stored beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from harmowam_core.results import write_json
from harmowam_sim.splits import TASKS
from harmowam_world_model.protocol import ALONE

if TYPE_CHECKING:
    from harmowam_core.stages import Imagination, Observation
    from harmowam_world_model.protocol import GroundingMemory, WorldModel

PERCENTILE = 99.0
FIRST_SEED = 1_500_000  # neither training nor evaluation uses these
BATCH = 8
TIME_LIMIT_S = 16.0
REPLAN_TICKS = 4  # 5 imaginations a second, as in the graph


@dataclass
class ListeningWorldModel:
    """Passes on to a world model and keeps what it imagined, by the episode's memory."""

    model: WorldModel
    heard: dict[int, list[Imagination]] = field(default_factory=dict)

    def imagine(
        self,
        observations: Sequence[Observation],
        memories: Sequence[GroundingMemory],
        seed: int = 0,
        *,
        turn: AbstractContextManager[None] = ALONE,
    ) -> list[Imagination]:
        """As the model does."""
        imaginations = self.model.imagine(observations, memories, seed, turn=turn)
        for imagination, memory in zip(imaginations, memories, strict=True):
            self.heard.setdefault(id(memory), []).append(imagination)
        return imaginations


def normal_errors(preset: str, weights: Path | None, seeds: Sequence[int]) -> list[list[float]]:
    """Raw errors of each episode that succeeded, of episodes in domain with nothing in the way; tasks take turns."""
    from harmowam_sim.environments import sample_episode
    from harmowam_training.policies import load_policy
    from harmowam_world_model.drift import DriftMonitor

    lockstep = load_policy("harmowam", preset, weights)
    listening = ListeningWorldModel(lockstep.policy.world_model)
    lockstep.policy = replace(lockstep.policy, world_model=listening)
    lockstep.replan_ticks = REPLAN_TICKS
    specs = [sample_episode(TASKS[seed % len(TASKS)], "in_domain", seed, obstacle=False) for seed in seeds]
    errors = []
    for episode in lockstep.run(specs, TIME_LIMIT_S):
        if episode.score.success:
            monitor = DriftMonitor(scale=1.0)
            drifts = [monitor.update(imagination) for imagination in listening.heard[id(episode.memory)]]
            errors.append([drift.score for drift in drifts if drift is not None])
    return errors


def calibrate_drift(
    episodes: Annotated[int, typer.Option(min=2, help="Episodes to run, both tasks, in domain, nothing in the way.")] = 32,
    preset: Annotated[str, typer.Option(help="Preset name or YAML file.")] = "compact",
    weights: Annotated[Path | None, typer.Option(help="Folder of weights; default: those of the preset.")] = None,
    json_to: Annotated[str, typer.Option("--json", help="Write the result here too, - for standard output.")] = "",
) -> None:
    """Find what drift is normal for these weights: score 1 is the 99th percentile over the episodes that succeed."""
    import numpy as np

    from harmowam_core.files import replaced
    from harmowam_core.presets import load_preset
    from harmowam_world_model.drift import CALIBRATION_FILE, Calibration, weights_digest

    folder = weights or load_preset(preset).weights_dir()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    errors: list[list[float]] = []
    with Progress(console=console) as progress:
        bar = progress.add_task("episodes", total=episodes)
        for first, after in pairwise([*range(0, episodes, BATCH), episodes]):
            errors += normal_errors(preset, weights, range(FIRST_SEED + first, FIRST_SEED + after))
            progress.update(bar, completed=after)
    if not errors:
        console.print(f"[red]none of {episodes} episodes succeeded, so nothing is known of normal runs[/]")
        raise typer.Exit(1)
    together = np.concatenate(errors)
    calibration = Calibration(
        scale=round(float(np.percentile(together, PERCENTILE)), 4),
        percentile=PERCENTILE,
        comparisons=len(together),
        episodes=len(errors),
        weights=weights_digest(folder),
    )
    document = calibration.model_dump_json(indent=1) + "\n"
    with replaced(folder / CALIBRATION_FILE) as part:
        part.write_text(document)
    console.print(f"{folder / CALIBRATION_FILE}: score 1 is {calibration.scale}, from {len(errors)} of {episodes} episodes")
    write_json(json_to, calibration.model_dump())
