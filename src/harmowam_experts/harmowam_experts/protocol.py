"""What every action expert offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from harmowam_core.stages import ActionChunk, Expert, Imagination, Observation


class ActionExpert(Protocol):
    """Turns observations and their imaginations into action chunks; ``chunk_id`` is the imagination's id."""

    source: Expert

    def act(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> list[ActionChunk]:
        """One chunk a pair (a batch of independent episodes); deterministic for equal stamps and seeds."""
        ...
