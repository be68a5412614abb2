"""Reads MCAP files: any that are complete, and of damaged or unclosed ones, all up to the damage.

The file is mapped into memory and walked record by record, so that neither footer nor index is needed; messages of chunks that are not
compressed are views of it, without a copy.
"""

from __future__ import annotations

import heapq
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import lz4.frame
import yaml
import zstandard
from mcap import records
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode

from harmowam_bringup.bags.problems import Problems, Trouble
from harmowam_bringup.bags.source import Channel

MAGIC = b"\x89MCAP0\r\n"
_HEAD = struct.Struct("<BQ")  # opcode, length of what follows
_CHUNK = struct.Struct("<QQQII")  # start, end, uncompressed size, CRC, length of the compression's name
_MESSAGE = struct.Struct("<HIQQ")  # channel, sequence, log time, publish time
_INDEX = struct.Struct("<HI")  # channel, bytes of entries
_INDEX_ENTRY = 16


@dataclass
class _Chunk:
    """Where a chunk's records are; ``counts`` (messages by channel) is None where no index tells."""

    start_ns: int
    end_ns: int
    compression: str
    offset: int
    length: int
    size: int
    counts: dict[int, int] | None = None


class McapSource:
    """One MCAP file; ValueError if it is none."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self._name, self._problems = path.name, problems
        self.channels: dict[int, Channel] = {}
        self.custom_data: dict[str, str] = {}
        self._schemas: dict[int, records.Schema] = {}
        self._chunks: list[_Chunk] = []
        self._loose: list[tuple[int, int, int, int, int]] = []  # messages outside of chunks: time, sent, channel, offset, length
        self._reported: set[int] = set()
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError(f"{path} is no MCAP file")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        complete = self._walk()
        if not complete and self._chunks:
            self._chunks[-1].counts = None  # its index may be cut off
        if not complete or not self.channels or any(chunk.counts is None for chunk in self._chunks):
            self._look_into_chunks()
        self.counts = self._count()
        times = [time for chunk in self._chunks if chunk.end_ns for time in (chunk.start_ns, chunk.end_ns)]
        times += [message[0] for message in self._loose]
        self.bounds_ns: tuple[int, int] | None = (min(times), max(times)) if times else None

    def close(self) -> None:
        """Let go of the file; views of it that are still in use keep it mapped."""
        try:
            self._view.release()
            self._map.close()
        except BufferError:
            pass

    def messages(self, channels: set[int], start_ns: int, end_ns: int) -> Iterator[tuple[int, int, int, bytes | memoryview]]:
        """As of Source: chunks overlap in time, so messages of those that have begun are merged."""
        waiting: list[tuple[int, int, int, int, bytes | memoryview]] = []
        order = 0
        for time_ns, sent_ns, channel, offset, length in sorted(self._loose):
            if channel in channels and start_ns <= time_ns < end_ns:
                waiting.append((time_ns, order, sent_ns, channel, self._view[offset : offset + length]))
                order += 1
        for chunk in sorted(self._chunks, key=lambda chunk: chunk.start_ns):
            if chunk.end_ns < start_ns or chunk.start_ns >= end_ns or (chunk.counts is not None and not channels & chunk.counts.keys()):
                continue
            while waiting and waiting[0][0] < chunk.start_ns:
                time_ns, _, sent_ns, channel, data = heapq.heappop(waiting)
                yield time_ns, sent_ns, channel, data
            for time_ns, sent_ns, channel, data in self._messages_of(chunk):
                if channel in channels and start_ns <= time_ns < end_ns:
                    heapq.heappush(waiting, (time_ns, order, sent_ns, channel, data))
                    order += 1
        while waiting:
            time_ns, _, sent_ns, channel, data = heapq.heappop(waiting)
            yield time_ns, sent_ns, channel, data

    # ---- the file's structure -------------------------------------------------------------------------------------------

    def _walk(self) -> bool:
        """Find channels, chunks and messages at the top level; whether the file ends as it should."""
        position, size = len(MAGIC), len(self._view)
        last: _Chunk | None = None
        while position + _HEAD.size <= size:
            opcode, length = _HEAD.unpack_from(self._view, position)
            begin = position + _HEAD.size
            position = begin + length
            if not Opcode.HEADER <= opcode <= Opcode.DATA_END and opcode < 0x80:
                self._report(Trouble.DAMAGED, f"byte {begin - _HEAD.size} begins with {opcode}, which is no record; the rest was not read")
                return False
            if position > size:
                if opcode == Opcode.CHUNK:
                    self._add_chunk(begin, size)
                break
            if opcode == Opcode.CHUNK:
                last = self._add_chunk(begin, position)
            elif opcode == Opcode.MESSAGE_INDEX and last is not None and length >= _INDEX.size:
                channel, entries = _INDEX.unpack_from(self._view, begin)
                last.counts = last.counts or {}
                if entries:
                    last.counts[channel] = entries // _INDEX_ENTRY
            elif opcode == Opcode.FOOTER:
                return True
            else:
                self._note(opcode, begin, position, self._view)
        self._report(Trouble.TRUNCATED, f"ends at byte {size} without a footer: the recorder was interrupted, or the file was cut")
        return False

    def _add_chunk(self, begin: int, end: int) -> _Chunk | None:
        try:
            start_ns, end_ns, size, _, name = _CHUNK.unpack_from(self._view, begin)
            text = begin + _CHUNK.size
            compression = bytes(self._view[text : text + name]).decode()
            (length,) = struct.unpack_from("<Q", self._view, text + name)
        except (struct.error, UnicodeDecodeError):
            return None  # cut off within its head
        offset = text + name + 8
        if start_ns == end_ns == 0 and size:  # a writer that does not say when
            end_ns = 2**63
        self._chunks.append(_Chunk(start_ns, end_ns, compression, offset, min(length, end - offset), size))
        return self._chunks[-1]

    def _note(self, opcode: int, begin: int, end: int, view: memoryview) -> None:
        """Remember schemas, channels, metadata, and messages outside of chunks."""
        if opcode == Opcode.MESSAGE:
            if view is self._view and end - begin >= _MESSAGE.size:
                channel, _, time_ns, sent_ns = _MESSAGE.unpack_from(view, begin)
                self._loose.append((time_ns, sent_ns, channel, begin + _MESSAGE.size, end - begin - _MESSAGE.size))
            return
        if opcode not in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.METADATA):
            return
        stream = ReadDataStream(BytesIO(bytes(view[begin:end])))
        try:
            if opcode == Opcode.SCHEMA:
                schema = records.Schema.read(stream)
                self._schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                self._add_channel(records.Channel.read(stream))
            else:
                self._add_metadata(records.Metadata.read(stream))
        except (McapError, struct.error, UnicodeDecodeError) as error:
            self._report(Trouble.DAMAGED, f"a {Opcode(opcode).name.lower()} record cannot be read: {error}")

    def _add_channel(self, channel: records.Channel) -> None:
        if channel.message_encoding != "cdr":
            self._problems.add(Trouble.UNKNOWN_TYPE, channel.topic, f"messages are encoded as '{channel.message_encoding}', expected cdr")
            return
        schema = self._schemas.get(channel.schema_id)
        self.channels[channel.id] = Channel(
            channel.id,
            channel.topic,
            schema.name if schema else "",
            channel.metadata.get("offered_qos_profiles", ""),
            schema.encoding if schema else "",
            schema.data.decode(errors="replace") if schema else "",
        )

    def _add_metadata(self, metadata: records.Metadata) -> None:
        """What rosbag2 would have written to metadata.yaml; what ours records of a run."""
        if metadata.name == "rosbag2":
            try:
                read = yaml.safe_load(metadata.metadata.get("serialized_metadata", "")) or {}
                self.custom_data.update((read.get("rosbag2_bagfile_information", read)).get("custom_data") or {})
            except (yaml.YAMLError, AttributeError) as error:
                self._report(Trouble.METADATA, f"its metadata record cannot be read: {error}")
        else:
            self.custom_data.update(metadata.metadata)

    # ---- inside chunks -----------------------------------------------------------------------------------------------------

    def _look_into_chunks(self) -> None:
        """Find channels, and count messages, where no index tells."""
        for chunk in self._chunks:
            if chunk.counts is not None and self.channels.keys() >= chunk.counts.keys():
                continue
            chunk.counts = {}
            for _, _, channel, _ in self._messages_of(chunk):
                chunk.counts[channel] = chunk.counts.get(channel, 0) + 1

    def _messages_of(self, chunk: _Chunk) -> Iterator[tuple[int, int, int, memoryview]]:
        """(time_ns, sent_ns, channel, message) in the file's order, as far as the chunk is whole; notes its channels."""
        view = self._contents(chunk)
        position, size = 0, len(view)
        while position + _HEAD.size <= size:
            opcode, length = _HEAD.unpack_from(view, position)
            begin = position + _HEAD.size
            position = begin + length
            if position > size or (opcode == Opcode.MESSAGE and length < _MESSAGE.size):
                break
            if opcode == Opcode.MESSAGE:
                channel, _, time_ns, sent_ns = _MESSAGE.unpack_from(view, begin)
                yield time_ns, sent_ns, channel, view[begin + _MESSAGE.size : position]
            else:
                self._note(opcode, begin, position, view)
        if position != chunk.size and chunk.offset not in self._reported:
            self._reported.add(chunk.offset)
            self._problems.add(Trouble.TRUNCATED, self._name, "a chunk is cut off", chunk.start_ns)

    def _contents(self, chunk: _Chunk) -> memoryview:
        stored = self._view[chunk.offset : chunk.offset + chunk.length]
        if not chunk.compression:
            return stored
        try:
            if chunk.compression == "zstd":
                return memoryview(zstandard.ZstdDecompressor().decompressobj().decompress(stored))
            if chunk.compression == "lz4":
                return memoryview(lz4.frame.LZ4FrameDecompressor().decompress(stored))
            words = f"a chunk is compressed by '{chunk.compression}', expected zstd or lz4"
        except (zstandard.ZstdError, RuntimeError) as error:
            words = f"a chunk cannot be decompressed: {error}"
        if chunk.offset not in self._reported:
            self._reported.add(chunk.offset)
            self._problems.add(Trouble.DAMAGED, self._name, words, chunk.start_ns)
        return memoryview(b"")

    def _count(self) -> dict[int, int]:
        counts = dict.fromkeys(self.channels, 0)
        for chunk in self._chunks:
            for channel, count in (chunk.counts or {}).items():
                counts[channel] = counts.get(channel, 0) + count
        for _, _, channel, _, _ in self._loose:
            counts[channel] = counts.get(channel, 0) + 1
        return counts

    def _report(self, trouble: Trouble, text: str) -> None:
        self._problems.add(trouble, self._name, text)
