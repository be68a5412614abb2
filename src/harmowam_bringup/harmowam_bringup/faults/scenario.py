"""One fault: how it is injected, which reaction is right, how fast it has to come. Tests, the benchmark and the soak run the same ones."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import psutil

from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.observer import StateSeen
from harmowam_core.status import Reason, Status

TICK_S = 0.02
"""Of the arbiter at its default 50 Hz."""
NEXT_TICK_S = TICK_S + 0.01
"""Bound of what is refused when it comes: it may come just after a tick, and the next one may work for 10 ms."""
PATIENCE_S = 3.0
"""How long a reaction is waited for; a late one is told from none."""
REST_S = 1.0
"""After the safe output, the arm itself is at rest so soon."""
VERDICT_S = 0.3
"""The auditor speaks at 4 Hz."""
STOLEN_S = 0.02
"""So much processor time, taken by a virtual machine's host, can make an answer late; the kernel counts in steps of 0.01 s."""


@dataclass(frozen=True)
class Reaction:
    """What came of a fault. at_ns: steady clock, when it was observed."""

    at_ns: int
    text: str
    status: Status | None = None
    reason: Reason | None = None


@dataclass(frozen=True)
class Measured:
    """One fault that was injected: how long until the reaction (None: there was none), and what else was wrong (nothing: all well).

    stolen_s: processor time that the machine's host took meanwhile, of all processors together.
    """

    row: int
    name: str
    variant: str
    bound_s: float
    reaction_s: float | None
    reaction: str
    complaints: tuple[str, ...]
    stolen_s: float = 0.0

    @property
    def late(self) -> bool:
        """Whether the right reaction came after its bound."""
        return self.reaction_s is not None and not self.reaction_s <= self.bound_s

    @property
    def says(self) -> str:
        """What is wrong, in words; empty if nothing is."""
        late = [f"reacted after {self.reaction_s * 1e3:.1f} ms, bound {self.bound_s * 1e3:.0f} ms"] if self.reaction_s and self.late else []
        stolen = [f"the host took {self.stolen_s * 1e3:.0f} ms of processor time"] if self.stolen_s >= STOLEN_S else []
        return "; ".join([*late, *self.complaints, *(stolen if late or self.complaints else [])])


class Scenario(ABC):
    """One row of the catalogue, or a part of it. The graph is at work when ``inject`` is called."""

    row: ClassVar[int]
    name: ClassVar[str]
    fault: ClassVar[str]
    """What happens, in words."""
    expected: ClassVar[str]
    """What must come of it, in words."""
    bound_s: float
    variants: tuple[str, ...] = ("",)
    """Ways to inject it; repetitions take turns."""
    stops: ClassVar[bool] = False
    """Whether the arm itself must come to rest."""
    patience_s: ClassVar[float] = PATIENCE_S
    fake_clock: ClassVar[bool] = False
    """Whether it needs a graph whose clock can be set."""
    in_soak: ClassVar[bool] = True
    """Whether it leaves the graph as it was, and quickly."""
    allowed_rules: frozenset[str] = frozenset()
    """What the auditor is to find, because it was injected."""

    @abstractmethod
    def inject(self, graph: FaultGraph, variant: str) -> int:
        """Break something; returns the steady time, ns, just before."""

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        """From when the reaction's time counts, where that is not the injection."""
        return injected_ns

    @abstractmethod
    def is_reaction(self, state: StateSeen) -> bool:
        """Whether a gate state is the right reaction."""

    def react(self, graph: FaultGraph, injected_ns: int) -> Reaction | None:
        """Wait for the reaction."""
        state = graph.first_state(injected_ns, self.is_reaction, self.patience_s)
        if state is None:
            return None
        return Reaction(state.at_ns, f"{state.status.name} {state.reason.name}: {state.text}", state.status, state.reason)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        """What else is wrong, once there was a reaction; the fault still lasts."""
        return []

    def heal(self, graph: FaultGraph) -> None:  # noqa: B027, most have nothing to add
        """End the fault, where ``FaultGraph.heal`` does not know how."""

    def run(self, graph: FaultGraph, repetition: int = 0) -> Measured:
        """Bring the graph to work, break it, watch, heal."""
        variant = self.variants[repetition % len(self.variants)]
        graph.ready()
        before, stolen_before_s = Counter(graph.violations()), stolen_s()
        complaints: list[str] = []
        reaction_s, text = None, ""
        try:
            injected_ns = self.inject(graph, variant)
            reaction = self.react(graph, injected_ns)
            if reaction is None:
                complaints.append(f"no reaction; expected {self.expected}; came {_passed(graph, injected_ns)}")
            else:
                reaction_s = (reaction.at_ns - self.began_ns(graph, injected_ns, reaction)) * 1e-9
                text = reaction.text
                if self.stops:
                    complaints += _keeps_moving(graph, reaction.at_ns)
                complaints += self.afterwards(graph, injected_ns, reaction)
        except Exception as error:  # whatever trips here must not cost the results of the others
            complaints.append(f"{type(error).__name__}: {error}")
        finally:
            self.heal(graph)
            graph.heal()
        graph.rest(VERDICT_S)
        complaints += [
            f"the auditor found {count} times {rule}"
            for rule, count in (Counter(graph.violations()) - before).items()
            if rule not in self.allowed_rules
        ]
        return Measured(self.row, self.name, variant, self.bound_s, reaction_s, text, tuple(complaints), stolen_s() - stolen_before_s)


def stolen_s() -> float:
    """Processor time, s, that the host has taken from this virtual machine since its start; 0 where the kernel tells none."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def _passed(graph: FaultGraph, since_ns: int) -> str:
    """The states that came, told apart by what they say."""
    said: dict[tuple[str, str], str] = {}
    for state in graph.observer.states(since_ns):
        said.setdefault((state.status.name, state.reason.name), state.text)
    return "; ".join(f"{status} {reason} ({text})" for (status, reason), text in said.items()) or "no state at all"


def _keeps_moving(graph: FaultGraph, since_ns: int) -> list[str]:
    end_s = time.monotonic() + REST_S
    while True:
        late = time.monotonic() > end_s
        rests_ns = graph.rests_since_ns(since_ns)
        if rests_ns is not None and time.monotonic_ns() - rests_ns > 100_000_000:
            return []
        if late:
            return [f"the arm still moves {REST_S:g} s after the reaction"]
        graph.rest(0.05)
