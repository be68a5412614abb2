"""A running graph as a source of what is watched.

Nothing is spun: each period, the newest messages are taken, and what came in between was never decoded. Thus watching costs the same
whatever the cameras' rates are, and the graph's publishers never wait for a watcher.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy

from harmowam_bringup.dds import expect_large_images
from harmowam_bringup.watch.feeds import Feed
from harmowam_core.inbox import take_waiting

Take = Callable[[], Iterator[tuple[str, int, Any]]]


@contextmanager
def listening(feeds: dict[str, Feed]) -> Iterator[Take]:
    """Subscribe to the graph; what is yielded gives (topic, time of publication in ns, message) of all that is new."""
    expect_large_images()
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node(f"harmowam_watch_{os.getpid()}", context=context, enable_rosout=False, start_parameter_services=False)
    subscriptions = {
        topic: node.create_subscription(
            feed.kind,
            topic,
            lambda message: None,
            # Best effort, which fits any publisher: nobody sends anything twice for a watcher.
            QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=feed.kept, reliability=ReliabilityPolicy.BEST_EFFORT),
        )
        for topic, feed in feeds.items()
    }

    def take() -> Iterator[tuple[str, int, Any]]:
        for topic, subscription in subscriptions.items():
            for message, about in take_waiting(subscription):
                yield topic, about["source_timestamp"], message

    try:
        yield take
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
