"""What one run of the graph looked like from outside, and the figures it yields. Plain Python.

Every item is kept with the time it was received, ns of the ROS clock, which is the clock of the stamps.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from harmowam_core.stages import ActionChunk, Expert, Imagination, JointState, UInt8
from harmowam_core.status import GateState, Status

T = TypeVar("T")
HELD = (Status.HOLDING, Status.LATCHED)


@dataclass(frozen=True)
class Received(Generic[T]):
    """A value and when it came; of a trajectory also when it was published, if that is known."""

    received_ns: int
    value: T
    published_ns: int | None = None


@dataclass(frozen=True)
class Picture:
    """One camera image, (H, W, 3) uint8 RGB."""

    stamp_ns: int
    image: UInt8


@dataclass
class Recording:
    """Everything of one run, in order of arrival.

    trajectories: by topic, the messages as they were (the auditor wants them unchecked); scores: /sim/score, decoded JSON;
    live_verdict: what the graph's own auditor said last; malformed: what could not be decoded, and why.
    """

    started_ns: int = 0
    ended_ns: int = 0
    pictures: dict[str, list[Received[Picture]]] = field(default_factory=dict)
    joint_states: list[Received[JointState]] = field(default_factory=list)
    imaginations: list[Received[Imagination]] = field(default_factory=list)
    chunks: dict[Expert, list[Received[ActionChunk]]] = field(default_factory=lambda: {expert: [] for expert in Expert})
    gate: list[Received[GateState]] = field(default_factory=list)
    trajectories: dict[str, list[Received[Any]]] = field(default_factory=dict)
    scores: list[Received[dict[str, Any]]] = field(default_factory=list)
    live_verdict: dict[str, Any] | None = None
    malformed: list[str] = field(default_factory=list)

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return (self.ended_ns - self.started_ns) / 1e9

    def since_start_s(self, time_ns: int) -> float:
        """A time as seconds since the start."""
        return (time_ns - self.started_ns) / 1e9


def rate_hz(items: Sequence[Received[Any]]) -> float:
    """Mean rate between the first and the last item; 0 with fewer than two."""
    if len(items) < 2:
        return 0.0
    span_s = (items[-1].received_ns - items[0].received_ns) / 1e9
    return (len(items) - 1) / span_s if span_s > 0 else 0.0


def percentiles(values: Iterable[float]) -> dict[str, float | None]:
    """{"p50", "p95", "p99"}, None without values."""
    listed = list(values)
    return {f"p{q}": round(float(np.percentile(listed, q)), 2) if listed else None for q in (50, 95, 99)}


def phases(recording: Recording) -> list[dict[str, Any]]:
    """The run cut where gate phase, expert or sub-stage change: start_s, end_s, these three, the mean gate score, and held_s.

    The sub-stage is the simulator's, or else what the arbiter believes. While the arm holds, the expert is the last one
    followed; ``held_s`` is how long that was.
    """
    cuts: list[tuple[tuple[Any, ...], list[Received[GateState]]]] = []
    expert: Expert | None = None
    for item in recording.gate:
        state = item.value
        expert = state.expert or expert
        key = (state.phase, expert, score_at(recording, item.received_ns).get("sub_stage") or state.sub_stage)
        if not cuts or cuts[-1][0] != key:
            cuts.append((key, []))
        cuts[-1][1].append(item)
    result = []
    for index, ((phase, expert, sub_stage), items) in enumerate(cuts):
        scores = [item.value.score for item in items if not math.isnan(item.value.score)]
        end_ns = cuts[index + 1][1][0].received_ns if index + 1 < len(cuts) else items[-1].received_ns
        ends_ns = [item.received_ns for item in items[1:]] + [end_ns]
        held_ns = sum(end - item.received_ns for item, end in zip(items, ends_ns, strict=True) if item.value.status in HELD)
        result.append(
            {
                "start_s": round(recording.since_start_s(items[0].received_ns), 3),
                "end_s": round(recording.since_start_s(end_ns), 3),
                "phase": phase.value,
                "expert": expert.value if expert is not None else None,
                "sub_stage": sub_stage,
                "gate_score": round(float(np.mean(scores)), 4) if scores else None,
                "held_s": round(held_ns / 1e9, 3),
            }
        )
    return result


def score_at(recording: Recording, time_ns: int) -> dict[str, Any]:
    """The simulator's newest score at a time, or its first; empty without a simulator."""
    index = bisect_right(recording.scores, time_ns, key=lambda item: item.received_ns)
    return recording.scores[max(0, index - 1)].value if recording.scores else {}


