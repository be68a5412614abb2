"""Row 24: two faults at once."""

from __future__ import annotations

from itertools import combinations

from harmowam_bringup.faults.arm import ArmStuck, SecondPublisher
from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.models import ExpertFrozen, WorldModelLost
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import Reaction, Scenario
from harmowam_bringup.faults.senses import CameraOff, JointStatesLost
from harmowam_core.status import Status

LATCHING: tuple[type[Scenario], ...] = (ArmStuck, JointStatesLost, SecondPublisher)
"""In the order in which they are injected: a joint is chosen by what is measured of it."""
PASSING: tuple[type[Scenario], ...] = (CameraOff, WorldModelLost, ExpertFrozen)


class TwoAtOnce(Scenario):
    """The most severe wins, within the smaller of both bounds. At least one of the two latches: without that, nothing is to be won."""

    row, name, fault = 24, "two_at_once", "two faults at the same moment, one of which latches"
    expected = "LATCHED for the most severe"
    bound_s = 0.0  # of each pair its own

    def __init__(self) -> None:
        self._pairs = {f"{a.name}+{b.name}": (a, b) for a, b in combinations((*LATCHING, *PASSING), 2) if a in LATCHING}
        self.variants = tuple(self._pairs)

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._two = [kind() for kind in self._pairs[variant]]
        self.bound_s = min(one.bound_s for one in self._two)
        self.allowed_rules = frozenset[str]().union(*(one.allowed_rules for one in self._two))
        self._injected_ns = {one: one.inject(graph, one.variants[0]) for one in self._two}
        return min(self._injected_ns.values())

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and any(one.is_reaction(state) for one in self._two)

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        """Of the one whose reaction it is."""
        reasons = [one for one in self._two if one.name in ("joint_states_lost",)]
        return (reasons or self._two)[0].began_ns(graph, injected_ns, reaction)

    def heal(self, graph: FaultGraph) -> None:
        for one in self._two:
            one.heal(graph)
