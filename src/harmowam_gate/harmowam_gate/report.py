"""The state that is published on every tick."""

from __future__ import annotations

import math

from harmowam_core.stages import ActionChunk, Expert, Phase
from harmowam_core.status import GateState, Reason, Status
from harmowam_gate.decision import Decision
from harmowam_gate.limits import Verdict


def report(
    now_ns: int,
    decision: Decision,
    *,
    refusal: Verdict,
    degraded: str,
    expert: Expert | None,
    chunks: dict[Expert, ActionChunk],
    score: float,
    score_ns: int,
    phase: Phase,
    task_id: int,
    instruction: str,
    sub_stage: str,
    trajectories: int,
) -> GateState:
    """While all goes well, the reason is that of the last refusal; else of what holds the arm.

    The text tells of both: what was refused is often why nothing fresh is there.
    """
    told = refusal if decision.reason is Reason.NONE else decision
    parts = [decision.text, degraded]
    if decision.status is not Status.IDLE and not refusal.ok and refusal.text not in decision.text:
        parts.append(f"last refused: {refusal.text}")
    newest_ns = max([chunk.stamp_ns for chunk in chunks.values()] + ([score_ns] if score_ns else []), default=0)
    imagination = max(chunks.values(), key=lambda chunk: chunk.stamp_ns, default=None)
    predictive, reactive = chunks.get(Expert.PREDICTIVE), chunks.get(Expert.REACTIVE)

    def age_s(chunk: ActionChunk | None) -> float:
        return math.nan if chunk is None else (now_ns - chunk.stamp_ns) * 1e-9

    def number(chunk: ActionChunk | None) -> int:
        return 0 if chunk is None else chunk.chunk_id

    return GateState(
        stamp_ns=newest_ns or now_ns,
        status=decision.status,
        text="; ".join(part for part in parts if part),
        task_id=task_id,
        instruction=instruction,
        score=score,
        phase=phase,
        expert=expert if decision.status in (Status.EXECUTING, Status.SLOWED) else None,
        reason=told.reason,
        measured=float(told.measured),  # a count, too: messages have real numbers
        limit=float(told.limit),
        sub_stage=sub_stage,
        observation_age_s=(now_ns - newest_ns) * 1e-9 if newest_ns else math.nan,
        imagination_age_s=age_s(imagination),
        predictive_chunk_age_s=age_s(predictive),
        reactive_chunk_age_s=age_s(reactive),
        imagination_id=number(imagination),
        predictive_chunk_id=number(predictive),
        reactive_chunk_id=number(reactive),
        trajectory_id=trajectories,
    )