def real_time_factor(recording: Recording) -> float | None:
    """Simulated seconds a second, by the simulator's own clock; None without its scores."""
    if len(recording.scores) < 2:
        return None
    first, last = recording.scores[0], recording.scores[-1]
    return float((last.value["time_s"] - first.value["time_s"]) / ((last.received_ns - first.received_ns) / 1e9))


def rates(recording: Recording, arm_topic: str) -> dict[str, float]:
    """Messages a second by kind, Hz; ``actions_per_s`` is chunks times their horizon of the slower expert."""
    chunk_hz = {expert: rate_hz(items) for expert, items in recording.chunks.items()}
    slower = min(chunk_hz, key=lambda expert: chunk_hz[expert])
    horizon = recording.chunks[slower][0].value.horizon if recording.chunks[slower] else 0
    return {
        "actions_per_s": round(chunk_hz[slower] * horizon, 2),
        "imagination_hz": round(rate_hz(recording.imaginations), 2),
        **{f"{expert.value}_chunk_hz": round(hz, 2) for expert, hz in chunk_hz.items()},
        "trajectory_hz": round(rate_hz(recording.trajectories.get(arm_topic, [])), 2),
        "gate_hz": round(rate_hz(recording.gate), 2),
        "joint_state_hz": round(rate_hz(recording.joint_states), 2),
        **{f"{camera}_hz": round(rate_hz(items), 2) for camera, items in sorted(recording.pictures.items())},
    }


def slower_expert(recording: Recording) -> Expert:
    """The expert with fewer chunks a second."""
    return min(recording.chunks, key=lambda expert: rate_hz(recording.chunks[expert]))


def latencies_ms(recording: Recording, arm_topic: str) -> dict[str, list[float]]:
    """Milliseconds from an observation's stamp to what was made of it: "imagination", "<expert>_chunk", "trajectory".

    "trajectory" ends at the first trajectory out after the arbiter first had a chunk of the observation by the expert it follows.
    """
    found: dict[str, list[float]] = {
        "imagination": [(item.received_ns - item.value.stamp_ns) / 1e6 for item in recording.imaginations],
        **{
            f"{expert.value}_chunk": [(item.received_ns - item.value.stamp_ns) / 1e6 for item in items]
            for expert, items in recording.chunks.items()
        },
        "trajectory": [],
    }
    stamps = {(expert, item.value.chunk_id): item.value.stamp_ns for expert, items in recording.chunks.items() for item in items}
    published_ns = [item.received_ns for item in recording.trajectories.get(arm_topic, [])]
    seen: set[tuple[Expert, int]] = set()
    for item in recording.gate:
        state = item.value
        if state.expert is None or state.status not in (Status.EXECUTING, Status.SLOWED):
            continue
        chunk_id = state.predictive_chunk_id if state.expert == Expert.PREDICTIVE else state.reactive_chunk_id
        key = (state.expert, chunk_id)
        if key in seen or key not in stamps:
            continue
        seen.add(key)
        # The tick's trajectory and its gate state are published together and may arrive in either order.
        index = int(np.searchsorted(published_ns, item.received_ns - 5_000_000))
        if index < len(published_ns):
            found["trajectory"].append((published_ns[index] - stamps[key]) / 1e6)
    return found
