"""Rows 19, 21: the machine and its operator."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python

from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import TICK_S, Reaction, Scenario
from harmowam_core.status import Reason

LOOPS, LOOPS_S = 16, 1.5
"""Busy loops that share the arbiter's one processor, and when they end by themselves."""


class CpuStarved(Scenario):
    row, name, fault = 19, "cpu_starved", "the arbiter shares one processor with busy loops; timed from its first missed tick"
    expected = "slowed, then held: DEADLINE_MISSED"
    bound_s = 0.1

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._pid = graph.pid("arbiter")
        self._before = os.sched_getaffinity(self._pid)
        processor = max(self._before)
        at_ns = time.monotonic_ns()
        _pin(self._pid, {processor})
        loop = ["timeout", str(LOOPS_S), "taskset", "-c", str(processor), "sh", "-c", "while :; do :; done"]
        self._loops = [subprocess.Popen(loop) for _ in range(LOOPS)]
        return at_ns

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        times_ns = [state.at_ns for state in graph.observer.states(injected_ns - 100_000_000)]
        late = (before for before, after in zip(times_ns, times_ns[1:], strict=False) if after - before > 1.5 * TICK_S * 1e9)
        return next(late, injected_ns) + round(TICK_S * 1e9)

    def is_reaction(self, state: StateSeen) -> bool:
        return state.reason is Reason.DEADLINE_MISSED

    def heal(self, graph: FaultGraph) -> None:
        for loop in self._loops:
            loop.terminate()
        for loop in self._loops:
            loop.wait()
        _pin(self._pid, self._before)


def _pin(pid: int, processors: set[int]) -> None:
    """All threads of a process of ours."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), processors)


class InvalidParameter(Scenario):
    row, name, fault = 21, "invalid_parameter", "an operator sets a parameter of the active arbiter to nonsense, or one that is read-only"
    expected = "refused with a reason, the old value stays, the arm goes on"
    bound_s = 0.1
    variants = ("tcp_speed_m_s", "rate", "chunk_max_age_s", "selector")
    values = {"tcp_speed_m_s": 9.0, "rate": -1.0, "chunk_max_age_s": float("nan"), "selector": "whoever"}

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._name = variant
        self._old = _value(graph, variant)
        return time.monotonic_ns()

    def is_reaction(self, state: StateSeen) -> bool:
        return False

    def react(self, graph: FaultGraph, injected_ns: int) -> Reaction | None:
        done, why = graph.set_parameter("arbiter", self._name, self.values[self._name])
        return None if done or not why else Reaction(time.monotonic_ns(), f"refused: {why}")

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        value = _value(graph, self._name)
        complaints = [] if value == self._old else [f"{self._name} was {self._old} and is now {value}"]
        return complaints + [f"the arm was stopped: {state.text}" for state in graph.observer.states(injected_ns) if not state.moving][:1]


def _value(graph: FaultGraph, name: str) -> Any:
    [value] = graph.call(GetParameters, "/arbiter/get_parameters", GetParameters.Request(names=[name])).values
    return parameter_value_to_python(value)
