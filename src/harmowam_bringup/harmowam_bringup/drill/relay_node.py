"""Relay node: for drills, all topics of the graph pass through it, and any of them can be made to misbehave.

Messages stay serialized on their way; only a mode that has to look into one decodes it.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any
from zlib import crc32

import numpy as np
from harmowam_msgs.srv import SetFault
from rclpy.serialization import deserialize_message, serialize_message

from harmowam_bringup.drill.channel import PASS, Channel, Fault
from harmowam_bringup.drill.garbage import Garbage, garbled, restamped
from harmowam_bringup.drill.modes import Forge
from harmowam_bringup.drill.relayed import relayed_topics
from harmowam_core import topics
from harmowam_core.health import Level
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.wan_preset import load_any_preset

TICK_S = 0.005
"""How late a message that is held back may go out."""
REAL_TIME = 25
"""It is a part of the way to the arbiter (30): what waits here for a processor that a starting process takes looks like a lost arm."""
ALL = "all"


def forge_for(kind: Any) -> Forge[bytes]:
    """Changes serialized messages of a type."""

    def change_stamp(message: bytes, fresh: bytes) -> bytes:
        return serialize_message(restamped(deserialize_message(message, kind), deserialize_message(fresh, kind)))

    def spoil(message: bytes, garbage: Garbage | None, random: np.random.Generator) -> bytes:
        return serialize_message(garbled(deserialize_message(message, kind), garbage, random))

    return Forge(change_stamp, spoil)


class RelayNode(ManagedNode):
    """Subscribes to ``topics.relayed(name)`` and publishes ``name``, with the fault that the service has set."""

    def __init__(self) -> None:
        super().__init__(topics.RELAY_NODE)

    def declare(self) -> None:
        """Parameters."""
        self.parameter("preset", "compact", "Preset by name or path: its cell has the cameras and controllers.", read_only=True)
        self.parameter("only", "", "Topics to relay, with spaces between; empty: all that are known.", read_only=True)
        self.parameter("seed", 0, "Of garbage: the same messages are spoilt in the same way.", lower=0, upper=2**31 - 1, read_only=True)

    def configure(self) -> None:
        """A publisher and a channel a topic; all of them pass."""
        known = relayed_topics(load_any_preset(self.get_parameter("preset").value).load_cell())
        only = self.get_parameter("only").value.split() or list(known)
        if unknown := set(only) - set(known):
            raise ValueError(f"only names {sorted(unknown)}; known: {', '.join(known)}")
        self.relayed = {name: known[name] for name in only}
        seed = self.get_parameter("seed").value
        self.outputs = {name: self.create_lifecycle_publisher(topic.kind, name, topic.qos) for name, topic in self.relayed.items()}
        self.channels = {name: Channel(forge_for(topic.kind), seed ^ crc32(name.encode())) for name, topic in self.relayed.items()}

    def activate(self) -> None:
        """Relay, and take orders."""
        for name, topic in self.relayed.items():
            self.create_subscription(topic.kind, topics.relayed(name), partial(self._receive, name), topic.qos, raw=True)
        self.create_service(SetFault, topics.SET_FAULT, self._set_fault)
        self._timer = self.create_timer(TICK_S, self._tick)

    def deactivate(self) -> None:
        """Forget all faults."""
        for name in self.channels:
            self._set(name, PASS)

    def _receive(self, name: str, message: bytes) -> None:
        self.channels[name].put(message, time.monotonic())
        self.health.event("messages in")
        self._release(name)

    def _tick(self) -> None:
        for name, channel in self.channels.items():
            if channel.waits:
                self._release(name)
        if not any(channel.waits for channel in self.channels.values()):
            self._timer.cancel()  # nothing to watch over until a message or an order comes

    def _release(self, name: str) -> None:
        channel = self.channels[name]
        for message in channel.take(time.monotonic()):
            self.outputs[name].publish(message)
            self.health.event("messages out")
        self._report(name)

    def _set(self, name: str, fault: Fault) -> None:
        self.channels[name].set(fault, time.monotonic())
        self._report(name)

    def _report(self, name: str) -> None:
        channel = self.channels[name]
        if channel.fault == PASS:
            self.health.clear(name)
        else:
            self.health.fault(name, str(channel.fault), Level.WARN)
        if channel.waits and self._timer.is_canceled():
            self._timer.reset()

    def _set_fault(self, request: SetFault.Request, response: SetFault.Response) -> SetFault.Response:
        try:
            fault = Fault(request.mode, request.value, request.duration_s)
            names = self._named(request.topic, fault)
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        for name in names:
            self._set(name, fault)
        response.success, response.message = True, f"{request.topic}: {fault}"
        self.get_logger().info(response.message)
        return response

    def _named(self, topic: str, fault: Fault) -> list[str]:
        """The topics an order is about; ValueError names those there are, or the one that a fault would not reach."""
        if topic != ALL and topic not in self.channels:
            raise ValueError(f"unknown topic '{topic}'; known: {ALL}, {', '.join(self.channels)}")
        names = list(self.channels) if topic == ALL else [topic]
        silent = [name for name in names if not self.channels[name].heard and not self.count_publishers(topics.relayed(name))]
        if fault != PASS and topic != ALL and silent:
            raise ValueError(f"nobody publishes {topics.relayed(topic)}: the producer of {topic} does not go through the relay")
        return names


def main() -> None:
    """Run the node."""
    run(RelayNode, real_time=REAL_TIME)


if __name__ == "__main__":
    main()
