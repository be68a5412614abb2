"""A tool path in time: what the targets of one chunk, or the mean of two, say."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmowam_core.stages import ActionChunk

Float64 = NDArray[np.float64]
PAST_KEPT = 3


@dataclass(frozen=True)
class PosePath:
    """times_ns: (K,) int64, increasing; positions (K, A, 3) m; orientations (K, A, 4) xyzw; grippers (K, A) openings in [0, 1].

    It is followed no further than ``end_ns``; targets after that only tell noise from motion.
    """

    times_ns: NDArray[np.int64]
    positions: Float64
    orientations: Float64
    grippers: Float64
    end_ns: float = math.inf

    @staticmethod
    def of(chunk: ActionChunk) -> PosePath:
        """All targets of a chunk at the times they are due."""
        times_ns = np.array([chunk.target_time_ns(index) for index in range(chunk.horizon)], dtype=np.int64)
        positions, orientations, grippers = (np.asarray(a, dtype=np.float64) for a in (chunk.positions, chunk.orientations, chunk.grippers))
        return PosePath(times_ns, positions, orientations, grippers)

    def since(self, time_ns: int) -> PosePath:
        """Without what is past at ``time_ns``, but for the last few targets, which tell noise from motion."""
        first = max(int(np.searchsorted(self.times_ns, time_ns, side="right")) - PAST_KEPT, 0)
        return PosePath(self.times_ns[first:], self.positions[first:], self.orientations[first:], self.grippers[first:], self.end_ns)

    def until(self, time_ns: int) -> PosePath | None:
        """To be followed until ``time_ns`` at most; None where that is before its second target."""
        return replace(self, end_ns=min(time_ns, self.end_ns)) if time_ns >= self.times_ns[1] else None

    def at(self, times_ns: NDArray[np.int64]) -> PosePath:
        """Interpolated at other times, which must lie within this path's: straight lines, the shortest turns."""
        index = np.clip(np.searchsorted(self.times_ns, times_ns, side="right") - 1, 0, len(self.times_ns) - 2)
        before = self.times_ns[index]
        share = (times_ns - before) / (self.times_ns[index + 1] - before)
        part = share[:, None, None]
        return PosePath(
            times_ns,
            (1 - part) * self.positions[index] + part * self.positions[index + 1],
            blend_quaternions(self.orientations[index], self.orientations[index + 1], part),
            (1 - part[..., 0]) * self.grippers[index] + part[..., 0] * self.grippers[index + 1],
            self.end_ns,
        )

    def opening(self, time_ns: int) -> Float64:
        """(A,) grippers of the next target due at ``time_ns`` or later, else of the last."""
        return self.grippers[min(int(np.searchsorted(self.times_ns, time_ns)), len(self.times_ns) - 1)]


def blend_quaternions(a: Float64, b: Float64, share: Float64 | float) -> Float64:
    """Unit quaternions (..., 4) ``share`` of the way from ``a`` to ``b``, the short way round.

    The normalised mean: exactly the middle at one half, within 0.2 degrees of constant speed for turns below a right angle.
    """
    near = np.where(np.sum(a * b, axis=-1, keepdims=True) < 0, -b, b)
    mixed = (1 - share) * a + share * near
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def mean_path(a: PosePath, b: PosePath) -> PosePath | None:
    """The mean of two paths at those times of ``a`` that both cover; None where fewer than two are left."""
    common = (a.times_ns >= b.times_ns[0]) & (a.times_ns <= b.times_ns[-1])
    if common.sum() < 2:
        return None
    mine, other = a.at(a.times_ns[common]), b.at(a.times_ns[common])
    return PosePath(
        mine.times_ns,
        (mine.positions + other.positions) / 2,
        blend_quaternions(mine.orientations, other.orientations, 0.5),
        (mine.grippers + other.grippers) / 2,
        min(a.end_ns, b.end_ns),
    )
