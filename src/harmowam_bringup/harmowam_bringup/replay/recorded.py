"""What a recording holds for offline evaluation, read once: rows, what was executed, labels, the auditor's verdict, live latencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.auditor.from_bag import audit_bag
from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.rows import Row, RowsError, rows
from harmowam_core import topics
from harmowam_core.contract import Contract
from harmowam_core.presets import Preset
from harmowam_core.stages import Expert
from harmowam_gate.labels import interaction_labels
from harmowam_gate.pose_path import PosePath

WORKING_M = 0.03  # an arm that moved less than this is parked


@dataclass(frozen=True)
class Recorded:
    """One recording. All arrays run over its T rows.

    executed: measured tool poses with the openings that were commanded (measured where no command was recorded) at the rows' stamps.
    labels: (T,) True for interaction. working: indices of the arms that moved.
    auditor: its verdict on the recorded commands, None without any. latencies_ms: of the live graph, by stage.
    """

    path: Path
    duration_s: float
    rows: list[Row]
    executed: PosePath
    labels: NDArray[np.bool_]
    working: NDArray[np.int64]
    auditor: dict[str, Any] | None
    latencies_ms: dict[str, list[float]]
    problems: list[dict[str, Any]]
    custom_data: Mapping[str, str] = field(default_factory=dict)

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """(T,) of the observations."""
        return self.executed.times_ns


def read_recorded(path: Path, contract: Contract, preset: Preset, *, instruction: str = "") -> Recorded:
    """Read all of a bag. BagError, RowsError or ContractError where there is nothing to evaluate."""
    with Bag(path) as bag:
        found = list(rows(bag, contract, preset, instruction=instruction))
        stamps = np.array([row.observation.stamp_ns for row in found], np.int64)
        if len(found) < 2 or not any(row.task_id for row in found):
            words = "its task topic never names a task; say what was done with --instruction" if len(found) >= 2 else "too few rows"
            raise RowsError(f"{path} has no task to evaluate: {len(found)} rows, {words}")
        keep = np.append(True, np.diff(np.maximum.accumulate(stamps)) > 0)  # stamps that went back are in the problems
        found = [row for row, kept in zip(found, keep, strict=True) if kept]
        latencies, problems, custom = _latencies_ms(bag), bag.problems, bag.custom_data
        duration_s = bag.duration_s
    cell = preset.load_cell()
    try:
        auditor: dict[str, Any] | None = audit_bag(path, cell)
    except ValueError:
        auditor = None
    executed = _executed(found)
    moved = np.linalg.norm(np.ptp(executed.positions, axis=0), axis=-1)  # (A,)
    working = np.flatnonzero(moved > WORKING_M)
    return Recorded(
        path, duration_s, found, executed, interaction_labels(executed.grippers.astype(np.float32), executed.positions.astype(np.float32)),
        working if len(working) else np.arange(len(moved)), auditor, latencies, problems.to_json(), custom,
    )  # fmt: skip


def _executed(found: list[Row]) -> PosePath:
    observations = [row.observation for row in found]
    openings = [row.observation.gripper if row.commanded is None else row.commanded for row in found]
    arrays = ([o.ee_position for o in observations], [o.ee_orientation for o in observations], openings)
    stamps = np.array([o.stamp_ns for o in observations], np.int64)
    return PosePath(stamps, *(np.array(array, np.float64) for array in arrays))


def _latencies_ms(bag: Bag) -> dict[str, list[float]]:
    """From an observation's stamp until what was made of it had been recorded; nothing where stamps are of another clock."""
    stages = {topics.IMAGINATION: "imagination"} | {topics.chunk(expert): f"{expert.value}_chunk" for expert in Expert}
    found: dict[str, list[float]] = {stage: [] for stage in stages.values()}
    for item in bag.messages({topic for topic in stages if topic in bag.topics}):
        if item.stamp_ns is not None and 0 <= item.time_ns - item.stamp_ns < 10_000_000_000:
            found[stages[item.topic]].append((item.time_ns - item.stamp_ns) / 1e6)
    return found
