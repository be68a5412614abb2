"""Rows 1-7, 20: what models and experts can do wrong."""

from __future__ import annotations

import signal
import time
from typing import ClassVar

from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.misbehaviour import OLD_S
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import NEXT_TICK_S, Reaction, Scenario
from harmowam_core.health import Level
from harmowam_core.status import Reason, Status
from harmowam_gate.settings import ArbiterSettings

EXPERTS = {1: "predictive_expert", 2: "reactive_expert"}
REJOIN_S = 15.0
"""A killed node is started again, imports, configures and is followed again."""
MODELS_MAX_AGE_S = ArbiterSettings().chunk_max_age_s


def followed(graph: FaultGraph) -> str:
    """Node of the expert that the arm follows now."""
    states = graph.observer.states(time.monotonic_ns() - 500_000_000)
    return EXPERTS[states[-1].expert]


class _ExpertGone(Scenario):
    """The other expert takes over, or the arm holds; when the expert is back, all goes on without an operator."""

    expected = "the other expert, else HOLDING"
    bound_s = 0.1
    _victim: str
    number: ClassVar[signal.Signals]

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._victim = followed(graph)
        return graph.signal(self._victim, self.number)

    def is_reaction(self, state: StateSeen) -> bool:
        taken_over = state.moving and EXPERTS.get(state.expert) not in (None, self._victim)
        return taken_over or state.status is Status.HOLDING

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        graph.heal()

        def rejoined(state: StateSeen) -> bool:
            age_s = state.predictive_age_s if self._victim == "predictive_expert" else state.reactive_age_s
            return state.moving and age_s < 0.5 and state.at_ns > injected_ns + 700_000_000

        back = graph.first_state(injected_ns, rejoined, REJOIN_S)
        complaints = [] if back is not None else [f"{self._victim} has not rejoined within {REJOIN_S:.0f} s"]
        latched = [state.text for state in graph.observer.states(injected_ns) if state.status is Status.LATCHED]
        return complaints + [f"it latched: {text}" for text in latched[:1]]


class ExpertKilled(_ExpertGone):
    row, name, fault = 1, "expert_killed", "the expert that is followed is killed"
    number = signal.SIGKILL


class ExpertFrozen(_ExpertGone):
    row, name, fault = 2, "expert_frozen", "the expert that is followed is stopped for a while"
    number = signal.SIGSTOP


class WorldModelLost(Scenario):
    row, name, fault = 3, "world_model_lost", "the world model is silent, raises, is slow, or is killed"
    expected = "HOLDING once the last chunk is past its age"
    bound_s = MODELS_MAX_AGE_S + 0.04
    variants = ("silent", "raising", "slow", "killed")
    stops = True

    def inject(self, graph: FaultGraph, variant: str) -> int:
        if variant == "killed":
            return graph.signal("world_model", signal.SIGKILL)
        return graph.misbehave("world_model", variant)

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.HOLDING and state.reason is Reason.CHUNK_STALE

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        """When the observation of the last chunk was made."""
        return last_chunk_ns(graph, reaction.at_ns)


def last_chunk_ns(graph: FaultGraph, before_ns: int) -> int:
    """When the observation of the youngest chunk that came before a moment was made."""
    chunks = graph.observer.chunks(before_ns - 5_000_000_000)
    return max(chunk.sent_ns for chunk in chunks if chunk.at_ns < before_ns)


class _BadChunk(Scenario):
    """The followed expert sends wrong chunks: they are refused, and the arm goes on with what it has."""

    bound_s = NEXT_TICK_S
    reasons: ClassVar[frozenset[Reason]]
    messages: ClassVar[int] = 1

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._node = followed(graph)
        at_ns = graph.misbehave(self._node, variant, self.messages)
        while not (sent := graph.observer.injected(at_ns)) or sent[-1].count < self.messages - 1:
            graph.rest(0.02)
            if time.monotonic_ns() - at_ns > (OLD_S + 2) * 1e9:
                raise RuntimeError(f"{self._node} has sent no '{variant}'")
        return sent[-1].at_ns

    def is_reaction(self, state: StateSeen) -> bool:
        return state.reason in self.reasons

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        graph.rest(0.1)
        stopped = [state for state in graph.observer.states(injected_ns) if not state.moving]
        return [f"the arm was stopped by one bad chunk: {state.text}" for state in stopped[:1]]


class NotFinite(_BadChunk):
    row, name, fault = 4, "not_finite", "one chunk with a NaN or an infinity in some field"
    expected = "refused as NOT_FINITE"
    variants = ("nan", "inf", "nan_turn", "nan_gripper", "nan_period")
    reasons = frozenset({Reason.NOT_FINITE})


class NotFiniteThrice(_BadChunk):
    row, name, fault = 4, "not_finite_thrice", "three chunks in a row with NaN; timed from the third"
    expected = "LATCHED, NOT_FINITE"
    variants = ("nan",)
    messages = 3
    stops = True

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and state.reason is Reason.NOT_FINITE

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        return []


class Garbage(_BadChunk):
    row, name, fault = 5, "garbage", "a chunk of finite nonsense: a jump on the way, or far from the tool"
    expected = "refused: JUMP, WORKSPACE or a limit"
    variants = ("jump", "far")
    reasons = frozenset({Reason.JUMP, Reason.WORKSPACE, Reason.UNREACHABLE, Reason.POSITION_LIMIT, Reason.VELOCITY_LIMIT, Reason.TCP_SPEED})


class Malformed(_BadChunk):
    row, name, fault = 6, "malformed", "a chunk with wrong names, order, sizes or times"
    expected = "refused as MALFORMED"
    variants = ("other_order", "other_names", "cut_short", "no_grippers", "backwards", "from_the_future")
    reasons = frozenset({Reason.MALFORMED})


class OldChunk(_BadChunk):
    row, name, fault = 7, "old_chunk", f"a chunk of {OLD_S:.0f} s ago again, as it was or under a fresh stamp; or two in the wrong order"
    expected = "refused as OUT_OF_ORDER"
    variants = ("replayed", "restamped", "reordered")
    reasons = frozenset({Reason.OUT_OF_ORDER})


class ModelRaises(Scenario):
    """The stack goes on with the other expert; the node says what is wrong, and is not dead."""

    row, name, fault = 20, "model_raises", "the followed expert's model raises at every chunk"
    expected = "the other expert, without a stop"
    bound_s = 0.1

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._victim = followed(graph)
        at_ns = graph.misbehave(self._victim, "raising")
        while not (sent := graph.observer.injected(at_ns)):
            graph.rest(0.02)
        return sent[0].at_ns

    def is_reaction(self, state: StateSeen) -> bool:
        return state.moving and EXPERTS.get(state.expert) not in (None, self._victim)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        graph.spin_for(1.1)
        node = graph.nodes[f"/{self._victim}"]
        complaints = [] if node.level is Level.ERROR and "memory" in node.message else [f"{self._victim} says '{node.message}'"]
        stopped = [state.text for state in graph.observer.states(injected_ns) if state.safe]
        return complaints + [f"the arm was stopped: {text}" for text in stopped[:1]]
