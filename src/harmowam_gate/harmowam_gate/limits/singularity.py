"""How near an arm is to losing a direction: the condition number of its Jacobian, as in MoveIt Servo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harmowam_core.status import Reason
from harmowam_gate.body import Places
from harmowam_gate.limits.limit import Context, Motion, PlaceLimit, Verdict


class SingularityLimit(PlaceLimit):
    """From the profile's ``slow`` on, a tool that gets nearer must move more slowly; ``stop`` it must not pass."""

    def __init__(self, context: Context) -> None:
        self._arms, safety = context.cell.arm_names, context.cell.safety
        self._slow, self._stop, self._fastest = safety.singularity.slow, safety.singularity.stop, safety.tcp_speed

    def outside(self, places: Places) -> NDArray[np.float64]:
        """(S, A) condition numbers above ``stop``."""
        return self._conditions(places, np.arange(len(places.positions))) - self._stop

    def check(self, motion: Motion) -> Verdict:
        """Refuse to pass ``stop``; ask for more time on the way there."""
        sparse = motion.sparse
        conditions = self._conditions(motion.places, sparse)
        verdict = self.compare(conditions - self._stop)
        if not verdict.ok or not (conditions > self._slow).any():
            return verdict
        nearing = np.diff(conditions, axis=0, append=conditions[-1:]) > 0
        share = np.clip((self._stop - conditions) / (self._stop - self._slow), 0.02, 1.0)
        limits = np.where(nearing, share * self._fastest, np.inf)
        speeds = motion.places.tool_speeds[sparse]
        if (speeds <= limits).all():
            return Verdict()
        sample, arm = np.unravel_index(int(np.argmax(speeds / limits)), speeds.shape)
        speed, condition = float(speeds[sample, arm]), float(conditions[sample, arm])
        text = f"arm '{self._arms[arm]}' would near a singularity (condition number {condition:.1f}) at {speed:.2f} m/s"
        return Verdict.too_fast(Reason.SINGULARITY, speed, float(limits[sample, arm]), 1, text)

    def describe(self, part: int, outside: float) -> Verdict:
        """Names the arm."""
        measured = self._stop + outside
        text = f"arm '{self._arms[part]}' would near a singularity: condition number {measured:.1f}, limit {self._stop:.0f}"
        return Verdict.refused(Reason.SINGULARITY, measured, self._stop, text)

    @staticmethod
    def _conditions(places: Places, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S', A) largest over smallest singular value; infinite where there is no smallest, or no number at all."""
        jacobians = places.jacobians(samples)
        if not np.isfinite(jacobians).all():
            return np.full(jacobians.shape[:2], np.inf)
        squares = np.linalg.eigvalsh(jacobians @ np.swapaxes(jacobians, -1, -2))  # (S', A, 6), rising
        with np.errstate(divide="ignore"):
            return np.sqrt(squares[..., -1] / np.maximum(squares[..., 0], 0.0))
