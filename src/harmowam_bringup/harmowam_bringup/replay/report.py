"""The offline report: one HTML file with everything inside, a column a run where there are several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from harmowam_bringup.palette import CAME, EXPERT_COLOURS, IMAGINED
from harmowam_bringup.pictures import data_uri, evenly
from harmowam_bringup.replay import plots
from harmowam_bringup.replay.measures import StepErrors, frames_that_came, known_mean
from harmowam_core.stages import Expert
from harmowam_gate.labels import gripper_events

if TYPE_CHECKING:
    from harmowam_bringup.replay.command import Run

SCRUBBED = 120
SHOWN_FRAMES = (3, 6, 9, 12)
SAME_MOMENT = 3  # steps


def write_report(path: Path, runs: Sequence[Run], left_out: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write ``path`` for one or several runs; ``left_out``: bag and error of recordings that could not be evaluated."""
    environment = Environment(loader=PackageLoader("harmowam_bringup"), autoescape=True, undefined=StrictUndefined)
    period_s = runs[0].judged[0].step.imagination.frame_period_s
    html = environment.get_template("replay.html.j2").render(
        facts=facts,
        left_out=left_out,
        columns=[{"name": run.name, **run.figures} for run in runs],
        experts=[expert.value for expert in Expert],
        colours={expert.value: EXPERT_COLOURS[expert] for expert in Expert} | {"imagined": IMAGINED, "came": CAME},
        horizon=plots.over_horizon([(run.name, run.judged) for run in runs], period_s),
        runs=[
            {
                "name": run.name,
                "errors": plots.errors_over_time(run.judged),
                "gate": plots.gate_over_time(run.judged),
                "moments": [_picture(run, k) | {"why": why} for k, why in decisive_moments(run)],
                "scrubber": [_picture(run, k) for k in evenly(range(len(run.judged)), SCRUBBED)],
            }
            for run in runs
        ],
        ahead_s=[round(k * period_s, 2) for k in SHOWN_FRAMES],
    )
    path.write_text(html)


def decisive_moments(run: Run) -> list[tuple[int, str]]:
    """(index of the step, why it matters) in order: gripper events, changes of expert, and where each part was worst."""
    judged, found = run.judged, dict[int, str]()
    rows = np.array([e.step.row for e in judged])

    def note(index: int, why: str) -> None:
        near = [k for k in found if abs(k - index) < SAME_MOMENT]
        if near:
            found[near[0]] += f"; {why}"
        else:
            found[index] = why

    for arm in run.recorded.working:
        for event in gripper_events(run.recorded.executed.grippers[:, arm].astype(np.float32)):
            note(int(np.clip(np.searchsorted(rows, event), 0, len(rows) - 1)), "gripper")
    for k in range(1, len(judged)):
        if judged[k].step.expert is not judged[k - 1].step.expert:
            note(k, f"to {judged[k].step.expert.value}")
    for why, values in (
        ("worst choice", [known_mean(e.chosen.position_m) for e in judged]),
        ("worst imagination", [-known_mean(e.ssim) for e in judged]),
    ):
        if not np.isnan(values).all():
            note(int(np.nanargmax(values)), why)
    return sorted(found.items())


def _picture(run: Run, index: int) -> dict[str, Any]:
    """What was seen at a step, what was imagined for later, and what came then (None: nothing)."""
    errors: StepErrors = run.judged[index]
    step, seen = errors.step, run.recorded.observations
    came = frames_that_came(step.imagination, run.recorded)
    error_m = known_mean(errors.chosen.position_m)
    frames = [k for k in SHOWN_FRAMES if k < len(step.imagination.frames)]
    return {
        "at_s": (step.imagination.stamp_ns - run.judged[0].step.imagination.stamp_ns) * 1e-9,
        "seen": data_uri(seen[step.row].image("scene"), 2),
        "imagined": [data_uri(step.imagination.frames[k]) for k in frames],
        "came": [None if (image := came[k - 1]) is None else data_uri(image) for k in frames],
        "score": step.score,
        "expert": step.expert.value,
        "label": "interaction" if errors.interaction else "transit",
        "error_cm": None if np.isnan(error_m) else 100 * error_m,
    }
