"""What a node says about itself on /diagnostics: rates, ages, latency percentiles, faults. Plain Python."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from threading import Lock

import numpy as np


class Level(IntEnum):
    """Severity; values as in diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


@dataclass(frozen=True)
class Summary:
    """One node's state: the worst fault's level, all faults' texts, and figures by name."""

    level: Level
    message: str
    values: dict[str, str]


class Health:
    """Collects events, durations and faults of one node, from any thread; ``clock`` returns steady seconds."""

    def __init__(self, window_s: float = 10.0, samples: int = 500, clock: Callable[[], float] = time.monotonic) -> None:
        if not (window_s > 0 and samples > 0):
            raise ValueError(f"window_s is {window_s} and samples {samples}, expected both > 0")
        self._window_s = window_s
        self._samples = samples
        self._clock = clock
        self._started = clock()
        self._events: dict[str, deque[float]] = {}
        self._last: dict[str, float] = {}
        self._latencies_s: dict[str, deque[float]] = {}
        self._faults: dict[str, tuple[Level, str]] = {}
        self._figures: dict[str, str] = {}
        self._lock = Lock()

    def event(self, name: str) -> None:
        """Count one ``name`` (an image received, a chunk published): gives its rate and age."""
        with self._lock:
            now = self._clock()
            self._events.setdefault(name, deque(maxlen=self._samples)).append(now)
            self._last[name] = now

    def latency(self, name: str, seconds: float) -> None:
        """Note how long ``name`` took, s: gives its percentiles over the last samples."""
        with self._lock:
            self._latencies_s.setdefault(name, deque(maxlen=self._samples)).append(seconds)

    def figure(self, name: str, value: str) -> None:
        """A number worth showing, in words; the last one counts."""
        with self._lock:
            self._figures[name] = value

    def fault(self, name: str, text: str, level: Level = Level.ERROR) -> None:
        """Something is wrong until ``clear(name)``; a later text of the same name replaces it."""
        with self._lock:
            self._faults[name] = (level, text)

    def clear(self, name: str) -> None:
        """The fault ``name``, if any, is over."""
        with self._lock:
            self._faults.pop(name, None)

    def rate_hz(self, name: str) -> float:
        """Events of ``name`` a second over the window; 0 when there were none."""
        with self._lock:
            return self._rate_hz(name, self._clock())

    def summary(self) -> Summary:
        """The state now."""
        with self._lock:
            now = self._clock()
            values = dict(self._figures)
            for name in self._events:
                values[f"{name} rate (Hz)"] = f"{self._rate_hz(name, now):.2f}"
                values[f"{name} age (s)"] = f"{now - self._last[name]:.3f}"
            for name, seconds in self._latencies_s.items():
                for percentile, value in zip((50, 95, 99), np.percentile(list(seconds), (50, 95, 99)), strict=True):
                    values[f"{name} p{percentile} (ms)"] = f"{value * 1e3:.1f}"
            level = max((level for level, _ in self._faults.values()), default=Level.OK)
            message = "; ".join(f"{name}: {text}" for name, (_, text) in self._faults.items()) or "ok"
            return Summary(level, message, values)

    def _rate_hz(self, name: str, now: float) -> float:
        events = self._events.get(name)
        if not events:
            return 0.0
        recent = [stamp for stamp in events if now - stamp <= self._window_s]
        span_s = min(self._window_s, now - self._started)
        if len(events) == self._samples and len(recent) == self._samples:  # faster than the buffer covers the window
            span_s = now - recent[0]
        return len(recent) / span_s if span_s > 0 else 0.0
