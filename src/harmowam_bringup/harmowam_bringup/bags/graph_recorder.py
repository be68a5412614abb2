"""Records the topics of a running graph into a bag: subscribes as publishers appear, and never decodes what it stores."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage

from harmowam_bringup.bags.bag_writer import BagWriter, RecordedTopic
from harmowam_bringup.bags.message_types import IMAGES, MalformedError, UnknownTypeError, decoder, message_class
from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.contract import Contract
from harmowam_core.inbox import ears_of, take_waiting
from harmowam_core.messages import image_from_message
from harmowam_core.observation_feed import COMPRESSED
from harmowam_core.stages import Expert, StageError

IMAGE, COMPRESSED_IMAGE = IMAGES
CAMERA_INFO, TASK = "sensor_msgs/msg/CameraInfo", "harmowam_msgs/msg/Task"
LARGE = (*IMAGES, "harmowam_msgs/msg/Imagination")
LARGE_DEPTH, DEPTH = 90, 500
"""Messages that may wait for the recorder: three seconds of images, more of all else."""
DISCOVERY_S, FLUSH_S, TAKE_S = 0.5, 0.1, 0.01
JPEG_QUALITY = 90
SCORE = "/sim/score"

Store = Callable[[int, int, bytes], None]
"""Keeps a serialized message: when it was received and sent, ns."""


def graph_topics(contract: Contract, cell: Cell) -> set[str]:
    """What a recording holds unless told otherwise: inputs, outputs and verdicts; not what can be made from them (markers, preview)."""
    return {
        *contract.observation_topics,
        *(name for camera in cell.cameras for name in (topics.camera_image(camera.name), topics.camera_info(camera.name))),
        *(topics.chunk(expert) for expert in Expert),
        *(cell.controllers.arm_topic, cell.controllers.gripper_topic),
        *(topics.IMAGINATION, topics.GATE_STATE, topics.DRIFT, topics.AUDITOR_VERDICT, topics.DIAGNOSTICS, SCORE),
        *("/tf", "/tf_static", "/robot_description", "/rosout"),
    }


@dataclass
class Counter:
    """Of one topic: messages that came, and that were lost on the way, by the publisher's count where there is just one."""

    received: int = 0
    lost: int = 0
    publishers: int = 1
    sequence: int | None = None

    def receive(self, sequence: int) -> None:
        """One came; ``sequence`` is its publisher's count."""
        self.received += 1
        if self.publishers == 1:
            if self.sequence is not None and sequence > self.sequence + 1:
                self.lost += sequence - self.sequence - 1
            self.sequence = sequence


@dataclass
class _Entry:
    subscription: Subscription
    receive: Callable[[bytes, Mapping[str, int]], None]
    profile: tuple[ReliabilityPolicy, DurabilityPolicy]


