"""What an operator asks of a running graph: do this task."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from harmowam_bringup.session import ANSWER_S, GraphClient
from harmowam_core.messages import PHASE_CODES
from harmowam_core.stages import Expert, Phase


def execute(instruction: str, time_limit_s: float, console: Console) -> dict[str, Any]:
    """Give the task, print its feedback; {"instruction", "outcome", "why", "duration_s"}."""
    last: list[str] = [""]

    def on_feedback(feedback: Any) -> None:
        phase = next((phase.value for phase, code in PHASE_CODES.items() if code == feedback.phase), Phase.TRANSIT.value)
        expert = {1: Expert.PREDICTIVE.value, 2: Expert.REACTIVE.value}.get(feedback.expert, "–")
        text = f"{phase:<12} {expert:<11} {feedback.sub_stage} {feedback.text}".rstrip()
        if text != last[0]:
            last[0] = text
            console.print(Text(f"  gate {feedback.score:.2f}  {text}"))

    with GraphClient() as graph:
        graph.wait_for_arbiter(ANSWER_S)
        result = graph.execute(instruction, time_limit_s, on_feedback)
    console.print(Text(f"{result.outcome.name.lower()}: {result.why}"))
    return {"instruction": instruction, "outcome": result.outcome.name, "why": result.why, "duration_s": result.duration_s}
