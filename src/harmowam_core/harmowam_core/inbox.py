"""Messages that wait in a subscription."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription


def ears_of(node: Node) -> Node:
    """For subscriptions that no executor spins, which wake nobody for every message; destroy it with its owner."""
    return Node(f"{node.get_name()}_ears", context=node.context, enable_rosout=False, start_parameter_services=False)


def take_waiting(subscription: Subscription[Any]) -> Iterator[tuple[Any, Mapping[str, int]]]:
    """Take all that waits, oldest first: the message (bytes of a raw subscription) and what DDS knows of it, among it ``source_timestamp``,
    when it was published, in ns of the system's clock.

    For subscriptions of :func:`ears_of` a node, and to be ahead of an executor.
    """
    with subscription.handle:
        while (taken := subscription.handle.take_message(subscription.msg_type, subscription.raw)) is not None:
            yield taken
