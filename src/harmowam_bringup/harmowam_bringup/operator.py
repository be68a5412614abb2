"""What an operator asks of a running graph: do this task; hold; go on; go home; how are you."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from harmowam_msgs.msg import GateState as GateStateMsg
from rich.console import Console
from rich.table import Table
from rich.text import Text
from std_srvs.srv import Trigger

from harmowam_bringup.session import ANSWER_S, GraphClient, TaskResult
from harmowam_core import topics
from harmowam_core.messages import PHASE_CODES, gate_state_from_message
from harmowam_core.qos import LATEST
from harmowam_core.stages import Expert, Phase
from harmowam_core.status import GateState, Outcome

HOME = "home"

_LEVEL_COLOURS = {"OK": "green", "WARN": "yellow", "ERROR": "red"}


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


def listen(seconds: float) -> dict[str, Any]:
    """{"nodes": {name: {"state", "level", "message", "values"}}, "gate": {...} or None} as heard within ``seconds``."""
    states: list[GateState] = []
    with GraphClient() as graph:
        graph.node.create_subscription(
            GateStateMsg, topics.GATE_STATE, lambda message: states.append(gate_state_from_message(message)), LATEST
        )
        graph.spin_for(seconds)
        nodes = {
            name: {"state": node.state, "level": node.level.name, "message": node.message, "values": node.values}
            for name, node in sorted(graph.nodes.items())
        }
    return {"nodes": nodes, "gate": _gate(states[-1]) if states else None}


def _gate(state: GateState) -> dict[str, Any]:
    return {
        "status": state.status.name,
        "reason": state.reason.name,
        "text": state.text,
        "instruction": state.instruction,
        "phase": state.phase.value,
        "expert": state.expert.value if state.expert is not None else None,
        "score": None if math.isnan(state.score) else state.score,
        "sub_stage": state.sub_stage,
    }


def print_status(heard: dict[str, Any], console: Console) -> None:
    """As tables."""
    if not heard["nodes"]:
        console.print("no node of the graph was heard; is one running in this ROS domain? (harmowam up sim.launch.yaml)")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("node", "state", "level", "says", "rates and latencies"):
        table.add_column(title, overflow="fold")
    for name, node in heard["nodes"].items():
        figures = ", ".join(f"{key} {value}" for key, value in node["values"].items() if "rate" in key or "p95" in key)
        table.add_row(name, node["state"], Text(node["level"], _LEVEL_COLOURS[node["level"]]), Text(node["message"]), figures)
    console.print(table)
    gate = heard["gate"]
    if gate is not None:
        score = "–" if gate["score"] is None else f"{gate['score']:.2f}"
        says = f"gate: {gate['status'].lower()} ({gate['text']}), {gate['phase']}, expert {gate['expert'] or 'none'}, score {score}"
        console.print(Text(says))
