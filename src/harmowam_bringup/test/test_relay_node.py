"""The relay over DDS: a stand-in producer behind it, a listener in front, every mode in between; and what its service refuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.srv import SetFault
from sensor_msgs.msg import JointState as JointStateMsg

from harmowam_bringup.drill.modes import MODES
from harmowam_bringup.drill.relay_node import RelayNode
from harmowam_bringup.drill.relayed import relayed_topics
from harmowam_core import topics
from harmowam_core.messages import stamp_from_message, stamp_to_message
from harmowam_core.qos import CHUNK, SENSOR
from harmowam_core.stages import Expert
from harmowam_core.testing import FakeCell, graph, wait_for

PATIENCE_S = 60.0
"""Only order, content and lower bounds of time are asserted: a busy machine may take long for anything."""
CHUNKS = topics.chunk(Expert.REACTIVE)


class Drill:
    """Sends numbered joint states and chunks to the relay, and keeps (received_s, message) of what it lets through."""

    def __init__(self, cell: FakeCell, relay: RelayNode) -> None:
        self.cell, self.relay, self.number = cell, relay, 0
        self.stamps_ns: list[int] = []
        self.joints = cell.create_publisher(JointStateMsg, topics.relayed(topics.JOINT_STATES), SENSOR)
        self.chunks = cell.create_publisher(ActionChunkMsg, topics.relayed(CHUNKS), CHUNK)
        self.came: dict[str, list[tuple[float, Any]]] = {topics.JOINT_STATES: [], CHUNKS: []}
        cell.create_subscription(JointStateMsg, topics.JOINT_STATES, self._keep(topics.JOINT_STATES), SENSOR)
        cell.create_subscription(ActionChunkMsg, CHUNKS, self._keep(CHUNKS), CHUNK)
        self.client = cell.create_client(SetFault, topics.SET_FAULT)
        wait_for(lambda: all(self.came.values()), "relayed messages", PATIENCE_S, meanwhile=self.send)

    def _keep(self, topic: str) -> Callable[[Any], None]:
        return lambda message: self.came[topic].append((self.now_s(), message))

    def now_s(self) -> float:
        return self.cell.get_clock().now().nanoseconds / 1e9

    def send(self) -> None:
        """One of each; the number is in the positions and the chunk's id."""
        self.number += 1
        state = JointStateMsg(name=["a", "b"], position=[float(self.number)] * 2, velocity=[0.0, 0.0])
        chunk = ActionChunkMsg(chunk_id=self.number, source=2, positions=[0.5] * 3)
        self.stamps_ns.append(self.cell.get_clock().now().nanoseconds)
        state.header.stamp = chunk.header.stamp = stamp_to_message(self.stamps_ns[-1])
        self.joints.publish(state)
        self.chunks.publish(chunk)

    def set(self, topic: str, mode: str, value: float = 0.0, duration_s: float = 0.0) -> SetFault.Response:
        answer = self.client.call_async(SetFault.Request(topic=topic, mode=mode, value=value, duration_s=duration_s))
        wait_for(answer.done, "answer of the relay", PATIENCE_S)
        return answer.result()

    @contextmanager
    def fault(self, mode: str, value: float = 0.0, topic: str = topics.JOINT_STATES) -> Iterator[list[tuple[float, Any]]]:
        """While a fault lasts: the list of what comes on its topic. Nothing is on its way at the beginning."""
        answer = self.set(topic, mode, value)
        assert answer.success, answer.message
        before = -1
        while before != (before := self.heard):
            time.sleep(0.3)
        for came in self.came.values():
            came.clear()
        yield self.came[topic]
        assert self.set(topic, "pass").success

    @property
    def heard(self) -> int:
        """Messages that came so far."""
        return sum(map(len, self.came.values()))

    def send_one(self, topic: str = topics.JOINT_STATES) -> None:
        """Send, and wait for one to come."""
        before = len(self.came[topic])
        self.send()
        wait_for(lambda: len(self.came[topic]) > before, "message", PATIENCE_S)

    def send_until(self, condition: Callable[[], Any], what: str) -> None:
        """Send every 50 ms until it holds."""
        wait_for(condition, what, PATIENCE_S, meanwhile=self.send)


@pytest.fixture(scope="module")
def drill() -> Iterator[Drill]:
    with graph(RelayNode) as (cell, [relay]):
        wait_for(lambda: relay.active, "active relay", PATIENCE_S)
        yield Drill(cell, relay)


def numbers(came: list[tuple[float, Any]]) -> list[int]:
    return [message.chunk_id if isinstance(message, ActionChunkMsg) else int(message.position[0]) for _, message in came]


def ages_s(came: list[tuple[float, Any]]) -> np.ndarray:
    return np.array([at - stamp_from_message(message.header.stamp) / 1e9 for at, message in came])


def test_pass_changes_nothing(drill: Drill) -> None:
    with drill.fault("pass") as came:
        first = drill.number + 1
        for _ in range(10):
            drill.send_one()
        assert numbers(came) == list(range(first, first + 10))
        assert all(message.velocity.tolist() == [0.0, 0.0] for _, message in came)


def test_off_is_silence_on_one_topic_alone(drill: Drill) -> None:
    with drill.fault("off") as came:
        drill.send_until(lambda: len(drill.came[CHUNKS]) >= 10, "chunks")
        assert came == []


def test_stuck_repeats_old_content_under_fresh_stamps(drill: Drill) -> None:
    drill.send_one()
    frozen = drill.number
    with drill.fault("stuck") as came:
        for _ in range(10):
            drill.send_one()
        assert numbers(came) == [frozen] * 10
        stamps = [stamp_from_message(message.header.stamp) for _, message in came]
        assert stamps == drill.stamps_ns[-10:]


