"""What one file of a bag holds, whatever its format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Channel:
    """One topic in one file. qos: the profiles offered, YAML, or ""; encoding, definition: of the type, "" where the file has none."""

    id: int
    topic: str
    msgtype: str
    qos: str = ""
    encoding: str = ""
    definition: str = ""


class Source(Protocol):
    """An opened file: its topics, messages by channel, first and last time (ns), and what its metadata says of the run."""

    channels: dict[int, Channel]
    counts: dict[int, int]
    bounds_ns: tuple[int, int] | None
    custom_data: dict[str, str]

    def messages(self, channels: set[int], start_ns: int, end_ns: int) -> Iterator[tuple[int, int, int, bytes | memoryview]]:
        """(time_ns, sent_ns, channel, serialized message) in order of time, from ``start_ns`` to before ``end_ns``; sent when recorded,
        where the format does not say.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
