"""Quality-of-service profiles of the graph: one a kind of data."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data

SENSOR = qos_profile_sensor_data
"""Camera images, camera info, joint states: a lost sample is better than a late one."""

LATEST = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE)
"""Imaginations, gate state: only the newest counts, and it must arrive."""

CHUNK = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(nanoseconds=75_000_000),
)
"""Chunks: as LATEST, and the middleware itself vouches for the publisher's process, so that one that was killed or stopped is missed
within the lease although chunks are further apart. Publisher and subscription must be in different processes: within one participant,
Fast DDS does not renew the lease."""

COMMAND = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=4, reliability=ReliabilityPolicy.RELIABLE)
"""Joint trajectories and diagnostics."""

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
"""The task: who comes late still gets the last one."""
