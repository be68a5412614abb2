"""What every world model offers, compact or paper-scale."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harmowam_core.stages import GroundedPoint, Imagination, Observation

ALONE: AbstractContextManager[None] = nullcontext()
OVER_GOAL_M = 0.10  # a hand no further beside the goal hides it from the scene camera


class GroundingMemory:
    """What one episode remembers of the grounding: its last confident points, the goal's from before a hand hid it.

    Where the hand covers the goal, a model can but guess that the hand is right, and would follow it wherever it errs.
    Make a new one for each task.
    """

    def __init__(self) -> None:
        self._points: dict[str, GroundedPoint] = {}
        self._goal_seen = False

    def update(self, point: GroundedPoint, threshold: float, hands: NDArray[np.float32]) -> GroundedPoint:
        """The point to go by, given what is seen now and where the hands (A, 3), m, are."""
        known = self._points.get(point.label, point)
        hidden = point.label == "goal" and bool((np.linalg.norm(hands[:, :2] - known.position[:2], axis=1) < OVER_GOAL_M).any())
        sure = point.confidence >= threshold
        if known is point or (sure and not (hidden and self._goal_seen)):
            self._points[point.label] = point
            self._goal_seen |= point.label == "goal" and sure and not hidden
        return self._points[point.label]


class WorldModel(Protocol):
    """Imagines the next frames from the current observation and the instruction."""

    def imagine(
        self,
        observations: Sequence[Observation],
        memories: Sequence[GroundingMemory],
        seed: int = 0,
        *,
        turn: AbstractContextManager[None] = ALONE,
    ) -> list[Imagination]:
        """One imagination an observation (a batch of independent episodes); noise depends on ``seed`` and each stamp only.

        turn: entered around the use of ``memories``, so that threads which work on the same episode can take turns in its order.
        """
        ...
