"""Which action chunks there are to follow: the newest valid one of each expert."""

from __future__ import annotations

import math

import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.stages import ActionChunk, Expert
from harmowam_core.stamp_clock import SLACK_NS
from harmowam_core.status import Reason
from harmowam_gate.limits import Verdict
from harmowam_gate.pose_path import PosePath
from harmowam_gate.settings import ArbiterSettings, max_age_s

HORIZON, PERIOD_S = (2, 64), (0.02, 0.5)
"""Of chunks: planning along more, or less densely, would take longer than a tick, or say nothing."""


class ChunkSchedule:
    """Holds the newest valid chunk of each expert and refuses the others with a named reason."""

    def __init__(self, cell: Cell, settings: ArbiterSettings) -> None:
        self._arms = cell.arm_names
        self._lower, self._upper = np.array(cell.workspace.lower), np.array(cell.workspace.upper)
        self._settings = settings
        self._chunks: dict[Expert, ActionChunk] = {}
        self._paths: dict[Expert, PosePath] = {}
        self._last: dict[Expert, tuple[int, int]] = {}  # id and stamp of the last one taken
        self._not_before_ns = 0

    def clear(self, now_ns: int) -> None:
        """Forget all chunks, and refuse those of earlier observations: they answer another instruction."""
        self._chunks.clear()
        self._paths.clear()
        self._not_before_ns = now_ns

    def newest(self, expert: Expert) -> ActionChunk | None:
        """The newest valid chunk, of any age."""
        return self._chunks.get(expert)

    def path(self, expert: Expert, now_ns: int, execute_s: float = math.inf) -> PosePath | None:
        """What is left of the newest chunk's path, up to ``execute_s`` after its observation; None without a chunk young enough."""
        chunk = self._chunks.get(expert)
        if chunk is None or not now_ns - chunk.stamp_ns <= max_age_s(self._settings, expert) * 1e9:
            return None
        path = self._paths[expert].since(now_ns)
        return path if execute_s == math.inf else path.until(chunk.stamp_ns + round(execute_s * 1e9))

    def accept(self, chunk: ActionChunk, now_ns: int) -> Verdict:
        """Take ``chunk``, or say why not."""
        verdict = self._check_order(chunk, now_ns)
        if verdict.ok:
            path = PosePath.of(chunk)
            verdict = self._check_steps(path)
        if verdict.ok:
            outside = np.maximum(self._lower - path.positions, path.positions - self._upper)
            if not (outside <= self._settings.workspace_slack_m).all():
                worst = float(outside.max())
                text = f"a target lies {worst:.3f} m outside the workspace"
                return Verdict.refused(Reason.WORKSPACE, worst, self._settings.workspace_slack_m, text)
            # The noise of a learned expert at the table's face is no reason to stop: such targets move onto the face.
            inside = np.clip(path.positions, self._lower, self._upper)
            self._chunks[chunk.source] = chunk
            self._last[chunk.source] = (chunk.chunk_id, chunk.stamp_ns)
            self._paths[chunk.source] = PosePath(path.times_ns, inside, path.orientations, path.grippers)
        return verdict

    def _check_order(self, chunk: ActionChunk, now_ns: int) -> Verdict:
        if chunk.arms != self._arms:
            return Verdict.refused(
                Reason.MALFORMED, len(chunk.arms), len(self._arms), f"chunk for arms {chunk.arms}, expected {self._arms}"
            )
        for value, (low, high), what in ((chunk.horizon, HORIZON, "targets"), (chunk.period_s, PERIOD_S, "s between two targets")):
            if not low <= value <= high:
                limit = low if value < low else high
                return Verdict.refused(Reason.MALFORMED, value, limit, f"chunk of {value:g} {what}, expected {low:g} to {high:g}")
        age_s, oldest_s = (now_ns - chunk.stamp_ns) * 1e-9, max_age_s(self._settings, chunk.source)
        if chunk.source in self._last:
            last_id, last_ns = self._last[chunk.source]
            # Whoever was started again counts from the beginning: that is fine once the last chunk from before has expired.
            # A chunk from before that comes late is still known by its stamp.
            restarted = not now_ns - last_ns <= oldest_s * 1e9
            if chunk.stamp_ns <= last_ns or (chunk.chunk_id <= last_id and not restarted):
                text = f"{chunk.source.value} chunk {chunk.chunk_id} came after {last_id}"
                return Verdict.refused(Reason.OUT_OF_ORDER, chunk.chunk_id, last_id, text)
        if not age_s <= oldest_s:
            return Verdict.refused(
                Reason.CHUNK_STALE, age_s, oldest_s, f"chunk {chunk.chunk_id} is {age_s:.2f} s old, limit {oldest_s:.2f} s"
            )
        if chunk.stamp_ns > now_ns + SLACK_NS:
            text = f"chunk {chunk.chunk_id} is stamped {-age_s:.3f} s in the future; synchronise the computers' clocks"
            return Verdict.refused(Reason.MALFORMED, -age_s, SLACK_NS * 1e-9, text)
        if chunk.stamp_ns < self._not_before_ns:
            early_s = (self._not_before_ns - chunk.stamp_ns) * 1e-9
            return Verdict.refused(Reason.NO_TASK, early_s, 0.0, f"chunk {chunk.chunk_id} was seen {early_s:.2f} s before the task began")
        return Verdict()

    def _check_steps(self, path: PosePath) -> Verdict:
        steps_m = np.linalg.norm(np.diff(path.positions, axis=0), axis=-1)
        cosines = np.abs(np.sum(path.orientations[1:] * path.orientations[:-1], axis=-1))
        turns_rad = 2 * np.arccos(np.clip(cosines, 0.0, 1.0))
        for values, limit, unit in ((steps_m, self._settings.target_step_m, "m"), (turns_rad, self._settings.target_turn_rad, "rad")):
            if not (values <= limit).all():
                worst = float(values.max())
                return Verdict.refused(Reason.JUMP, worst, limit, f"two targets are {worst:.2f} {unit} apart, limit {limit:.2f}")
        return Verdict()
