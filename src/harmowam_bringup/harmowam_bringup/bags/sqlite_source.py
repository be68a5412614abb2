"""Reads rosbag2's sqlite3 files of every schema; of truncated ones, what is left."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

from harmowam_bringup.bags.problems import Problems, Trouble
from harmowam_bringup.bags.source import Channel

MAGIC = b"SQLite format 3\0"


class SqliteSource:
    """One .db3 file; ValueError if it is none."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self._name, self._problems = path.name, problems
        self.custom_data: dict[str, str] = {}
        with path.open("rb") as file:
            head = file.read(100)
        if head[: len(MAGIC)] != MAGIC or len(head) < 100:
            raise ValueError(f"{path} is no sqlite3 file")
        page = struct.unpack_from(">H", head, 16)[0]
        whole = struct.unpack_from(">I", head, 28)[0] * (65536 if page == 1 else page)
        # Without its log beside it, the file may lie where we cannot write, and need not be locked.
        unclosed = path.with_name(path.name + "-wal").exists() or path.with_name(path.name + "-journal").exists()
        address = f"{path.resolve().as_uri()}?mode=ro" + ("" if unclosed else "&immutable=1")
        self._db = sqlite3.connect(address, uri=True, check_same_thread=False)
        self._truncated = path.stat().st_size < whole
        try:
            if self._truncated:
                self._report(Trouble.TRUNCATED, f"has {path.stat().st_size} of {whole} bytes; what is left was read in the file's order")
                self._db.execute("PRAGMA writable_schema=ON")  # or SQLite refuses to look at it at all
            self.channels = {channel.id: channel for channel in self._read_channels()}
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._db.close()
            raise ValueError(f"{path} is no rosbag2: {error}") from error
        self.counts = dict.fromkeys(self.channels, 0)
        self.bounds_ns: tuple[int, int] | None = None
        self._look()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._db.execute(f"PRAGMA table_info({table})")}

    def _read_channels(self) -> Iterator[Channel]:
        definitions = {}
        if self._columns("message_definitions"):
            rows = self._db.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions")
            definitions = {msgtype: (encoding, text) for msgtype, encoding, text in rows}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in self._columns("topics") else "''"
        for number, topic, msgtype, form, profiles in self._db.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics"):
            if form != "cdr":
                self._problems.add(Trouble.UNKNOWN_TYPE, topic, f"messages are encoded as '{form}', expected cdr")
                continue
            if isinstance(topic, str) and isinstance(msgtype, str):
                yield Channel(number, topic, msgtype, profiles or "", *definitions.get(msgtype, ("", "")))

    def _look(self) -> None:
        """Count messages; where the file is damaged, one by one."""
        try:
            if self._truncated:
                raise sqlite3.DatabaseError("truncated")
            self.counts |= dict(self._db.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
            low, high = self._db.execute("SELECT min(timestamp), max(timestamp) FROM messages").fetchone()
            self.bounds_ns = (low, high) if low is not None else None
        except sqlite3.DatabaseError as error:
            if not self._truncated:
                self._truncated = True
                self._report(Trouble.DAMAGED, f"{error}; what can be read was read in the file's order")
            times = []
            for time_ns, _, number, _ in self.messages(set(self.channels), 0, 2**63 - 1):
                self.counts[number] += 1
                times.append(time_ns)
            self.bounds_ns = (min(times), max(times)) if times else None

    def messages(self, channels: set[int], start_ns: int, end_ns: int) -> Iterator[tuple[int, int, int, bytes]]:
        """As of Source; of a damaged file in the order it was written, for its index cannot be trusted."""
        marks = ",".join("?" * len(channels))
        if self._truncated:  # "+" keeps SQLite off the index
            query = f"SELECT timestamp, topic_id, data FROM messages WHERE +timestamp >= ? AND timestamp < ? AND topic_id IN ({marks})"
        else:
            query = (
                f"SELECT timestamp, topic_id, data FROM messages WHERE timestamp >= ? AND timestamp < ? AND topic_id IN ({marks}) "
                "ORDER BY timestamp, id"
            )
        try:
            for time_ns, number, data in self._db.execute(query, (start_ns, end_ns, *channels)):
                if isinstance(time_ns, int) and isinstance(data, bytes):
                    yield time_ns, time_ns, number, data
                else:  # in a damaged file anything may stand anywhere
                    self._report(Trouble.DAMAGED, "a message has no time or no content")
        except sqlite3.DatabaseError as error:
            if not self._truncated:
                self._report(Trouble.DAMAGED, f"reading ended early: {error}")

    def _report(self, trouble: Trouble, text: str) -> None:
        self._problems.add(trouble, self._name, text)
