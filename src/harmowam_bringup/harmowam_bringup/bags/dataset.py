"""Recorded demonstrations as a training set: one rollout a task that succeeded, in the form that ``harmowam train`` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harmowam_bringup.bags.bag import Bag, BagError
from harmowam_bringup.bags.graph_recorder import SCORE
from harmowam_bringup.bags.problems import Problems, Trouble, print_problems
from harmowam_bringup.bags.progress import following
from harmowam_bringup.bags.rows import Rows, read_rows
from harmowam_core.contract import contract_for
from harmowam_core.kinematics import Kinematics
from harmowam_core.wan_preset import load_any_preset
from harmowam_gate.labels import interaction_labels
from harmowam_sim.demonstrators import Rollout
from harmowam_training.dataset import save_rollout

AFTERWARDS_NS = 1_500_000_000
"""How much later than a rollout's last row its success may have been seen."""


@dataclass(frozen=True)
class DatasetOptions:
    """successful: recordings that nobody scored are good ones; task, instruction: of recordings that do not say."""

    out: Path
    preset: str = "compact"
    contract: str = ""
    successful: bool = False
    task: str = ""
    instruction: str = ""
    shortest_s: float = 2.0


@dataclass(frozen=True)
class _Scored:
    time_ns: int
    task: str
    success: bool


def from_bags(paths: Sequence[Path], options: DatasetOptions, console: Console) -> dict[str, Any]:
    """Convert; returns the report: rollouts by task, and by bag what was stored, what was left out and why.

    A bag that cannot be read is reported and passed over. ValueError if ``out`` has content, or if nothing at all could be stored.
    """
    preset = load_any_preset(options.preset)
    contract = contract_for(preset, options.contract)
    kinematics = Kinematics(preset.load_cell())
    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"{options.out} has content already; name a new folder, or delete it")
    counts: dict[str, int] = {}
    bags: list[dict[str, Any]] = []
    for path in paths:
        try:
            with Bag(path) as bag, following(console, path.name) as progress:
                rows, scores = read_rows(bag, contract, preset, kinematics, progress), _scores(bag)
                stored = _store(bag, rows, scores, contract.period_s, options, counts)
                bags.append({"bag": str(path), "rollouts": stored, "problems": bag.problems.to_json()})
                print_problems(bag.problems, bag.started_ns, console)
        except BagError as error:
            problems = Problems()
            problems.add(Trouble.DAMAGED, str(path), str(error))
            bags.append({"bag": str(path), "rollouts": [], "problems": problems.to_json()})
            console.print(Text(str(error), style="red"))
    report = {"rollouts": counts, "preset": options.preset, "contract": contract.name, "period_s": contract.period_s, "bags": bags}
    if not counts:
        raise ValueError("no demonstration in these recordings; what was wrong with them stands above")
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _print(report, options.out, console)
    return report


def _store(
    bag: Bag, rows: Rows, scores: Sequence[_Scored], period_s: float, options: DatasetOptions, counts: dict[str, int]
) -> list[dict[str, Any]]:
    """Write the good parts of a bag; the others are among its problems."""
    stored: list[dict[str, Any]] = []
    for words, run in _runs(rows, options.instruction):
        task, why = _judge(words, run, scores, options)
        for piece in _pieces(run):
            began_ns = piece.rows[0].time_ns
            seconds = (piece.rows[-1].observation.stamp_ns - piece.rows[0].observation.stamp_ns) / 1e9
            short = f"a piece of {seconds:.1f} s between gaps, shorter than {options.shortest_s} s" if seconds < options.shortest_s else ""
            if why or short:
                bag.problems.add(Trouble.LEFT_OUT, words or "no task", why or short, began_ns, len(piece.rows))
                continue
            number = counts.get(task, 0)
            file = options.out / f"demonstration_{task}" / f"{number:06d}.safetensors"
            save_rollout(file, _rollout(piece, words, number, period_s), task=task, bag=bag.path.name)
            counts[task] = number + 1
            begin_s = round((began_ns - bag.started_ns) / 1e9, 2)
            stored.append({"task": task, "instruction": words, "start_s": begin_s, "rows": len(piece.rows), "file": str(file)})
    return stored


def _scores(bag: Bag) -> list[_Scored]:
    """What the simulator thought, where there was one."""
    found = []
    for item in bag.messages({SCORE: ("std_msgs/msg/String",)}):
        try:
            score = json.loads(item.message.data)
            found.append(_Scored(item.time_ns, str(score["task"]), bool(score["success"])))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            bag.problems.add(Trouble.REFUSED, SCORE, f"{type(error).__name__}: {error}", item.time_ns)
    return found


def _runs(rows: Rows, instruction: str) -> Iterator[tuple[str, Rows]]:
    """The rows of one task after the other, with its words; a task that is given again is another one."""
    for (_, words), group in groupby(rows.rows, key=lambda row: (row.task_id, row.observation.instruction or instruction)):
        yield words, Rows(rows.commands, list(group))


def _pieces(run: Rows) -> list[Rows]:
    """Cut where there is a gap."""
    pieces: list[Rows] = []
    for row in run.rows:
        if not pieces or not row.follows:
            pieces.append(Rows(run.commands))
        pieces[-1].rows.append(row)
    return pieces


def _judge(words: str, run: Rows, scores: Sequence[_Scored], options: DatasetOptions) -> tuple[str, str]:
    """The task's name, and why the run is of no use ("" if it is)."""
    begin_ns, end_ns = run.rows[0].time_ns, run.rows[-1].time_ns + AFTERWARDS_NS
    during = [score for score in scores if begin_ns <= score.time_ns <= end_ns]
    task = options.task or (during[-1].task if during else "recorded")
    if not words:
        return task, "nobody had given a task"
    if during and not any(score.success for score in during):
        return task, "the task was not completed"
    if not during and not options.successful:
        return task, "nobody scored it; if it is a good demonstration, say --successful"
    return task, ""


def _rollout(piece: Rows, words: str, number: int, period_s: float) -> Rollout:
    observations = [row.observation for row in piece.rows]
    joints = np.array([row.joints for row in piece.rows], np.float32)
    positions = np.array([observation.ee_position for observation in observations])
    commanded = piece.commanded(period_s)
    arms = positions.shape[1]
    return Rollout(
        kind="demonstration",
        seed=number,
        frames={camera: np.stack([observation.images[camera] for observation in observations]) for camera in observations[0].images},
        arm_positions=joints[:, :-arms],
        openings=np.array([observation.gripper for observation in observations]),
        commanded_openings=commanded,
        positions=positions,
        commanded_positions=np.concatenate([positions[1:], positions[-1:]]),  # executed: where the tools were a period later
        orientations=np.array([observation.ee_orientation for observation in observations]),
        masked=np.zeros(len(observations), bool),
        phases=tuple("interaction" if label else "transit" for label in interaction_labels(commanded, positions)),
        instructions=(words,) * len(observations),
        success=True,
        score=1.0,
        failure=None,
    )


def _print(report: dict[str, Any], out: Path, console: Console) -> None:
    table = Table("task", "rollouts", box=None, pad_edge=False)
    for task, count in sorted(report["rollouts"].items()):
        table.add_row(f"demonstration_{task}", str(count))
    console.print(table)
    console.print(f"  {out / 'report.json'}")
