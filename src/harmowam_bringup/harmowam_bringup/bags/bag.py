"""The one reader of rosbag2 recordings: MCAP or sqlite3, compressed or not, one file or several, whole or damaged.

    with Bag(path) as bag:
        for item in bag.messages({"/joint_states"}):
            item.topic, item.time_ns, item.message

What is wrong is collected in ``bag.problems``; only a path that holds no recording at all is an error.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import yaml
import zstandard

from harmowam_bringup.bags.mcap_source import McapSource
from harmowam_bringup.bags.message_types import Decoder, DefinitionError, MalformedError, UnknownTypeError, decoder, differing
from harmowam_bringup.bags.problems import Problems, Trouble
from harmowam_bringup.bags.source import Channel, Source
from harmowam_bringup.bags.sqlite_source import SqliteSource
from harmowam_bringup.bags.stamps import SENSED, StampWatch, stamp_of
from harmowam_core.stamp_clock import published_ns

OPENERS: dict[str, Callable[[Path, Problems], Source]] = {".mcap": McapSource, ".db3": SqliteSource}
COMPRESSED_FILE = ".zstd"
ZSTD = b"\x28\xb5\x2f\xfd"
"""How compressed data begin, and no serialized message does."""
FOREVER_NS = 2**63 - 1
BLOCK = 2**20


class BagError(ValueError):
    """There is no recording; the message names the path and says what is there instead."""


@dataclass(frozen=True)
class Topic:
    """A recorded topic; qos: the profiles its publishers offered, YAML (rosbag2's own form), or ""."""

    name: str
    msgtype: str
    count: int
    qos: str


@dataclass(frozen=True)
class Raw:
    """A message as it was recorded; ``data`` may be a view of the file."""

    topic: str
    time_ns: int
    msgtype: str
    data: bytes | memoryview


@dataclass(frozen=True)
class Recorded:
    """A decoded message, its fields as of ROS but arrays as NumPy's; ``stamp_ns`` is None without a header, or where that is 0; ``sent_ns``
    is ``time_ns``, when it was recorded, where the format has no other time.
    """

    topic: str
    time_ns: int
    sent_ns: int
    stamp_ns: int | None
    message: Any

    @property
    def published_ns(self) -> int:
        """When it was sent, by the recorder's clock."""
        return published_ns(self.sent_ns, self.time_ns)


class Bag:
    """A recording: the folder with metadata.yaml and files, or one of its files. Times are ns of the recorder's clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems = Problems()
        self._stack = ExitStack()
        self._watched: set[str] = set()
        self._refused: set[str] = set()
        self._undefined: set[str] = set()
        try:
            metadata, files = self._find()
            self._sources = [source for file in files if (source := self._open(file)) is not None]
            if not self._sources:
                found = "; ".join(problem.text for problem in self.problems) or "it has no .mcap or .db3 file"
                raise BagError(f"{path} is not a readable rosbag2: {found}")
            self.topics = self._topics(metadata)
        except BaseException:
            self._stack.close()
            raise
        bounds = [source.bounds_ns for source in self._sources if source.bounds_ns is not None]
        self.started_ns = min((low for low, _ in bounds), default=0)
        self.ended_ns = max((high for _, high in bounds), default=0)
        self.custom_data: dict[str, str] = {}
        for source in self._sources:
            self.custom_data.update(source.custom_data)
        written = metadata.get("custom_data")
        self.custom_data.update(written if isinstance(written, dict) else {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._stack.close()

    @property
    def duration_s(self) -> float:
        """Seconds from the first to the last message."""
        return (self.ended_ns - self.started_ns) / 1e9

    def require(self, *topics: str) -> list[str]:
        """Those of the topics that were not recorded; each is reported."""
        missing = [topic for topic in topics if not (topic in self.topics and self.topics[topic].count)]
        for topic in missing:
            self.problems.add(Trouble.TOPIC_MISSING, topic, "announced, but nothing came" if topic in self.topics else "was not recorded")
        return missing

    def raw(self, topics: Collection[str] | None = None, start_ns: int = 0, end_ns: int = FOREVER_NS) -> Iterator[Raw]:
        """Messages of these topics (None: of all) in order of time, serialized."""
        for channel, time_ns, _, data in self._stream(topics, start_ns, end_ns):
            yield Raw(channel.topic, time_ns, channel.msgtype, data)

    def messages(
        self, topics: Collection[str] | Mapping[str, Collection[str]] | None = None, start_ns: int = 0, end_ns: int = FOREVER_NS
    ) -> Iterator[Recorded]:
        """Messages of these topics (None: of all) in order of time, decoded; what cannot be is reported and left out.

        Where ``topics`` names the types that each may have, so are those of other types, or of other definitions of them.
        Gaps and odd stamps are reported the first time that a topic is read.
        """
        decoders: dict[Channel, Decoder | None] = {}
        watches: dict[str, StampWatch] = {}
        watched = set(self._watched)
        for channel, time_ns, sent_ns, data in self._stream(topics, start_ns, end_ns):
            if channel not in decoders:
                decoders[channel] = self._decoder(channel, topics[channel.topic] if isinstance(topics, Mapping) else ())
            decode = decoders[channel]
            if decode is None:
                continue
            try:
                message = decode(data)
            except MalformedError as error:
                self.problems.add(Trouble.MALFORMED, channel.topic, str(error), time_ns)
                continue
            stamp_ns = stamp_of(message)
            if channel.topic not in watched:
                if channel.topic not in watches:
                    watches[channel.topic] = StampWatch(channel.topic, self.problems)
                    self._watched.add(channel.topic)
                watches[channel.topic].see(stamp_ns if channel.msgtype in SENSED else None, time_ns)
            yield Recorded(channel.topic, time_ns, sent_ns, stamp_ns, message)

    def decoder(self, topic: str, wanted: Collection[str]) -> Decoder | None:
        """What decodes a recorded topic's raw messages; None, which is reported, if its type is not ``wanted`` or nobody knows it."""
        channels = (channel for source in self._sources for channel in source.channels.values() if channel.topic == topic)
        return self._decoder(next(channels), wanted)

    def _stream(self, topics: Collection[str] | None, start_ns: int, end_ns: int) -> Iterator[tuple[Channel, int, int, bytes | memoryview]]:
        def of(source: Source) -> Iterator[tuple[Channel, int, int, bytes | memoryview]]:
            wanted = {number for number, channel in source.channels.items() if topics is None or channel.topic in topics}
            if wanted:
                for time_ns, sent_ns, number, data in source.messages(wanted, start_ns, end_ns):
                    yield source.channels[number], time_ns, sent_ns, data

        streams = [of(source) for source in self._sources]
        stream = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=lambda item: item[1])
        return self._decompressed(stream)

    def _decompressed(
        self, stream: Iterator[tuple[Channel, int, int, bytes | memoryview]]
    ) -> Iterator[tuple[Channel, int, int, bytes | memoryview]]:
        """Messages that were compressed one by one tell so themselves."""
        for channel, time_ns, sent_ns, data in stream:
            if data[:4] == ZSTD:
                try:
                    data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
                except zstandard.ZstdError as error:
                    self.problems.add(Trouble.MALFORMED, channel.topic, f"a message cannot be decompressed: {error}", time_ns)
                    continue
            yield channel, time_ns, sent_ns, data

    def _decoder(self, channel: Channel, wanted: Collection[str]) -> Decoder | None:
        if wanted and (why := _unfit(channel, wanted)):
            if channel.topic not in self._refused:
                self._refused.add(channel.topic)
                self.problems.add(Trouble.REFUSED, channel.topic, why, count=self.topics[channel.topic].count)
            return None
        count = self.topics[channel.topic].count
        try:
            try:
                return _decoder(channel.msgtype, channel.encoding, channel.definition)
            except DefinitionError as error:
                decode = _decoder(channel.msgtype)
                if channel.topic not in self._undefined:
                    self._undefined.add(channel.topic)
                    self.problems.add(Trouble.DAMAGED, channel.topic, f"{error}; read by the installed definition", count=count)
                return decode
        except UnknownTypeError as error:
            self.problems.add(Trouble.UNKNOWN_TYPE, channel.topic, str(error), count=count)
            return None

    # ---- files ---------------------------------------------------------------------------------------------------------

    def _find(self) -> tuple[dict[str, Any], list[Path]]:
        """What metadata.yaml says, and the files in their order; files it does not know are found all the same."""
        if not self.path.exists():
            raise BagError(f"there is no {self.path}")
        if self.path.is_file():
            return {}, [self.path]
        metadata: dict[str, Any] = {}
        listed: list[str] = []
        try:
            metadata = yaml.safe_load((self.path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
            listed = [PurePath(name).name for name in metadata.get("relative_file_paths") or []]
            mode, form = str(metadata.get("compression_mode", "")).lower(), metadata.get("compression_format")
            if mode in ("file", "message") and form != "zstd":
                raise BagError(f"{self.path} is compressed by '{form}', expected zstd; convert it with `ros2 bag convert`")
        except BagError:
            raise
        except FileNotFoundError:
            self.problems.add(Trouble.METADATA, "metadata.yaml", "is missing: the recorder was interrupted")
        except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            metadata = {}
            self.problems.add(Trouble.METADATA, "metadata.yaml", f"cannot be used: {type(error).__name__}: {error}")
        there = sorted(path for path in self.path.iterdir() if path.name.removesuffix(COMPRESSED_FILE).endswith(tuple(OPENERS)))
        names = {path.name.removesuffix(COMPRESSED_FILE): path for path in there}
        for name in listed:
            if name.removesuffix(COMPRESSED_FILE) not in names:
                self.problems.add(Trouble.FILE_MISSING, name, "metadata.yaml lists it")
        ordered = [names.pop(name) for name in (listed_name.removesuffix(COMPRESSED_FILE) for listed_name in listed) if name in names]
        return metadata, ordered + list(names.values())

    def _open(self, path: Path) -> Source | None:
        suffixes = PurePath(path.name.removesuffix(COMPRESSED_FILE)).suffixes
        opener = OPENERS.get(suffixes[-1] if suffixes else "")
        if opener is None:
            self.problems.add(Trouble.DAMAGED, path.name, f"is neither of {', '.join(OPENERS)}")
            return None
        try:
            source = opener(self._unpacked(path) if path.name.endswith(COMPRESSED_FILE) else path, self.problems)
        except (ValueError, OSError) as error:
            self.problems.add(Trouble.DAMAGED, path.name, str(error))
            return None
        self._stack.callback(source.close)
        return source

    def _unpacked(self, path: Path) -> Path:
        """A compressed file in a folder that goes with the bag; of a cut-off one, what is left."""
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="harmowam-bag-")))
        unpacked = folder / path.name.removesuffix(COMPRESSED_FILE)
        whole = False
        try:
            with path.open("rb") as packed, unpacked.open("wb") as out:
                frame = zstandard.ZstdDecompressor().decompressobj()
                while data := packed.read(BLOCK):
                    while data:
                        frame = zstandard.ZstdDecompressor().decompressobj() if frame.eof else frame
                        out.write(frame.decompress(data))
                        data = frame.unused_data if frame.eof else b""
                whole = frame.eof
        except zstandard.ZstdError as error:
            self.problems.add(Trouble.DAMAGED, path.name, f"cannot be decompressed to its end: {error}")
        else:
            if not whole:
                self.problems.add(Trouble.TRUNCATED, path.name, "ends before its compressed content does")
        return unpacked

    def _topics(self, metadata: dict[str, Any]) -> dict[str, Topic]:
        profiles: dict[str, str] = {}
        try:
            for entry in metadata.get("topics_with_message_count") or []:
                about = entry["topic_metadata"]
                offered = about.get("offered_qos_profiles") or ""
                profiles[about["name"]] = offered if isinstance(offered, str) else yaml.safe_dump(offered)
        except (KeyError, TypeError, AttributeError) as error:
            self.problems.add(Trouble.METADATA, "metadata.yaml", f"its topics cannot be read: {type(error).__name__}: {error}")
        found: dict[str, Topic] = {}
        for source in self._sources:
            for number, channel in source.channels.items():
                known = found.get(channel.topic)
                count = source.counts.get(number, 0) + (known.count if known else 0)
                qos = channel.qos or profiles.get(channel.topic, "")
                found[channel.topic] = Topic(channel.topic, channel.msgtype, count, qos)
        return dict(sorted(found.items()))


_decoder, _differing = cache(decoder), cache(differing)


def _unfit(channel: Channel, wanted: Collection[str]) -> str:
    """Why messages are not what is wanted; "" if they are."""
    if channel.msgtype not in wanted:
        return f"is {channel.msgtype}, expected {' or '.join(wanted)}"
    fields = _differing(channel.msgtype, channel.encoding, channel.definition)
    return f"was recorded with another definition of {channel.msgtype}, which differs in {', '.join(fields)}" if fields else ""
