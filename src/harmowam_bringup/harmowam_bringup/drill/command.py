"""``harmowam drill``: what can be broken in a running graph, and breaking it."""

from __future__ import annotations

import time
from typing import Any

from harmowam_msgs.srv import SetFault
from rclpy.node import NodeNameNonExistentError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harmowam_bringup import session
from harmowam_bringup.drill.modes import MODES
from harmowam_bringup.session import GraphClient, GraphError
from harmowam_core import topics

SETTLED_S = 0.5
"""Discovery is over when nothing new was found for this long."""
NO_RELAY = "no relay runs in this ROS domain; start the graph with drill:=true (harmowam up sim.launch.yaml drill:=true)"


class RelayClient(GraphClient):
    """``with RelayClient() as relay: relay.set_fault("/joint_states", "off", 0.0, 2.0)``; GraphError if no relay runs."""

    def __enter__(self) -> RelayClient:
        super().__enter__()
        self._set_fault = self.node.create_client(SetFault, topics.SET_FAULT)
        try:
            self.spin(self._set_fault.service_is_ready, session.ANSWER_S, "the relay")
        except GraphError:
            self.__exit__(None, None, None)
            raise GraphError(NO_RELAY) from None
        return self

    def set_fault(self, topic: str, mode: str, value: float, duration_s: float) -> str:
        """What the relay answers; ValueError with its words if it refuses."""
        request = SetFault.Request(topic=topic, mode=mode, value=value, duration_s=duration_s)
        answer = self._set_fault.call_async(request)
        self.spin(answer.done, session.ANSWER_S, "the relay to answer")
        if not answer.result().success:
            raise ValueError(answer.result().message)
        return str(answer.result().message)

    def topics(self) -> list[str]:
        """All relayed topics; discovery names them one by one, so they are all there when no more have come for a while."""
        known: list[str] = []
        changed_s = time.monotonic()

        def settled() -> bool:
            nonlocal known, changed_s
            now = self._discovered()
            if now != known:
                known, changed_s = now, time.monotonic()
            return bool(known) and time.monotonic() - changed_s > SETTLED_S

        self.spin(settled, session.ANSWER_S, "the relay's topics")
        return known

    def _discovered(self) -> list[str]:
        try:
            inputs = self.node.get_subscriber_names_and_types_by_node(topics.RELAY_NODE, "/")
        except NodeNameNonExistentError:  # its service was found before its name
            return []
        return sorted(name.removeprefix(topics.RELAY_PREFIX) for name, _ in inputs if name.startswith(topics.RELAY_PREFIX + "/"))

    def says(self) -> str:
        """Its faults at present, or ok."""
        name = f"/{topics.RELAY_NODE}"
        self.spin(lambda: name in self.nodes, session.ANSWER_S, "the relay's diagnostics")
        return self.nodes[name].message


def set_fault(topic: str, mode: str, value: float, duration_s: float) -> dict[str, Any]:
    """Break a topic, or heal it; {"topic", "mode", "value", "duration_s", "message"}."""
    with RelayClient() as relay:
        message = relay.set_fault(topic, mode, value, duration_s)
    return {"topic": topic, "mode": mode, "value": value, "duration_s": duration_s, "message": message}


def overview() -> dict[str, Any]:
    """{"topics": [...], "modes": {name: {"does", "value"}}, "now"}: of the relay that runs."""
    modes = {name: {"does": mode.does, "value": _value(name)} for name, mode in MODES.items()}
    with RelayClient() as relay:
        return {"now": relay.says(), "topics": relay.topics(), "modes": modes}


def _value(mode: str) -> str:
    takes = MODES[mode].takes
    return f"{takes.meaning} (default {takes.default:g})" if takes is not None else ""


def print_overview(found: dict[str, Any], console: Console) -> None:
    """Topics, modes, and what is broken now."""
    console.print(Text("\n".join(("topics", *(f"  {topic}" for topic in found["topics"]), "", "modes"))))
    table = Table(box=None, pad_edge=False, show_header=False)
    for mode, about in found["modes"].items():
        table.add_row(f"  {mode}", about["does"], Text(about["value"]))
    console.print(table)
    console.print(Text(f"\nnow: {found['now']}"))
