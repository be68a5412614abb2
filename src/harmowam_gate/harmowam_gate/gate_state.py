"""From the gate's scores to a phase that does not chatter: threshold, hysteresis, minimum dwell."""

from __future__ import annotations

import math

from harmowam_core.stages import Phase


class GateState:
    """The phase now; starts in transit. Times are those of the scored observations, ns."""

    def __init__(self, threshold: float = 0.5, hysteresis: float = 0.1, dwell_s: float = 0.3) -> None:
        if not 0 <= threshold - hysteresis <= threshold + hysteresis <= 1:
            raise ValueError(f"threshold {threshold} +/- hysteresis {hysteresis} leaves [0, 1]; no score could change the phase")
        self.phase = Phase.TRANSIT
        self._enter = threshold + hysteresis
        self._leave = threshold - hysteresis
        self._threshold = threshold
        self._dwell_ns = round(dwell_s * 1e9)
        self._changed_ns: int | None = None

    def update(self, score: float, stamp_ns: int) -> Phase:
        """Take one score in [0, 1] (ValueError otherwise); the first one needs to pass the bare threshold alone."""
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise ValueError(f"gate score is {score}, expected [0, 1]")
        if self._changed_ns is None:
            wish = Phase.INTERACTION if score > self._threshold else Phase.TRANSIT
        elif self.phase is Phase.TRANSIT:
            wish = Phase.INTERACTION if score > self._enter else Phase.TRANSIT
        else:
            wish = Phase.TRANSIT if score < self._leave else Phase.INTERACTION
        if self._changed_ns is None or (wish is not self.phase and stamp_ns - self._changed_ns >= self._dwell_ns):
            self.phase, self._changed_ns = wish, stamp_ns
        return self.phase
