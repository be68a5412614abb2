"""Writes an MCAP file that stays readable whatever happens: chunks reach the file whole, in one go, at least once a second.

Messages are not copied: a chunk is a list of pieces that the system gathers (``writev``). Each group of topics has chunks of its own, so
that reading joint states does not read images.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcap import records
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode

MAGIC = b"\x89MCAP0\r\n"
PIECES = 1000
"""Most pieces in one call to the system, which allows 1024."""
_MESSAGE_HEAD = struct.Struct("<BQHIQQ")  # opcode, length; channel, sequence, log time, publish time
_CHUNK_HEAD = struct.Struct("<BQQQQIIQ")  # opcode, length; start, end, size, CRC, length of the compression's name, length of the records


@dataclass
class PendingChunk:
    """Messages of one group of topics that are not in the file yet."""

    pieces: list[bytes] = field(default_factory=list)
    index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # channel -> (log time, offset)
    size: int = 0

    def add(self, channel: int, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        """Append a serialized message."""
        head = _MESSAGE_HEAD.pack(Opcode.MESSAGE, _MESSAGE_HEAD.size - 9 + len(data), channel, sequence & 0xFFFFFFFF, log_ns, publish_ns)
        self.index.setdefault(channel, []).append((log_ns, self.size))
        self.pieces += (head, data)
        self.size += len(head) + len(data)

    @property
    def bounds_ns(self) -> tuple[int, int]:
        """First and last log time."""
        times = [time_ns for entries in self.index.values() for time_ns, _ in entries]
        return min(times), max(times)


class McapSink:
    """One MCAP file being written; to be used by one thread. OSError where the file cannot grow: it then ends with its last whole chunk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        self._end = 0
        self._schemas: list[records.Schema] = []
        self._channels: list[records.Channel] = []
        self._chunks: list[records.ChunkIndex] = []
        self._metadata: list[records.MetadataIndex] = []
        self.counts: dict[int, int] = {}
        self.bounds_ns: tuple[int, int] | None = None
        self._append([MAGIC, _record(records.Header(profile="ros2", library="harmowam"))])

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._end

    def add_channel(self, topic: str, msgtype: str, definition: str, qos: str) -> int:
        """Announce a topic; returns the channel's number."""
        schema = next((schema for schema in self._schemas if schema.name == msgtype), None)
        new = []
        if schema is None:
            schema = records.Schema(id=len(self._schemas) + 1, name=msgtype, encoding="ros2msg", data=definition.encode())
            new.append(_record(schema))
        channel = records.Channel(
            id=len(self._channels) + 1,
            topic=topic,
            message_encoding="cdr",
            metadata={"offered_qos_profiles": qos},
            schema_id=schema.id,
        )
        self._append([*new, _record(channel)])
        if new:
            self._schemas.append(schema)
        self._channels.append(channel)
        self.counts[channel.id] = 0
        return channel.id

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Facts about the recording; later ones of the same name go on top."""
        data = _record(records.Metadata(name=name, metadata=dict(values)))
        begin = self._end
        self._append([data])
        self._metadata.append(records.MetadataIndex(offset=begin, length=len(data), name=name))

    def add_chunk(self, chunk: PendingChunk) -> None:
        """Write a chunk and its index; all of it or, with an OSError, nothing."""
        start_ns, end_ns = chunk.bounds_ns
        length = _CHUNK_HEAD.size - 9 + chunk.size
        head = _CHUNK_HEAD.pack(Opcode.CHUNK, length, start_ns, end_ns, chunk.size, 0, 0, chunk.size)
        begin = self._end
        offsets, index = {}, []
        index_begin = position = begin + 9 + length
        for channel, entries in chunk.index.items():
            record = _record(records.MessageIndex(channel_id=channel, records=entries))
            offsets[channel] = position
            position += len(record)
            index.append(record)
        self._append([head, *chunk.pieces, *index])
        self._chunks.append(
            records.ChunkIndex(
                chunk_length=9 + length,
                chunk_start_offset=begin,
                compression="",
                compressed_size=chunk.size,
                message_end_time=end_ns,
                message_index_length=position - index_begin,
                message_index_offsets=offsets,
                message_start_time=start_ns,
                uncompressed_size=chunk.size,
            )
        )
        for channel, entries in chunk.index.items():
            self.counts[channel] += len(entries)
        low, high = self.bounds_ns or (start_ns, end_ns)
        self.bounds_ns = min(low, start_ns), max(high, end_ns)

    def finish(self) -> None:
        """Write the summary and close the file. OSError if it does not fit; the file is closed, and readable, all the same."""
        try:
            self._append(self._summary())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _summary(self) -> list[bytes]:
        pieces = [_record(records.DataEnd(data_section_crc=0))]
        position = start = self._end + len(pieces[0])
        start_ns, end_ns = self.bounds_ns or (0, 0)
        statistics = records.Statistics(
            attachment_count=0,
            channel_count=len(self._channels),
            channel_message_counts=self.counts,
            chunk_count=len(self._chunks),
            message_count=sum(self.counts.values()),
            message_end_time=end_ns,
            message_start_time=start_ns,
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )
        groups: dict[int, list[records.McapRecord]] = {
            Opcode.SCHEMA: [*self._schemas],
            Opcode.CHANNEL: [*self._channels],
            Opcode.STATISTICS: [statistics],
            Opcode.CHUNK_INDEX: [*self._chunks],
            Opcode.METADATA_INDEX: [*self._metadata],
        }
        offsets = []
        for opcode, group in groups.items():
            data = b"".join(_record(record) for record in group)
            if data:
                offsets.append(_record(records.SummaryOffset(group_opcode=opcode, group_start=position, group_length=len(data))))
                pieces.append(data)
                position += len(data)
        footer = _record(records.Footer(summary_start=start, summary_offset_start=position, summary_crc=0))
        return [*pieces, *offsets, footer, MAGIC]

    def _append(self, pieces: list[bytes]) -> None:
        """Add pieces to the end of the file; if they do not fit, take back what did and raise the OSError."""
        views = [memoryview(piece) for piece in pieces if piece]
        begin = self._end
        try:
            while views:
                written = os.writev(self._fd, views[:PIECES])
                self._end += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]
        except OSError:
            self._end = begin
            os.ftruncate(self._fd, begin)
            os.lseek(self._fd, begin, os.SEEK_SET)
            raise


def _record(record: records.McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return builder.end()