def test_garbage_is_as_many_messages_of_wrong_content(drill: Drill) -> None:
    for kind in (1.0, 2.0, 3.0, 4.0, 0.0):
        with drill.fault("garbage", kind) as came:
            for _ in range(5):
                drill.send_one()
            stamps = [stamp_from_message(message.header.stamp) for _, message in came]
            assert stamps == drill.stamps_ns[-5:] and not any(is_sound(message) for _, message in came)


def is_sound(message: JointStateMsg) -> bool:
    positions = list(message.position)
    return message.name == ["a", "b"] and len(positions) == 2 and positions[0].is_integer() and list(message.velocity) == [0.0, 0.0]


def test_slow_keeps_to_its_rate(drill: Drill) -> None:
    with drill.fault("slow", 2.0) as came:
        started_s, sent = drill.now_s(), drill.number
        drill.send_until(lambda: len(came) >= 4, "messages")
        assert len(came) <= 2.0 * (came[-1][0] - started_s) + 2 and drill.number - sent > len(came)
        assert numbers(came) == sorted(set(numbers(came)))


def test_delayed_is_complete_in_order_and_late(drill: Drill) -> None:
    with drill.fault("delayed", 0.2) as came:
        first = drill.number + 1
        for _ in range(5):
            drill.send()
            drill.send_one()
        wait_for(lambda: len(came) >= 10, "all messages", PATIENCE_S)
        assert numbers(came) == list(range(first, first + 10)) and ages_s(came).min() >= 0.2


def test_intermittent_loses_bursts(drill: Drill) -> None:
    with drill.fault("intermittent", 0.5) as came:
        drill.send_until(lambda: np.count_nonzero(np.diff(numbers(came)) > 3) >= 2, "two bursts of loss between messages")


def test_duplicated_arrives_twice_also_where_only_the_newest_is_kept(drill: Drill) -> None:
    with drill.fault("duplicated", topic=CHUNKS) as came:
        drill.send_until(lambda: np.count_nonzero(np.diff(numbers(came)) == 0) >= 3, "three repeated chunks")


def test_reordered_brings_old_chunks_after_newer_ones(drill: Drill) -> None:
    with drill.fault("reordered", topic=CHUNKS) as came:
        drill.send_until(lambda: np.count_nonzero(np.diff(numbers(came)) < 0) >= 3, "three old chunks after newer ones")
        assert len(came) == len(set(numbers(came)))


def test_a_fault_ends_after_its_time_and_stands_in_the_diagnostics_until_then(drill: Drill) -> None:
    answer = drill.set(topics.JOINT_STATES, "off", duration_s=6.0)
    assert answer.success and answer.message == "/joint_states: off for 6 s"
    wait_for(lambda: drill.cell.diagnosis("relay")[1] == "/joint_states: off for 6 s", "fault in the diagnostics", 6.0)
    drill.came[topics.JOINT_STATES].clear()
    drill.send_until(lambda: drill.came[topics.JOINT_STATES], "end of the fault")
    drill.send_until(lambda: drill.cell.diagnosis("relay")[:2] == (0, "ok"), "diagnostics without it")


def test_all_are_broken_and_healed_at_once(drill: Drill) -> None:
    assert drill.set("all", "off").success
    assert {channel.fault.mode for channel in drill.relay.channels.values()} == {"off"}
    assert drill.set("all", "pass").success
    assert {channel.fault.mode for channel in drill.relay.channels.values()} == {"pass"}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (("/joint_state", "off"), "unknown topic '/joint_state'; known: all, /camera/scene/color/image_raw, "),
        ((topics.JOINT_STATES, "broken"), f"unknown mode 'broken'; known: {', '.join(MODES)}"),
        ((topics.JOINT_STATES, "delayed", -1.0), "value is -1; delayed takes a number from 0.001 to 10"),
        ((topics.JOINT_STATES, "off", 0.0, math.nan), "duration_s is nan"),
        ((topics.IMAGINATION, "off"), "nobody publishes /relay/harmowam/world_model/imagination"),
    ],
)
def test_refusals_name_what_there_is(drill: Drill, order: tuple[Any, ...], message: str) -> None:
    answer = drill.set(*order)
    assert not answer.success and message in answer.message
    assert all(channel.fault.mode == "pass" for channel in drill.relay.channels.values())


def test_relayed_topics_keep_their_profiles(drill: Drill) -> None:
    for name, topic in relayed_topics(drill.cell.cell).items():
        for found in (
            drill.cell.get_publishers_info_by_topic(name),
            drill.cell.get_subscriptions_info_by_topic(topics.relayed(name)),
        ):
            [profile] = [info.qos_profile for info in found if info.node_name == "relay"]
            assert (profile.reliability, profile.durability) == (topic.qos.reliability, topic.qos.durability), name


def test_deactivated_it_is_silent_and_forgets(drill: Drill) -> None:
    assert drill.set(topics.JOINT_STATES, "slow", 2.0, 60.0).success
    drill.relay.trigger_deactivate()
    try:
        drill.came[topics.JOINT_STATES].clear()
        drill.send()
        time.sleep(0.3)
        assert not drill.came[topics.JOINT_STATES]
    finally:
        drill.relay.trigger_activate()
    drill.send_until(lambda: len(drill.came[topics.JOINT_STATES]) > 3, "messages")
    assert drill.relay.channels[topics.JOINT_STATES].fault.mode == "pass"
