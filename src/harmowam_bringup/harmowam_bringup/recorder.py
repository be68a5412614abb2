"""Records the graph's topics: kept serialized while the graph runs (it needs the processor), decoded afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from harmowam_bringup.recording import Picture, Received, Recording
from harmowam_core import messages, topics
from harmowam_core.cell import Cell
from harmowam_core.qos import SENSOR
from harmowam_core.stages import Expert, StageError
from harmowam_core.status import GateState

SCORE = "/sim/score"
_RELIABLE = QoSProfile(depth=100)


@dataclass(frozen=True)
class _Topic:
    kind: type
    qos: QoSProfile
    keep: Callable[[Recording, int, Any], None]  # decode a message and file it


class Recorder:
    """Subscribes a node to the graph; ``on_gate`` and ``on_score`` are called live."""

    def __init__(
        self,
        node: Node,
        cell: Cell,
        *,
        pictures: bool = True,
        on_gate: Callable[[GateState], None] = lambda state: None,
        on_score: Callable[[dict[str, Any]], None] = lambda score: None,
    ) -> None:
        self._clock = node.get_clock()
        self._topics = dict(_topics(cell, pictures))
        self._raw: list[tuple[str, int, bytes]] = []
        self._started_ns = self._ended_ns = self._clock.now().nanoseconds
        live = {
            topics.GATE_STATE: lambda data: on_gate(messages.gate_state_from_message(deserialize_message(data, GateStateMsg))),
            SCORE: lambda data: on_score(json.loads(deserialize_message(data, String).data)),
        }
        self._subscriptions = [
            node.create_subscription(topic.kind, name, self._callback(name, live.get(name)), topic.qos, raw=True)
            for name, topic in self._topics.items()
        ]

    def _callback(self, name: str, live: Callable[[bytes], None] | None) -> Callable[[bytes], None]:
        def receive(data: bytes) -> None:
            self._raw.append((name, self._clock.now().nanoseconds, data))
            if live is not None:
                live(data)

        return receive

    def restart(self) -> None:
        """Forget what came so far; the recording starts now."""
        self._raw.clear()
        self._started_ns = self._clock.now().nanoseconds

    def stop(self) -> None:
        """The recording ends now."""
        self._ended_ns = self._clock.now().nanoseconds

    def recording(self) -> Recording:
        """Decode what came between ``restart`` and ``stop``; what cannot be decoded is listed in ``malformed``."""
        recording = Recording(started_ns=self._started_ns, ended_ns=self._ended_ns)
        for name, received_ns, data in self._raw:
            if received_ns > self._ended_ns:
                continue
            topic = self._topics[name]
            try:
                topic.keep(recording, received_ns, deserialize_message(data, topic.kind))
            except (StageError, json.JSONDecodeError) as error:
                recording.malformed.append(f"{name}: {error}")
        return recording


def _topics(cell: Cell, pictures: bool) -> Iterator[tuple[str, _Topic]]:
    if pictures:
        for camera in cell.cameras:
            yield topics.camera_image(camera.name), _Topic(Image, SENSOR, _picture(camera.name))
    for expert in Expert:
        yield topics.chunk(expert), _Topic(ActionChunkMsg, _RELIABLE, _chunk)
    for name in (cell.controllers.arm_topic, cell.controllers.gripper_topic):
        yield name, _Topic(JointTrajectoryMsg, _RELIABLE, _trajectory(name))
    yield topics.JOINT_STATES, _Topic(JointStateMsg, SENSOR, _joint_state)
    yield topics.IMAGINATION, _Topic(ImaginationMsg, _RELIABLE, _imagination)
    yield topics.GATE_STATE, _Topic(GateStateMsg, _RELIABLE, _gate)
    yield SCORE, _Topic(String, _RELIABLE, _score)
    yield topics.AUDITOR_VERDICT, _Topic(String, _RELIABLE, _verdict)


def _picture(camera: str) -> Callable[[Recording, int, Image], None]:
    def keep(recording: Recording, received_ns: int, message: Image) -> None:
        picture = Picture(messages.stamp_from_message(message.header.stamp), messages.image_from_message(message))
        recording.pictures.setdefault(camera, []).append(Received(received_ns, picture))

    return keep


def _trajectory(name: str) -> Callable[[Recording, int, JointTrajectoryMsg], None]:
    def keep(recording: Recording, received_ns: int, message: JointTrajectoryMsg) -> None:
        recording.trajectories.setdefault(name, []).append(Received(received_ns, message))

    return keep


def _chunk(recording: Recording, received_ns: int, message: ActionChunkMsg) -> None:
    chunk = messages.chunk_from_message(message)
    recording.chunks[chunk.source].append(Received(received_ns, chunk))


def _joint_state(recording: Recording, received_ns: int, message: JointStateMsg) -> None:
    recording.joint_states.append(Received(received_ns, messages.joint_state_from_message(message)))


def _imagination(recording: Recording, received_ns: int, message: ImaginationMsg) -> None:
    recording.imaginations.append(Received(received_ns, messages.imagination_from_message(message)))


def _gate(recording: Recording, received_ns: int, message: GateStateMsg) -> None:
    recording.gate.append(Received(received_ns, messages.gate_state_from_message(message)))


def _score(recording: Recording, received_ns: int, message: String) -> None:
    recording.scores.append(Received(received_ns, json.loads(message.data)))


def _verdict(recording: Recording, received_ns: int, message: String) -> None:
    recording.live_verdict = json.loads(message.data)
