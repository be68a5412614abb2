"""Records a run of the graph to a bag, with a live eye on gate and score, and reads it back as a Recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harmowam_msgs.msg import GateState as GateStateMsg
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from harmowam_bringup.bags.bag import Bag, Recorded
from harmowam_bringup.bags.bag_writer import BagWriter
from harmowam_bringup.bags.graph_recorder import SCORE, GraphRecorder, graph_topics
from harmowam_bringup.bags.problems import Trouble
from harmowam_bringup.bags.record import DiskFullError, describe
from harmowam_bringup.recording import Picture, Received, Recording
from harmowam_core import messages, topics
from harmowam_core.cell import Cell
from harmowam_core.contract import contract_for
from harmowam_core.stages import Expert, StageError
from harmowam_core.status import GateState
from harmowam_core.wan_preset import load_any_preset

Keep = Callable[[Recording, Recorded], None]
"""Decodes what a message says and files it, with the time it was received."""


class Recorder:
    """``with Recorder(node, folder, cell) as recorder: …`` then ``recorder.recording()``; ``on_gate`` and ``on_score`` are called live."""

    def __init__(
        self,
        node: Node,
        folder: Path,
        cell: Cell,
        *,
        preset: str = "compact",
        pictures: bool = True,
        on_gate: Callable[[GateState], None] = lambda state: None,
        on_score: Callable[[dict[str, Any]], None] = lambda score: None,
    ) -> None:
        self._node, self._folder, self._cell = node, folder, cell
        images = set() if pictures else {topics.camera_image(camera.name) for camera in cell.cameras}
        self._writer = BagWriter(folder, describe(preset))
        self._graph = GraphRecorder(node, self._writer, graph_topics(contract_for(load_any_preset(preset)), cell) - images)
        self._listeners = [
            node.create_subscription(
                GateStateMsg, topics.GATE_STATE, lambda m: on_gate(messages.gate_state_from_message(m)), QoSProfile(depth=10)
            ),
            node.create_subscription(String, SCORE, lambda m: on_score(json.loads(m.data)), QoSProfile(depth=10)),
        ]
        self._started_ns = self._ended_ns = self._now_ns()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._graph.stop()
        for listener in self._listeners:
            self._node.destroy_subscription(listener)
        self._writer.close()

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def restart(self) -> None:
        """What counts starts now; the bag has also what came before."""
        self._started_ns = self._now_ns()

    def stop(self) -> None:
        """What counts ends now."""
        self._ended_ns = self._now_ns()

    def recording(self) -> Recording:
        """What came between ``restart`` and ``stop``, once the bag is closed; DiskFullError if it is not whole."""
        if self._writer.error is not None:
            raise DiskFullError(f"the recording in {self._folder} ended early: {self._writer.error}; free space and run again")
        return read_recording(self._folder, self._cell, self._started_ns, self._ended_ns)


def read_recording(folder: Path, cell: Cell, started_ns: int, ended_ns: int) -> Recording:
    """A part of a bag, decoded; what cannot be is listed in ``malformed``. Images are views of the file."""
    recording = Recording(started_ns=started_ns, ended_ns=ended_ns)
    keep = dict(_topics(cell))
    with Bag(folder) as bag:
        for item in bag.messages(keep.keys(), started_ns, ended_ns + 1):
            try:
                keep[item.topic](recording, item)
            except (StageError, json.JSONDecodeError) as error:
                recording.malformed.append(f"{item.topic}: {error}")
        recording.malformed += [f"{problem.topic}: {problem.text}" for problem in bag.problems.of(Trouble.MALFORMED)]
    return recording


def _topics(cell: Cell) -> Iterator[tuple[str, Keep]]:
    for camera in cell.cameras:
        yield topics.camera_image(camera.name), _picture(camera.name)
    for expert in Expert:
        yield topics.chunk(expert), _chunk
    for name in (cell.controllers.arm_topic, cell.controllers.gripper_topic):
        yield name, _trajectory(name)
    yield topics.JOINT_STATES, _joint_state
    yield topics.IMAGINATION, _imagination
    yield topics.GATE_STATE, _gate
    yield SCORE, _score
    yield topics.AUDITOR_VERDICT, _verdict


def _picture(camera: str) -> Keep:
    def keep(recording: Recording, item: Recorded) -> None:
        picture = Picture(messages.stamp_from_message(item.message.header.stamp), messages.image_from_message(item.message))
        recording.pictures.setdefault(camera, []).append(Received(item.time_ns, picture))

    return keep


def _trajectory(name: str) -> Keep:
    def keep(recording: Recording, item: Recorded) -> None:
        recording.trajectories.setdefault(name, []).append(Received(item.time_ns, item.message, item.published_ns))

    return keep


def _chunk(recording: Recording, item: Recorded) -> None:
    chunk = messages.chunk_from_message(item.message)
    recording.chunks[chunk.source].append(Received(item.time_ns, chunk))


def _joint_state(recording: Recording, item: Recorded) -> None:
    recording.joint_states.append(Received(item.time_ns, messages.joint_state_from_message(item.message)))


def _imagination(recording: Recording, item: Recorded) -> None:
    recording.imaginations.append(Received(item.time_ns, messages.imagination_from_message(item.message)))


def _gate(recording: Recording, item: Recorded) -> None:
    recording.gate.append(Received(item.time_ns, messages.gate_state_from_message(item.message)))


def _score(recording: Recording, item: Recorded) -> None:
    recording.scores.append(Received(item.time_ns, json.loads(item.message.data)))


def _verdict(recording: Recording, item: Recorded) -> None:
    recording.live_verdict = json.loads(item.message.data)
