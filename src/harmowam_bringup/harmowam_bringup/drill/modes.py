"""Ways in which a topic can misbehave. A mode is a class: given each message as it comes, it says what goes out, and when.

Plain Python; messages are opaque here. What has to know their type is done by the Forge.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np

from harmowam_bringup.drill.garbage import Garbage

M = TypeVar("M")

GAP_S = 0.01
"""Between messages that one arrival sets free: sent at once, the second would overwrite the first in a queue of depth 1."""
BURST_PERIOD_S = 1.0
"""Of intermittent loss."""


@dataclass(frozen=True)
class Value:
    """What a mode's value means and may be; 0 stands for ``default``."""

    meaning: str
    lower: float
    upper: float
    default: float
    whole: bool = False

    def resolve(self, mode: str, value: float) -> float:
        """The value to use; ValueError where it is out of bounds."""
        value = self.default if value == 0 else value
        if not (self.lower <= value <= self.upper and (not self.whole or value == int(value))):
            number = "a whole number" if self.whole else "a number"
            raise ValueError(f"value is {value:g}; {mode} takes {number} from {self.lower:g} to {self.upper:g}: {self.meaning}")
        return value


@dataclass(frozen=True)
class Forge(Generic[M]):
    """Changes messages of one type; both functions leave their arguments as they are."""

    restamped: Callable[[M, M], M]
    """Content of the first with the stamp of the second."""
    garbled: Callable[[M, Garbage | None, np.random.Generator], M]
    """A spoilt copy; None takes any kind of garbage."""


@dataclass(frozen=True)
class Setting(Generic[M]):
    """How a mode begins; times are steady, s. ``last`` is the message that came before, if any."""

    value: float
    started_s: float
    last: M | None
    forge: Forge[M]
    seed: int


class Mode(ABC, Generic[M]):
    """One way to misbehave, from its setting to the next."""

    name: ClassVar[str]
    does: ClassVar[str]
    takes: ClassVar[Value | None] = None

    def __init__(self, setting: Setting[M]) -> None:
        self.setting = setting

    @abstractmethod
    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """(due, s; message) of everything that this arrival makes go out, in time."""


class Pass(Mode[M]):
    """No fault."""

    name = "pass"
    does = "everything goes through as it is"

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """At once."""
        return [(now_s, message)]


class Off(Mode[M]):
    """A dead sensor or node."""

    name = "off"
    does = "nothing goes through"

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """Never."""
        return []


class Stuck(Mode[M]):
    """A driver that repeats its last frame."""

    name = "stuck"
    does = "the last content again and again, with the stamps of what comes"

    def __init__(self, setting: Setting[M]) -> None:
        super().__init__(setting)
        self._frozen = setting.last

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """The first arrival freezes where nothing came before."""
        if self._frozen is None:
            self._frozen = message
        return [(now_s, self.setting.forge.restamped(self._frozen, message))]


class Garbled(Mode[M]):
    """A producer gone mad; headers stay, so that it is the content that must be refused."""

    name = "garbage"
    does = "corrupted content under sound headers"
    takes = Value(", ".join(f"{kind.value} {kind.text}" for kind in Garbage) + "; 0 any of them in turn", 0, len(Garbage), 0, whole=True)

    def __init__(self, setting: Setting[M]) -> None:
        super().__init__(setting)
        self._kind = Garbage(int(setting.value)) if setting.value else None
        self._random = np.random.default_rng(setting.seed)

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """The same arrivals give the same garbage."""
        return [(now_s, self.setting.forge.garbled(message, self._kind, self._random))]


class Slow(Mode[M]):
    """A starved producer."""

    name = "slow"
    does = "fewer messages"
    takes = Value("messages a second", 0.01, 1000.0, 1.0)

    def __init__(self, setting: Setting[M]) -> None:
        super().__init__(setting)
        self._period_s = 1.0 / setting.value
        self._next_s = setting.started_s + self._period_s

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """At most one in every period since the start."""
        if now_s < self._next_s:
            return []
        missed = math.floor((now_s - self._next_s) / self._period_s)
        self._next_s += (missed + 1) * self._period_s
        return [(now_s, message)]


class Delayed(Mode[M]):
    """A slow network or producer: old stamps at the usual rate."""

    name = "delayed"
    does = "everything, but late"
    takes = Value("delay, s", 0.001, 10.0, 0.5)

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """Later."""
        return [(now_s + self.setting.value, message)]


class Intermittent(Mode[M]):
    """A loose contact."""

    name = "intermittent"
    does = f"a burst of loss every {BURST_PERIOD_S:g} s"
    takes = Value("share of the time in which messages are lost", 0.01, 0.99, 0.5)

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """Each period begins with its burst."""
        phase = (now_s - self.setting.started_s) % BURST_PERIOD_S / BURST_PERIOD_S
        return [] if phase < self.setting.value else [(now_s, message)]


class Duplicated(Mode[M]):
    """A network that delivers twice."""

    name = "duplicated"
    does = "every message several times"
    takes = Value("further copies of each message", 1, 10, 1, whole=True)

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """The original at once, copies right after."""
        return [(now_s + copy * GAP_S, message) for copy in range(1 + int(self.setting.value))]


class Reordered(Mode[M]):
    """A network that overtakes itself: old messages after newer ones."""

    name = "reordered"
    does = "messages overtaken by those after them"
    takes = Value("how many newer messages overtake an old one", 1, 10, 1, whole=True)

    def __init__(self, setting: Setting[M]) -> None:
        super().__init__(setting)
        self._old: M | None = None
        self._overtaken = 0

    def send(self, message: M, now_s: float) -> list[tuple[float, M]]:
        """One message waits until ``value`` others have gone, then the next one waits."""
        if self._old is None:
            self._old, self._overtaken = message, 0
            return []
        self._overtaken += 1
        if self._overtaken < self.setting.value:
            return [(now_s, message)]
        old, self._old = self._old, None
        return [(now_s, message), (now_s + GAP_S, old)]


MODES: dict[str, type[Mode]] = {mode.name: mode for mode in (Pass, Off, Stuck, Garbled, Slow, Delayed, Intermittent, Duplicated, Reordered)}
