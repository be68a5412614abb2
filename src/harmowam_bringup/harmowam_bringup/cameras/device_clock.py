"""A camera's hardware timestamps on our clock."""

from __future__ import annotations

from collections import deque

import numpy as np

BUCKET_NS = 1_000_000_000
KEPT_BUCKETS = 30
MAX_DRIFT = 5e-4
"""Crystals are off by 100 ppm at the worst; a steeper line is noise."""
JUMP_NS = 500_000_000
JUMP_FRAMES = 10
"""One of the clocks was set if a frame arrives this much before what its stamp foretells, or so many in a row this much after it."""


class DeviceClock:
    """Maps device time to host time by the frames that arrived with the least delay.

    Arrival = capture + transport delay, and a delay is never negative: a second's smallest difference between arrival and device time
    is the best that second knows of the offset. A line through these minima follows the drift of the two clocks.
    Stamps never go backwards, and never lie in the future of the frame's arrival.
    """

    def __init__(self) -> None:
        self._last_ns = -1
        self._device_ns = 0
        self._late = 0  # frames in a row
        self._forget()

    def stamp_ns(self, device_ms: float, arrival_ns: int) -> int:
        """Host time, ns, of a frame that the device stamped ``device_ms`` and that arrived at ``arrival_ns``."""
        device_ns = round(device_ms * 1e6)
        difference = arrival_ns - device_ns
        delay_ns = difference - self._offset_ns(device_ns) if self._minima else 0
        self._late = self._late + 1 if delay_ns > JUMP_NS else 0
        if device_ns < self._device_ns or delay_ns < -JUMP_NS or self._late == JUMP_FRAMES:
            self._forget()
        self._device_ns = device_ns
        if not self._late:
            self._learn(device_ns, difference)
        stamp = min(device_ns + self._offset_ns(device_ns), arrival_ns)
        self._last_ns = max(stamp, self._last_ns + 1)
        return self._last_ns

    def _forget(self) -> None:
        self._minima: deque[tuple[int, int]] = deque(maxlen=KEPT_BUCKETS)  # (device ns, smallest difference) a bucket
        self._bucket_began_ns = 0
        self._late = 0
        self._line = (0, 0, 0.0)  # device ns, offset ns there, slope

    def _learn(self, device_ns: int, difference: int) -> None:
        if not self._minima or device_ns - self._bucket_began_ns >= BUCKET_NS:
            self._minima.append((device_ns, difference))
            self._bucket_began_ns = device_ns
        elif difference < self._minima[-1][1]:
            self._minima[-1] = (device_ns, difference)
        else:
            return
        x0, y0 = self._minima[0]
        x = np.array([x - x0 for x, _ in self._minima], np.float64)
        y = np.array([y - y0 for _, y in self._minima], np.float64)
        slope = 0.0
        if len(x) >= 5:  # Theil and Sen: half of the minima may be late
            i, j = np.triu_indices(len(x), 1)
            slope = float(np.clip(np.median((y[j] - y[i]) / (x[j] - x[i])), -MAX_DRIFT, MAX_DRIFT))
        self._line = (x0, y0 + round(float((y - slope * x).min())), slope)

    def _offset_ns(self, device_ns: int) -> int:
        began, offset, slope = self._line
        return offset + round(slope * (device_ns - began))
