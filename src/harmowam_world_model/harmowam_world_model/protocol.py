"""What every world model offers, compact or paper-scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harmowam_core.stages import GroundedPoint, Imagination, Observation


class GroundingMemory:
    """What one episode remembers of the grounding: its last confident points. Make a new one for each task."""

    def __init__(self) -> None:
        self._points: dict[str, GroundedPoint] = {}

    def update(self, point: GroundedPoint, threshold: float) -> GroundedPoint:
        """The point itself if it is confident or the first; else the last confident one of that label."""
        if point.confidence >= threshold or point.label not in self._points:
            self._points[point.label] = point
        return self._points[point.label]


class WorldModel(Protocol):
    """Imagines the next frames from the current observation and the instruction."""

    def imagine(self, observations: Sequence[Observation], memories: Sequence[GroundingMemory], seed: int = 0) -> list[Imagination]:
        """One imagination an observation (a batch of independent episodes); noise depends on ``seed`` and each stamp only."""
        ...
