"""What an operator asks of a running graph: do this task; hold; go on; go home."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.text import Text
from std_srvs.srv import Trigger

from harmowam_bringup.session import ANSWER_S, GraphClient, TaskResult
from harmowam_core.messages import PHASE_CODES
from harmowam_core.stages import Expert, Phase
from harmowam_core.status import Outcome

HOME = "home"


def execute(instruction: str, time_limit_s: float, console: Console, from_home: bool = False) -> dict[str, Any]:
    """Give the task, print its feedback; {"instruction", "outcome", "why", "duration_s"}. ``from_home``: go home first."""
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
        if from_home and (moved := _move(graph, HOME, console)).outcome is not Outcome.SUCCEEDED:
            result = replace(moved, why=f"on the way home: {moved.why}")
        else:
            result = graph.execute(instruction, time_limit_s, on_feedback)
    console.print(Text(f"{result.outcome.name.lower()}: {result.why}"))
    return {"instruction": instruction, "outcome": result.outcome.name, "why": result.why, "duration_s": result.duration_s}


def go_home(console: Console) -> dict[str, Any]:
    """Bring the arms home by a planned way; {"target", "outcome", "why", "duration_s"}."""
    with GraphClient() as graph:
        result = _move(graph, HOME, console)
    console.print(Text(f"{result.outcome.name.lower()}: {result.why}"))
    return {"target": HOME, "outcome": result.outcome.name, "why": result.why, "duration_s": result.duration_s}


def _move(graph: GraphClient, target: str, console: Console) -> TaskResult:
    stages: list[str] = [""]

    def on_feedback(feedback: Any) -> None:
        if feedback.stage != stages[-1]:
            stages.append(feedback.stage)
            console.print(Text(f"  {feedback.stage} ({target})"))

    return graph.move_to(target, on_feedback)


def ask(service: str) -> dict[str, Any]:
    """Call hold or reset; {"success", "message"}."""
    with GraphClient() as graph:
        answer = graph.call(Trigger, service, Trigger.Request())
    return {"success": bool(answer.success), "message": str(answer.message)}
