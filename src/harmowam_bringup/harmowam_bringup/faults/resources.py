"""Memory and threads of a graph's processes over time, and whether they stay flat."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

WARM_UP_S = 60.0
"""A process may grow for so long after its start: caches fill, others are discovered."""
DRIFT = 0.02
FEWEST = 8
"""Samples that a trend is seen in."""


@dataclass(frozen=True)
class Sample:
    """time_s: since the beginning; age_s: of the process, which may have been started again; memory: resident, MB."""

    time_s: float
    age_s: float
    memory_mb: float
    threads: int


class Resources:
    """``sample`` now and then; processes are told apart by name, and may change their pid."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self.samples: dict[str, list[Sample]] = {}

    def sample(self, pids: Mapping[str, int]) -> None:
        """Note every process as it is now; one that has just died is left out."""
        now_s = time.monotonic() - self._began_s
        for name, pid in pids.items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                age_s = time.time() - process.create_time()
                sample = Sample(now_s, age_s, process.memory_info().rss / 2**20, process.num_threads())
                self.samples.setdefault(name, []).append(sample)

    def verdict(self) -> dict[str, dict[str, Any]]:
        """By process: {"memory_mb": [early, late], "memory_drift", "threads": [early, late], "samples", "flat"}; flat None: too short."""
        return {name: _trend(samples) for name, samples in sorted(self.samples.items())}


def _trend(samples: Sequence[Sample]) -> dict[str, Any]:
    """The first against the last quarter of what was seen of warm processes, by the median."""
    warm = [sample for sample in samples if sample.age_s >= WARM_UP_S]
    if len(warm) < FEWEST:
        return {"memory_mb": None, "memory_drift": None, "threads": None, "samples": len(warm), "flat": None}
    quarter = len(warm) // 4
    early, late = warm[:quarter], warm[-quarter:]
    memory = [float(np.median([sample.memory_mb for sample in part])) for part in (early, late)]
    threads = [float(np.median([sample.threads for sample in part])) for part in (early, late)]
    drift = memory[1] / memory[0] - 1
    return {
        "memory_mb": [round(value, 1) for value in memory],
        "memory_drift": round(drift, 4),
        "threads": threads,
        "samples": len(warm),
        "flat": bool(drift < DRIFT and threads[1] <= threads[0] * (1 + DRIFT)),
    }
