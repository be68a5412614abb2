"""The control every table carries: in transit, a straight line to the hover point above the grounded target or goal.

It uses the same grounding as the reactive expert and nothing it imagines, so it shows what imagination adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harmowam_core.stages import HELD_OPENING, ActionChunk, Expert, Imagination, Observation

HOVER_M = 0.08
SPEED_M_S = 0.16


class StraightLineExpert:
    """Stands where the reactive expert stands; the left arm moves, the other stays."""

    source = Expert.REACTIVE

    def __init__(self, arms: tuple[str, ...], horizon: int) -> None:
        self.arms, self.horizon = arms, horizon

    def act(self, observations: Sequence[Observation], imaginations: Sequence[Imagination]) -> list[ActionChunk]:
        """One chunk a pair; see the ActionExpert protocol."""
        return [self._chunk(o, i) for o, i in zip(observations, imaginations, strict=True)]

    def _chunk(self, observation: Observation, imagination: Imagination) -> ActionChunk:
        holding = HELD_OPENING[0] < observation.gripper[0] < HELD_OPENING[1]
        point = next(p for p in imagination.grounding if p.label == ("goal" if holding else "target"))
        hover = point.position + np.array([0, 0, HOVER_M], np.float32)
        way = hover - observation.ee_position[0]
        distance = float(np.linalg.norm(way))
        travelled = np.minimum(SPEED_M_S * imagination.frame_period_s * np.arange(1, self.horizon + 1), distance)
        positions = np.tile(observation.ee_position, (self.horizon, 1, 1)).astype(np.float32)
        positions[:, 0] += (way / max(distance, 1e-6) * travelled[:, None]).astype(np.float32)
        return ActionChunk(
            observation.stamp_ns, imagination.imagination_id, self.source, imagination.frame_period_s, self.arms, positions,
            np.tile(observation.ee_orientation, (self.horizon, 1, 1)).astype(np.float32),
            np.tile(observation.gripper, (self.horizon, 1)).astype(np.float32),
        )  # fmt: skip