class GraphRecorder:
    """Puts what there is to hear into a bag.

    Messages are taken from a node of its own, which no executor waits for: a hundred times a second all that came, instead of one wait
    for every message, which takes twice the processor time. DDS notes when each of them came.

    wanted: topics to record, None for all; jpeg: store images compressed, on <topic>/compressed, if they are colour or grey of 8 bits.
    """

    def __init__(self, node: Node, writer: BagWriter, wanted: Collection[str] | None, *, jpeg: bool = False) -> None:
        self._node, self._writer, self._wanted, self._jpeg = node, writer, wanted, jpeg
        self._entries: dict[str, _Entry] = {}
        self._channels: dict[str, int] = {}  # by the name stored
        self._unusable: set[str] = set()
        self.counters: dict[str, Counter] = {}
        self._calibration: dict[str, Any] = {}
        self._tasks: list[dict[str, Any]] = []
        self._ears = ears_of(node)
        periods = ((DISCOVERY_S, self.discover), (FLUSH_S, writer.flush), (TAKE_S, self.take))
        self._timers = [node.create_timer(period_s, callback) for period_s, callback in periods]
        self.discover()

    def stop(self) -> None:
        """Listen no longer; the bag stays open."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self.take()
        self._entries.clear()
        self._ears.destroy_node()

    def take(self) -> None:
        """Store all that has come."""
        for entry in self._entries.values():
            for data, info in take_waiting(entry.subscription):
                entry.receive(data, info)

    def discover(self) -> None:
        """Subscribe to wanted topics that somebody publishes; again where a new publisher offers less than was asked for."""
        for name, types in self._node.get_topic_names_and_types():
            if (self._wanted is not None and name not in self._wanted) or name in self._unusable:
                continue
            offered = [info for info in self._node.get_publishers_info_by_topic(name) if info.node_name != self._node.get_name()]
            if not offered:
                continue
            profile = _requested([info.qos_profile for info in offered])
            entry = self._entries.get(name)
            if entry is not None:
                self.counters[name].publishers = len(offered)
                if entry.profile == profile:
                    continue
                self._ears.destroy_subscription(entry.subscription)
            try:
                self._entries[name] = self._subscribe(name, types[0], profile, [info.qos_profile for info in offered])
            except UnknownTypeError as error:
                self._unusable.add(name)
                self._node.get_logger().error(f"{name} is not recorded: {error}")

    def _subscribe(self, name: str, msgtype: str, profile: tuple[Any, Any], offered: list[QoSProfile]) -> _Entry:
        large = msgtype in LARGE
        jpeg = self._jpeg and msgtype == IMAGE
        counter = self.counters.setdefault(name, Counter(publishers=len(offered)))

        def storing(stored: str, kind: str) -> Store:
            if stored not in self._channels:
                topic = RecordedTopic(stored, kind, tuple(qos_to_yaml(qos) for qos in offered), large)
                self._channels[stored] = self._writer.add_topic(topic)
            return partial(self._writer.write, self._channels[stored])

        store = self._compressor(name, storing) if jpeg else storing(name, msgtype)
        note = {CAMERA_INFO: self._note_calibration, TASK: self._note_task}.get(msgtype)

        def receive(data: bytes, info: Mapping[str, int]) -> None:
            received_ns = self._received_ns(info)
            counter.receive(info["publication_sequence_number"])
            store(received_ns, info["source_timestamp"] or received_ns, data)
            if note is not None:
                note(name, data)

        reliability, durability = profile
        qos = QoSProfile(depth=LARGE_DEPTH if large else DEPTH, reliability=reliability, durability=durability)
        subscription = self._ears.create_subscription(message_class(msgtype), name, lambda _: None, qos, raw=True)
        return _Entry(subscription, receive, profile)

    def _received_ns(self, info: Mapping[str, int]) -> int:
        """By DDS's clock, which is the system's; in simulated time by the node's."""
        clock = self._node.get_clock()
        return clock.now().nanoseconds if clock.ros_time_is_active else info["received_timestamp"] or clock.now().nanoseconds

    def _compressor(self, name: str, storing: Callable[[str, str], Store]) -> Store:
        """Stores images compressed, but as they came where that cannot be done: depth, say."""
        decode = decoder(IMAGE)

        def compress(received_ns: int, sent_ns: int, data: bytes) -> None:
            try:
                message = decode(data)
                image = image_from_message(message)
            except (MalformedError, StageError) as error:
                if name not in self._channels:
                    self._node.get_logger().warning(f"{name} is not compressed: {error}")
                storing(name, IMAGE)(received_ns, sent_ns, data)
                return
            _, packed = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
            result = CompressedImage(format="rgb8; jpeg compressed bgr8", data=array("B", packed.tobytes()))
            result.header.stamp.sec, result.header.stamp.nanosec = message.header.stamp.sec, message.header.stamp.nanosec
            result.header.frame_id = message.header.frame_id
            storing(name + COMPRESSED, COMPRESSED_IMAGE)(received_ns, sent_ns, serialize_message(result))

        return compress

    def _note_calibration(self, name: str, data: bytes) -> None:
        """The first camera info of each camera, into the bag's metadata."""
        if name not in self._calibration:
            info = decoder(CAMERA_INFO)(data)
            self._calibration[name] = {
                "height": int(info.height),
                "width": int(info.width),
                "distortion_model": info.distortion_model,
                "d": [float(value) for value in info.d],
                "k": [float(value) for value in info.k],
            }
            self._writer.note("calibration", json.dumps(self._calibration))

    def _note_task(self, name: str, data: bytes) -> None:
        """Every task given, into the bag's metadata."""
        task = decoder(TASK)(data)
        if task.task_id:
            self._tasks.append({"task_id": int(task.task_id), "instruction": task.instruction})
            self._writer.note("tasks", json.dumps(self._tasks))


def _requested(offered: list[QoSProfile]) -> tuple[ReliabilityPolicy, DurabilityPolicy]:
    """The most that all publishers offer."""
    reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
    latched = all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
    return (
        ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def qos_to_yaml(qos: QoSProfile) -> dict[str, Any]:
    """A profile in the form that rosbag2 keeps it in."""

    def duration(value: Any) -> dict[str, int]:
        return {"sec": value.nanoseconds // 10**9, "nsec": value.nanoseconds % 10**9}

    return {
        "history": qos.history.name.lower(),
        "depth": qos.depth,
        "reliability": qos.reliability.name.lower(),
        "durability": qos.durability.name.lower(),
        "deadline": duration(qos.deadline),
        "lifespan": duration(qos.lifespan),
        "liveliness": qos.liveliness.name.lower(),
        "liveliness_lease_duration": duration(qos.liveliness_lease_duration),
        "avoid_ros_namespace_conventions": qos.avoid_ros_namespace_conventions,
    }
