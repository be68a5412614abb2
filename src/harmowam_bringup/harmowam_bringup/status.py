"""``harmowam status``: what every node says of itself, and the gate, once or as it goes on."""

from __future__ import annotations

import math
import re
from typing import Any

from harmowam_msgs.msg import GateState as GateStateMsg
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harmowam_bringup.session import GraphClient
from harmowam_core import topics
from harmowam_core.messages import gate_state_from_message
from harmowam_core.qos import LATEST
from harmowam_core.status import GateState

REFRESH_S = 0.5
_LEVEL_COLOURS = {"OK": "green", "WARN": "yellow", "ERROR": "red"}
_FIGURE = re.compile(r"(?P<what>.+) (?P<kind>rate \(Hz\)|age \(s\)|p50 \(ms\)|p95 \(ms\))$")
_KINDS = ("rate (Hz)", "age (s)", "p50 (ms)", "p95 (ms)")


class Listener:
    """Hears diagnostics and the gate through a ``GraphClient``."""

    def __init__(self, graph: GraphClient) -> None:
        self._graph = graph
        self._gate: GateState | None = None
        graph.node.create_subscription(GateStateMsg, topics.GATE_STATE, self._on_gate, LATEST)

    def _on_gate(self, message: GateStateMsg) -> None:
        self._gate = gate_state_from_message(message)

    def heard(self) -> dict[str, Any]:
        """{"nodes": {name: {"state", "level", "message", "values"}}, "gate": {...} or None} by now."""
        nodes = {
            name: {"state": node.state, "level": node.level.name, "message": node.message, "values": node.values}
            for name, node in sorted(self._graph.nodes.items())
        }
        return {"nodes": nodes, "gate": _gate(self._gate) if self._gate is not None else None}


def listen(seconds: float) -> dict[str, Any]:
    """What was heard within ``seconds``; see ``Listener.heard``."""
    with GraphClient() as graph:
        listener = Listener(graph)
        graph.spin_for(seconds)
        return listener.heard()


def show_live(console: Console) -> dict[str, Any]:
    """Show it until interrupted; returns what was heard last."""
    with GraphClient() as graph, Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        listener = Listener(graph)
        try:
            while True:
                graph.spin_for(REFRESH_S)
                live.update(status_table(listener.heard()), refresh=True)
        except KeyboardInterrupt:
            return listener.heard()


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


def status_table(heard: dict[str, Any]) -> RenderableType:
    """A row for each thing that a node counts or times; what it says of its faults, and the gate below."""
    if not heard["nodes"]:
        return Text("no node of the graph was heard; is one running in this ROS domain? (harmowam up sim.launch.yaml)")
    table = Table(box=None, pad_edge=False)
    for title in ("node", "state", "level"):
        table.add_column(title, no_wrap=True)
    table.add_column("what")  # gives way in a narrow terminal
    for title in ("Hz", "age s", "p50 ms", "p95 ms"):
        table.add_column(title, justify="right", no_wrap=True)
    faults = []
    for name, node in heard["nodes"].items():
        level = Text(node["level"], _LEVEL_COLOURS[node["level"]])
        rows = figures(node["values"]) or [("", "", "", "", "")]
        for index, row in enumerate(rows):
            table.add_row(*((name, node["state"], level) if index == 0 else ("", "", "")), *row)
        if node["level"] != "OK":
            faults.append(Text.assemble((f"{name}: ", _LEVEL_COLOURS[node["level"]]), node["message"]))
    return Group(table, *faults, *_gate_line(heard["gate"]))


def figures(values: dict[str, str]) -> list[tuple[str, ...]]:
    """(what, rate, age, p50, p95) of a node's values, and other figures as ("name: value", "", "", "", ""); in the node's order."""
    rows: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        match = _FIGURE.fullmatch(key)
        if match is not None:
            rows.setdefault(match["what"], {})[match["kind"]] = value
        elif not key.endswith(" p99 (ms)"):
            rows[f"{key}: {value}"] = {}
    return [(what, *(row.get(kind, "") for kind in _KINDS)) for what, row in rows.items()]


def _gate_line(gate: dict[str, Any] | None) -> list[Text]:
    if gate is None:
        return []
    score = "–" if gate["score"] is None else f"{gate['score']:.2f}"
    says = f"gate: {gate['status'].lower()} ({gate['text']}), {gate['phase']}, expert {gate['expert'] or 'none'}, score {score}"
    return [Text(says)]
