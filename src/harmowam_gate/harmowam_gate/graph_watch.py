"""What the ROS graph tells about the arbiter's surroundings: who else commands the arms, whether the driver was restarted, whose
quality of service does not fit. Queries of the local discovery data, no messages.
"""

from __future__ import annotations

import time

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

PREDECESSOR_S = 30.0
"""So long the middleware remembers a process that was killed: a publisher of our own name that was there before us is no rogue."""


class GraphWatch:
    """``command_topics``: that this node alone may publish on; ``driver_topic``: of the arm driver's measurements."""

    def __init__(self, node: Node, command_topics: set[str], driver_topic: str) -> None:
        self._node, self._commands, self._driver = node, command_topics, driver_topic
        self._own_topics = {publisher.topic_name for publisher in node.publishers}
        self._predecessors_until_s = time.monotonic() + PREDECESSOR_S
        self._predecessors: set[bytes] | None = None
        self._drivers: dict[str, set[bytes]] = {}

    def publishers(self) -> int:
        """How many publish on the busiest command topic: 1 is this node, or the relay that stands for it in a drill."""
        commanding = {topic: self._node.get_publishers_info_by_topic(topic) for topic in self._commands}
        if self._predecessors is None:
            self._predecessors = {
                _gid(info) for topic in self._commands for info in commanding[topic] if self._has_our_name(info)
            } - self._own(commanding)
        forgiven = self._predecessors if time.monotonic() < self._predecessors_until_s else set()
        return max(sum(_gid(info) not in forgiven for info in infos) for infos in commanding.values())

    def driver_restarted(self) -> bool:
        """Whether a node that published measurements before does so anew."""
        restarted = False
        for info in self._node.get_publishers_info_by_topic(self._driver):
            known = self._drivers.setdefault(f"{info.node_namespace}/{info.node_name}", set())
            restarted |= bool(known) and _gid(info) not in known
            known.add(_gid(info))
        return restarted

    def mismatches(self) -> list[str]:
        """Publishers and subscriptions that cannot speak to each other, each with the topic and why."""
        found = []
        for subscription in self._node.subscriptions:
            for info in self._node.get_publishers_info_by_topic(subscription.topic_name):
                compatibility, reason = qos_check_compatible(info.qos_profile, subscription.qos_profile)
                if compatibility == QoSCompatibility.ERROR:
                    found.append(f"{subscription.topic_name}: what '{info.node_name}' publishes does not fit: {reason}")
        for topic in self._own_topics & self._commands:
            ours = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic) if self._has_our_name(info)]
            for info in self._node.get_subscriptions_info_by_topic(topic):
                for profile in ours[-1:]:  # as discovered: here, too, what is not set is infinite
                    compatibility, reason = qos_check_compatible(profile, info.qos_profile)
                    if compatibility == QoSCompatibility.ERROR:
                        found.append(f"{topic}: '{info.node_name}' cannot hear it: {reason}")
        return found

    def _has_our_name(self, info: TopicEndpointInfo) -> bool:
        return bool(info.node_name == self._node.get_name() and info.node_namespace == self._node.get_namespace())

    def _own(self, commanding: dict[str, list[TopicEndpointInfo]]) -> set[bytes]:
        """Our own publishers: of those with our name on a topic that we publish, the one that was discovered last."""
        own = set()
        for topic in self._own_topics & set(commanding):
            ours = [_gid(info) for info in commanding[topic] if self._has_our_name(info)]
            own.update(ours[-1:])
        return own


def _gid(info: TopicEndpointInfo) -> bytes:
    return bytes(info.endpoint_gid)
