"""What is wrong with a recording, as data: reading goes on and says at the end what it could not use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Trouble(str, Enum):
    """Kinds of problems."""

    METADATA = "metadata"  # metadata.yaml is missing or damaged; the files themselves were read
    FILE_MISSING = "file missing"
    TRUNCATED = "truncated"  # a file ends before its end; what came before was read
    DAMAGED = "damaged"
    UNKNOWN_TYPE = "unknown type"
    MALFORMED = "malformed"  # a message that is not what its type says
    REFUSED = "refused"  # a message whose content cannot be used: a wrong size, a missing joint, a number that is not finite
    TOPIC_MISSING = "topic missing"
    GAP = "gap"  # nothing came for longer than usual
    OUT_OF_ORDER = "out of order"  # a stamp before its predecessor's
    EQUAL_STAMPS = "equal stamps"
    LEFT_OUT = "left out"  # sound data that a conversion has no use for


@dataclass
class Problem:
    """Problems of one kind on one topic (or file): the first one's time, ns of the recorder's clock (None: not of a moment), and words."""

    trouble: Trouble
    topic: str
    time_ns: int | None
    text: str
    count: int = 1

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"trouble": self.trouble.value, "topic": self.topic, "time_ns": self.time_ns, "count": self.count, "text": self.text}


class Problems:
    """Collects problems: the first of a kind and topic is kept, the others are counted."""

    def __init__(self) -> None:
        self._found: dict[tuple[Trouble, str], Problem] = {}

    def add(self, trouble: Trouble, topic: str, text: str, time_ns: int | None = None, count: int = 1) -> None:
        """One more (or ``count`` more); ``topic`` may also name a file."""
        known = self._found.get((trouble, topic))
        if known is None:
            self._found[trouble, topic] = Problem(trouble, topic, time_ns, text, count)
        else:
            known.count += count

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def of(self, *troubles: Trouble) -> list[Problem]:
        """Those of some kinds."""
        return [problem for problem in self if problem.trouble in troubles]

    def to_json(self) -> list[dict[str, Any]]:
        """Ready for JSON."""
        return [problem.to_json() for problem in self]


def print_problems(problems: Iterable[Problem], started_ns: int, console: Console) -> None:
    """A table of problems; times are seconds since the recording's start."""
    table = Table("problem", "topic or file", "first at", "count", "about", box=None, pad_edge=False)
    for problem in problems:
        at = "" if problem.time_ns is None else f"{(problem.time_ns - started_ns) / 1e9:.2f} s"
        table.add_row(problem.trouble.value, Text(problem.topic), at, str(problem.count), Text(problem.text))
    if table.row_count:
        console.print(table)
