"""Rows 18, 19, 21, 23: the machine and its operator."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python

from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import TICK_S, Reaction, Scenario
from harmowam_bringup.session import isolated_environment
from harmowam_core.status import Reason, Status
from harmowam_gate.deadlines import WINDOW_NS
from harmowam_gate.settings import ArbiterSettings

STARVED_S = 1.5
HOG = """
import sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    pause = time.monotonic() + 0.04
    while time.monotonic() < pause:
        pass
    time.sleep(float(sys.argv[2]))
"""
"""A busy loop that ends by itself, and how long it rests after every 40 ms."""


class CpuStarved(Scenario):
    row, name = 19, "cpu_starved"
    fault = "busy loops take most of the arbiter's one processor; timed from the tick that was one too many to be missed"
    expected = "SLOWED, or HOLDING where one tick alone took too long; DEADLINE_MISSED"
    bound_s = 0.1

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._pid = graph.pid("arbiter")
        self._before = os.sched_getaffinity(self._pid)
        processor = max(self._before)
        # One that goes before an arbiter with real-time priority, else three that share the processor with it.
        before, count, rest_s = [], 3, 0.0
        if os.sched_getscheduler(self._pid) == os.SCHED_FIFO:
            before, count, rest_s = ["chrt", "-f", str(os.sched_getparam(self._pid).sched_priority + 1)], 1, 0.02
        at_ns = time.monotonic_ns()
        _pin(self._pid, {processor})
        hog = ["taskset", "-c", str(processor), *before, sys.executable, "-S", "-c", HOG, str(STARVED_S), str(rest_s)]
        # Linux shares a processor between sessions, and nodes have one each.
        self._hogs = [subprocess.Popen(hog, start_new_session=True) for _ in range(count)]
        return at_ns

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        """When the tick was due that was one too many to be missed."""
        times_ns = [state.at_ns for state in graph.observer.states(injected_ns - 100_000_000)]
        tick_ns = round(TICK_S * 1e9)
        missed_ns = [
            before + tick_ns * number
            for before, after in zip(times_ns, times_ns[1:], strict=False)
            if after > injected_ns
            for number in range(1, round((after - before) / tick_ns))
        ]
        pairs = zip(missed_ns, missed_ns[ArbiterSettings().deadline_slow_misses :], strict=False)
        return next((last for first, last in pairs if last - first < WINDOW_NS), injected_ns)

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status in (Status.SLOWED, Status.HOLDING) and state.reason is Reason.DEADLINE_MISSED

    def heal(self, graph: FaultGraph) -> None:
        for hog in self._hogs:
            hog.terminate()
        for hog in self._hogs:
            hog.wait()
        _pin(self._pid, self._before)


class _Unaffected(Scenario):
    """Control goes on as if nothing were; the time is the longest between two of the arbiter's states."""

    expected = "no change in motion; the figure is the longest time between two gate states"
    bound_s = 0.1
    lasts_s: ClassVar[float]

    def is_reaction(self, state: StateSeen) -> bool:
        return False

    def react(self, graph: FaultGraph, injected_ns: int) -> Reaction | None:
        """Wait until it is over."""
        while time.monotonic_ns() - injected_ns < self.lasts_s * 1e9 and not self.is_over():
            graph.rest(0.05)
        times_ns = [state.at_ns for state in graph.observer.states(injected_ns - 100_000_000)]
        gaps_ns = [after - before for before, after in zip(times_ns, times_ns[1:], strict=False)]
        return Reaction(injected_ns + max(gaps_ns), f"{len(times_ns)} states") if gaps_ns else None

    def is_over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return False

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        other = [f"{state.status.name}: {state.text}" for state in graph.observer.states(injected_ns) if not state.moving]
        if graph.rests_since_ns(injected_ns) is not None:
            other.append("the arm rests")
        return other[:1]


class ClockJumps(_Unaffected):
    row, name, fault = 18, "clock_jumps", "the wall clock of all processes jumps forth by an hour, and after 4 s back"
    lasts_s = 2.0
    fake_clock = True
    in_soak = False

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.set_clock(3600)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        back_ns = graph.set_clock(0)
        graph.rest(2.0)
        return super().afterwards(graph, injected_ns, reaction) or super().afterwards(graph, back_ns, reaction)


class DiskFull(_Unaffected):
    row, name, fault = 23, "disk_full", "the recorder's disk is full"
    lasts_s = 60.0
    in_soak = False

    def inject(self, graph: FaultGraph, variant: str) -> int:
        """A disk of its own, which is gone with it."""
        folder = tempfile.mkdtemp(prefix="harmowam_full_")
        script = 'mount -t tmpfs -o size=3m tmpfs "$1" && exec "$0" record --out "$1/bag"'
        command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, shutil.which("harmowam") or "harmowam", folder]
        environment = isolated_environment(graph.domain_id or 0)
        at_ns = time.monotonic_ns()
        self._recorder = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._folder = folder
        return at_ns

    def is_over(self) -> bool:
        return self._recorder.poll() is not None

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        if not self.is_over():
            return ["the recorder has not noticed"]
        said = self._recorder.stdout.read() if self._recorder.stdout is not None else ""
        complaints = [] if "disk is full" in said and self._recorder.returncode else [f"the recorder said: {said[-300:]}"]
        return complaints + super().afterwards(graph, injected_ns, reaction)

    def heal(self, graph: FaultGraph) -> None:
        if not self.is_over():
            self._recorder.send_signal(signal.SIGINT)
            self._recorder.wait(10.0)
        shutil.rmtree(self._folder, ignore_errors=True)


def _pin(pid: int, processors: set[int]) -> None:
    """All threads of a process of ours."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), processors)


class InvalidParameter(Scenario):
    row, name, fault = 21, "invalid_parameter", "an operator sets a parameter of the active arbiter to nonsense, or one that is read-only"
    expected = "refused with a reason, the old value stays, the arm goes on"
    bound_s = 0.1
    variants = ("tracking_rad", "rate", "chunk_max_age_s", "selector")
    values: ClassVar = {"tracking_rad": 9.0, "rate": -1.0, "chunk_max_age_s": float("nan"), "selector": "whoever"}

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
