"""Writes a rosbag2 folder: one MCAP file, and metadata.yaml from the beginning, so that a recording that is killed is one all the same."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Lock, Thread
from types import TracebackType
from typing import Any, Self

import yaml

from harmowam_bringup.bags.mcap_sink import McapSink, PendingChunk
from harmowam_bringup.bags.message_types import definition_of, type_hash

VERSION = 9
FLUSH_S = 0.5
"""Age at which a chunk is written; with the time that takes, less than a second is lost by a kill."""
CHUNK_BYTES = 4 * 2**20
BACKLOG_BYTES = 512 * 2**20
"""What may wait for a slow disk before messages are refused."""
RESERVE_BYTES = 2**20
"""Kept free in the bag's folder, so that a recording on a full disk can still be closed."""


@dataclass(frozen=True)
class RecordedTopic:
    """A topic being recorded; large ones (images) get chunks of their own. qos: profiles in rosbag2's form, ready for YAML."""

    name: str
    msgtype: str
    qos: tuple[Mapping[str, Any], ...] = ()
    large: bool = False


class BagWriter:
    """``add_topic``, ``write`` from one thread; the disk is written by another. Nothing raises because of the disk: see ``error``."""

    def __init__(self, folder: Path, custom_data: Mapping[str, str]) -> None:
        """FileExistsError if the folder is there already."""
        folder.mkdir(parents=True)
        self.folder = folder
        self.error: OSError | None = None
        self.refused = 0
        self.custom_data = dict(custom_data)
        self._topics: dict[int, RecordedTopic] = {}
        self._pending: dict[str, tuple[float, PendingChunk]] = {}
        self._sequences: dict[int, int] = {}
        self._queue: deque[PendingChunk] = deque()
        self._queued_bytes = 0
        self._changed = Condition()  # of the queue
        self._disk = Lock()  # the file
        self._ending = False
        self._reserve = folder / ".reserve"
        self._sink = McapSink(folder / f"{folder.name}_0.mcap")
        with self._reserve.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
        self._sink.add_metadata("harmowam", self.custom_data)
        self._write_metadata()
        self._thread = Thread(target=self._work, name="bag writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._sink.size

    @property
    def counts(self) -> dict[str, int]:
        """Messages on disk by topic."""
        return {topic.name: self._sink.counts.get(channel, 0) for channel, topic in self._topics.items()}

    def add_topic(self, topic: RecordedTopic) -> int:
        """Announce a topic before its first message; returns its number for ``write``. UnknownTypeError if its type is not installed."""
        definition = definition_of(topic.msgtype)
        channel = len(self._topics) + 1
        self._topics[channel] = topic
        with self._disk, self._attempt():
            self._sink.add_channel(topic.name, topic.msgtype, definition, yaml.safe_dump([dict(profile) for profile in topic.qos]))
            self._write_metadata()
        return channel

    def note(self, name: str, value: str) -> None:
        """Add a fact to the bag's metadata."""
        self.custom_data[name] = value
        with self._disk, self._attempt():
            self._write_metadata()

    def write(self, channel: int, received_ns: int, sent_ns: int, data: bytes) -> None:
        """A serialized message; it is on disk within a second."""
        topic = self._topics[channel]
        group = topic.name if topic.large else ""
        now_s = time.monotonic()
        began_s, chunk = self._pending.get(group) or (now_s, PendingChunk())
        self._pending[group] = began_s, chunk
        self._sequences[channel] = sequence = self._sequences.get(channel, 0) + 1
        chunk.add(channel, sequence, received_ns, sent_ns, data)
        if chunk.size >= CHUNK_BYTES:
            self._hand_over(group)

    def flush(self, age_s: float = FLUSH_S) -> None:
        """Hand chunks of this age to the disk; to be called a few times a second."""
        now_s = time.monotonic()
        for group in [group for group, (began_s, _) in self._pending.items() if now_s - began_s >= age_s]:
            self._hand_over(group)

    def wait_for_disk(self) -> None:
        """Let the disk catch up: for writers that need not keep pace with a graph."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued_bytes < BACKLOG_BYTES // 4 or self.error is not None)

    def close(self) -> None:
        """Write what is left, the index and the final metadata.yaml."""
        if self._ending:
            return
        self.flush(0.0)
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        self._reserve.unlink(missing_ok=True)
        with self._attempt():
            self._sink.add_metadata("harmowam", self.custom_data)
            self._sink.add_metadata("rosbag2", {"serialized_metadata": yaml.safe_dump(self._metadata())})
        with self._attempt():
            self._sink.finish()
        self._sink.abandon()
        with self._attempt():
            self._write_metadata()

    def _hand_over(self, group: str) -> None:
        _, chunk = self._pending.pop(group)
        with self._changed:
            if self.error is not None or self._queued_bytes + chunk.size > BACKLOG_BYTES:
                self.refused += sum(len(entries) for entries in chunk.index.values())
                return
            self._queue.append(chunk)
            self._queued_bytes += chunk.size
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._ending)
                if not self._queue:
                    return
                chunk = self._queue.popleft()
            with self._disk, self._attempt():
                if self.error is None:
                    self._sink.add_chunk(chunk)
            with self._changed:
                self._queued_bytes -= chunk.size
                self._changed.notify_all()

    @contextlib.contextmanager
    def _attempt(self) -> Any:
        """The first error of the disk ends the recording, but not the process."""
        try:
            yield
        except OSError as error:
            self.error = self.error or error

    def _metadata(self) -> dict[str, Any]:
        start_ns, end_ns = self._sink.bounds_ns or (0, 0)
        span = {"starting_time": {"nanoseconds_since_epoch": start_ns}, "duration": {"nanoseconds": end_ns - start_ns}}
        count = sum(self._sink.counts.values())
        return {
            "version": VERSION,
            "storage_identifier": "mcap",
            **span,
            "message_count": count,
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": topic.name,
                        "type": topic.msgtype,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": [dict(profile) for profile in topic.qos],
                        "type_description_hash": type_hash(topic.msgtype),
                    },
                    "message_count": self._sink.counts.get(channel, 0),
                }
                for channel, topic in self._topics.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self._sink.path.name],
            "files": [{"path": self._sink.path.name, **span, "message_count": count}],
            "custom_data": self.custom_data,
            "ros_distro": os.environ.get("ROS_DISTRO", "jazzy"),
        }

    def _write_metadata(self) -> None:
        """Complete or as before, never half."""
        path = self.folder / "metadata.yaml"
        part = path.with_suffix(".part")
        part.write_text(yaml.safe_dump({"rosbag2_bagfile_information": self._metadata()}, sort_keys=False))
        part.replace(path)
