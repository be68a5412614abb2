"""What a recording holds for offline evaluation, read once: rows, what was executed, labels, the auditor's verdict, live latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.auditor.from_bag import NothingToJudgeError, audit_bag
from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.problems import Problem
from harmowam_bringup.bags.rows import Progress, read_rows
from harmowam_bringup.bags.stamps import PLAUSIBLE_MS
from harmowam_core import topics
from harmowam_core.contract import Contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.presets import Preset
from harmowam_core.stages import Expert, Observation
from harmowam_gate.labels import interaction_labels
from harmowam_gate.pose_path import PosePath

WORKING_M = 0.03  # an arm that moved less than this is parked


class NothingToReplayError(ValueError):
    """A recording has nothing that could be evaluated; the message says what is missing, ``problems`` why, from ``started_ns`` on."""

    def __init__(self, text: str, bag: Bag) -> None:
        super().__init__(text)
        self.problems, self.started_ns = list(bag.problems), bag.started_ns


@dataclass(frozen=True)
class Recorded:
    """One recording. All arrays run over its T rows.

    tasks: (T,) which task was given, counted from 1; 0: none. executed: measured tool poses at the observations' stamps, with the openings
    that were commanded (measured where no command was recorded). labels: (T,) True for interaction. working: indices of moving arms.
    auditor: its verdict on the recorded commands, None without any. latencies_ms: of the live graph, by stage.
    """

    path: Path
    started_ns: int
    duration_s: float
    observations: list[Observation]
    tasks: NDArray[np.int64]
    executed: PosePath
    labels: NDArray[np.bool_]
    working: NDArray[np.int64]
    auditor: dict[str, Any] | None
    latencies_ms: dict[str, list[float]]
    problems: list[Problem]


def read_recorded(
    path: Path, contract: Contract, preset: Preset, *, instruction: str = "", progress: Progress = lambda share: None
) -> Recorded:
    """Read all of a bag; ``instruction`` stands for a task that was not recorded. BagError, NothingToReplayError, ContractError."""
    cell = preset.load_cell()
    with Bag(path) as bag:
        found = read_rows(bag, contract, preset, Kinematics(cell), progress)
        stamps_ns = onward_ns([(row.observation.stamp_ns, row.time_ns) for row in found.rows])
        observations = [
            replace(row.observation, stamp_ns=stamp_ns, instruction=instruction or row.observation.instruction)
            for row, stamp_ns in zip(found.rows, stamps_ns, strict=True)
        ]
        tasks = number_tasks([(row.task_id, seen.instruction) for row, seen in zip(found.rows, observations, strict=True)])
        if len(observations) < 2 or not tasks.any():
            without = (
                f"{len(observations)} usable observations" if len(observations) < 2 else "no task; say what was done with --instruction"
            )
            raise NothingToReplayError(f"{path} has {without}; topics: {', '.join(bag.topics) or 'none'}", bag)
        latencies, problems, started_ns, duration_s = _latencies_ms(bag), list(bag.problems), bag.started_ns, bag.duration_s
    try:
        auditor: dict[str, Any] | None = audit_bag(path, cell)
    except NothingToJudgeError:
        auditor = None
    executed = _executed(observations, found.commanded(contract.period_s))
    moved = np.linalg.norm(np.ptp(executed.positions, axis=0), axis=-1)  # (A,)
    working = np.flatnonzero(moved > WORKING_M)
    labels = interaction_labels(executed.grippers.astype(np.float32), executed.positions.astype(np.float32))
    return Recorded(
        path, started_ns, duration_s, observations, tasks, executed, labels, working if len(working) else np.arange(len(moved)), auditor,
        latencies, problems,
    )  # fmt: skip


def number_tasks(given: Sequence[tuple[int, str]]) -> NDArray[np.int64]:
    """(T,) of (id, words): 0 without words; else the number of the stretch of the same task that a row belongs to, from 1."""
    numbers, count, before = np.zeros(len(given), np.int64), 0, (0, "")
    for row, task in enumerate(given):
        _, words = task
        count += bool(words) and task != before
        numbers[row] = count if words else 0
        before = task
    return numbers


def onward_ns(times_ns: Sequence[tuple[int, int]]) -> list[int]:
    """Stamps that only go on, of (stamp, recorded): after a clock was set back, they are moved on by what the recorder's clock says."""
    found: list[int] = []
    offset_ns = last_time_ns = 0
    for stamp_ns, time_ns in times_ns:
        if found and stamp_ns + offset_ns <= found[-1]:
            offset_ns = found[-1] + max(time_ns - last_time_ns, 1) - stamp_ns
        found.append(stamp_ns + offset_ns)
        last_time_ns = time_ns
    return found


def _executed(observations: Sequence[Observation], commanded: NDArray[np.float32]) -> PosePath:
    stamps = np.array([o.stamp_ns for o in observations], np.int64)
    positions, orientations = (np.array([getattr(o, name) for o in observations], np.float64) for name in ("ee_position", "ee_orientation"))
    return PosePath(stamps, positions, orientations, commanded.astype(np.float64))


def _latencies_ms(bag: Bag) -> dict[str, list[float]]:
    """From an observation's stamp until what was made of it had been recorded; nothing where stamps are of another clock."""
    stages = {topics.IMAGINATION: "imagination"} | {topics.chunk(expert): f"{expert.value}_chunk" for expert in Expert}
    found: dict[str, list[float]] = {stage: [] for stage in stages.values()}
    for item in bag.messages({topic for topic in stages if topic in bag.topics}):
        if item.stamp_ns is not None and 0 <= (late_ms := (item.time_ns - item.stamp_ns) / 1e6) < PLAUSIBLE_MS:
            found[stages[item.topic]].append(late_ms)
    return found
