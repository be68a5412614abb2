"""Whose chunks the arm follows: as the selector and the gate say, or else whoever still answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harmowam_core.cell import Cell
from harmowam_core.stages import ActionChunk, Expert, Phase
from harmowam_core.status import Reason
from harmowam_gate.chunk_schedule import ChunkSchedule
from harmowam_gate.decision import Condition
from harmowam_gate.limits import Verdict
from harmowam_gate.pose_path import PosePath, mean_path
from harmowam_gate.settings import ArbiterSettings, max_age_s


@dataclass(frozen=True)
class Choice:
    """Whose path to follow (None: the mean of both), which chunks made it, the path, and what is not as it should be."""

    expert: Expert | None
    chunks: tuple[tuple[Expert, int, int], ...]
    path: PosePath
    degraded: str = ""

    @property
    def observed_ns(self) -> int:
        """When the oldest observation behind it was made."""
        return min(stamp_ns for _, _, stamp_ns in self.chunks)


class Selection:
    """Keeps the experts' chunks and chooses between them. Times ns."""

    def __init__(self, cell: Cell, settings: ArbiterSettings) -> None:
        self._settings = settings
        self._schedule = ChunkSchedule(cell, settings)
        self._lost: dict[Expert, str] = {}
        self._delivered: set[Expert] = set()

    def clear(self, now_ns: int) -> None:
        """A new task: all chunks answer another instruction."""
        self._schedule.clear(now_ns)
        self._delivered.clear()

    def accept(self, chunk: ActionChunk, now_ns: int) -> Verdict:
        """Take a chunk, or say why not."""
        verdict = self._schedule.accept(chunk, now_ns)
        if verdict.ok:
            self._delivered.add(chunk.source)
            self.regain(chunk.source)
        return verdict

    def lose(self, expert: Expert, why: str) -> None:
        """This expert stopped or failed: what it said last is not followed, until ``regain`` or its next chunk."""
        self._lost[expert] = why

    def regain(self, expert: Expert) -> None:
        """This expert is there again."""
        self._lost.pop(expert, None)

    def newest(self, expert: Expert) -> ActionChunk | None:
        """Its newest valid chunk, of any age."""
        return self._schedule.newest(expert)

    def paths(self, now_ns: int) -> dict[Expert, PosePath]:
        """What is left of each expert's path."""
        paths = {expert: self._schedule.path(expert, now_ns) for expert in Expert}
        return {expert: path for expert, path in paths.items() if path is not None}

    def choose(self, phase: Phase, now_ns: int, execute_s: float = math.inf) -> Choice | None:
        """What to follow, of each chunk no more than ``execute_s`` from its observation; None where there is nothing."""
        paths = {expert: None if expert in self._lost else self._schedule.path(expert, now_ns, execute_s) for expert in Expert}
        wanted = self._wanted(phase)
        missing = [expert for expert in wanted if paths[expert] is None]
        if not missing:
            first, *rest = (path for expert in wanted if (path := paths[expert]) is not None)
            path = mean_path(first, rest[0]) if rest else first
            return None if path is None else Choice(wanted[0] if len(wanted) == 1 else None, self._ids(wanted), path)
        lacking = missing[0]
        other = Expert.REACTIVE if lacking is Expert.PREDICTIVE else Expert.PREDICTIVE
        stand_in = paths[other] if self._may_stand_in(lacking) else None
        if stand_in is None:
            return None
        degraded = f"degraded: the {lacking.value} expert {self._lost.get(lacking, 'is late')}, following the {other.value} one"
        return Choice(other, self._ids((other,)), stand_in, degraded)

    def conditions(self, phase: Phase, now_ns: int, choice: Choice | None) -> tuple[Condition, ...]:
        """That there is something to follow."""
        if choice is not None:
            return ()
        conditions = []
        for expert in self._wanted(phase):
            if expert in self._lost:
                conditions.append(
                    Condition(Reason.CHUNK_STALE, f"{expert.value} expert: it {self._lost[expert]}; its chunk", math.nan, 0.0)
                )
                continue
            newest = self.newest(expert)
            age_s = math.inf if newest is None else (now_ns - newest.stamp_ns) * 1e-9
            conditions.append(Condition(Reason.CHUNK_STALE, f"{expert.value} chunk", age_s, max_age_s(self._settings, expert)))
        conditions.append(Condition(Reason.CHUNK_STALE, "stretch left of the chunks", math.inf, 0.0))
        return tuple(conditions)

    def _wanted(self, phase: Phase) -> tuple[Expert, ...]:
        """Whose chunks to follow; two: their mean."""
        match self._settings.selector:
            case "predictive":
                return (Expert.PREDICTIVE,)
            case "reactive":
                return (Expert.REACTIVE,)
            case "average":
                return tuple(Expert)
            case "keyframe_average":
                return (Expert.REACTIVE,) if phase is Phase.TRANSIT else tuple(Expert)
        return (Expert.REACTIVE,) if phase is Phase.TRANSIT else (Expert.PREDICTIVE,)

    def _may_stand_in(self, missing: Expert) -> bool:
        """Whether another expert may drive: not where one alone was asked for, nor before the missing one has had its turn."""
        chooses = self._settings.selector not in ("predictive", "reactive")
        return chooses and (missing in self._lost or missing in self._delivered)

    def _ids(self, experts: tuple[Expert, ...]) -> tuple[tuple[Expert, int, int], ...]:
        chunks = [chunk for expert in experts if (chunk := self.newest(expert)) is not None]
        return tuple((chunk.source, chunk.chunk_id, chunk.stamp_ns) for chunk in chunks)
