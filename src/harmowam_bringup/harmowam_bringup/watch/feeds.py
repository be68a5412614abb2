"""Which topics are shown, and how: one table for live graphs and for bags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from harmowam_msgs.msg import ActionChunk, Drift, GateState, Imagination
from sensor_msgs.msg import Image, JointState

from harmowam_bringup.watch.rerun_log import RerunLog
from harmowam_core import messages, topics
from harmowam_core.cell import Cell
from harmowam_core.health import Level
from harmowam_core.stages import Expert, StageError

PERIOD_S = 0.1
"""At most so often anything is shown; what comes in between is skipped, unless a feed keeps it."""

Show = Callable[[RerunLog, Any, int], None]


@dataclass(frozen=True)
class Feed:
    """A topic that is shown; ``kept`` messages of a period are shown, the newest ones."""

    kind: type
    show: Show
    kept: int = 1


def feeds(cell: Cell) -> dict[str, Feed]:
    """By topic."""
    return {
        topics.JOINT_STATES: Feed(JointState, _joint_state),
        topics.IMAGINATION: Feed(Imagination, _imagination),
        topics.GATE_STATE: Feed(GateState, _gate, kept=5),
        topics.DRIFT: Feed(Drift, _drift),
        topics.DIAGNOSTICS: Feed(DiagnosticArray, _diagnostics, kept=20),
        **{topics.chunk(expert): Feed(ActionChunk, _chunk) for expert in Expert},
        **{topics.camera_image(camera.name): Feed(Image, partial(_image, camera.name)) for camera in cell.cameras},
    }


def with_compressed(shown: dict[str, Feed]) -> dict[str, Feed]:
    """Also compressed images, which bags may hold instead of plain ones."""
    return shown | {f"{topic}/compressed": feed for topic, feed in shown.items() if feed.kind is Image}


def show(feed: Feed, log: RerunLog, topic: str, message: Any, received_ns: int) -> None:
    """Show a message; one that cannot be used is named in the log instead."""
    try:
        feed.show(log, message, received_ns)
    except StageError as error:
        log.refused(topic, str(error), received_ns)


def _joint_state(log: RerunLog, message: Any, received_ns: int) -> None:
    log.joint_state(messages.joint_state_from_message(message), received_ns)


def _imagination(log: RerunLog, message: Any, received_ns: int) -> None:
    log.imagination(messages.imagination_from_message(message), received_ns)


def _gate(log: RerunLog, message: Any, received_ns: int) -> None:
    log.gate(messages.gate_state_from_message(message), received_ns)


def _drift(log: RerunLog, message: Any, received_ns: int) -> None:
    log.drift(messages.drift_from_message(message), received_ns)


def _chunk(log: RerunLog, message: Any, received_ns: int) -> None:
    if not len(message.arms):
        raise StageError("the expert has failed on what it was given, and says so")
    log.chunk(messages.chunk_from_message(message), received_ns)


def _image(camera: str, log: RerunLog, message: Any, received_ns: int) -> None:
    log.image(camera, messages.image_from_message(message), messages.stamp_from_message(message.header.stamp), received_ns)


def _diagnostics(log: RerunLog, message: Any, received_ns: int) -> None:
    for status in message.status:
        code = status.level if isinstance(status.level, int) else status.level[0]  # bytes in rclpy, a number in bags
        log.health(status.name, Level(min(code, Level.ERROR)), status.message, {v.key: v.value for v in status.values}, received_ns)
