"""One relayed topic: messages go in as they come, and come out as its fault has it. Plain Python, time is an argument."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count
from typing import Generic

from harmowam_bringup.drill.modes import MODES, Forge, M, Setting


@dataclass(frozen=True)
class Fault:
    """A mode, its value (0: the mode's default) and how long it lasts (0: until told), s; ValueError says what there is to choose."""

    mode: str = "pass"
    value: float = 0.0
    duration_s: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"unknown mode '{self.mode}'; known: {', '.join(MODES)}")
        if not 0 <= self.duration_s < math.inf:
            raise ValueError(f"duration_s is {self.duration_s:g}, expected a time, or 0 for no end")
        takes = MODES[self.mode].takes
        if takes is not None:
            object.__setattr__(self, "value", takes.resolve(self.mode, self.value))
        elif self.value != 0:
            raise ValueError(f"value is {self.value:g}; {self.mode} takes none")

    def __str__(self) -> str:
        takes = MODES[self.mode].takes
        value = f" {self.value:g} ({takes.meaning})" if takes is not None else ""
        lasting = f" for {self.duration_s:g} s" if self.duration_s else ""
        return f"{self.mode}{value}{lasting}"


PASS = Fault()


class Channel(Generic[M]):
    """Times are steady, s, and never go back."""

    def __init__(self, forge: Forge[M], seed: int = 0) -> None:
        self._forge, self._seed = forge, seed
        self._last: M | None = None
        self._order = count()
        self.set(PASS, 0.0)

    @property
    def fault(self) -> Fault:
        """As set, until it has run out."""
        return self._fault

    @property
    def heard(self) -> bool:
        """Whether anything ever came in."""
        return self._last is not None

    @property
    def waits(self) -> bool:
        """Whether time alone will change something: ``take`` has to be called now and then."""
        return bool(self._held) or self._until_s < math.inf

    def set(self, fault: Fault, now_s: float) -> None:
        """Misbehave like this from now on; what the fault before held back is lost."""
        self._fault = fault
        self._until_s = now_s + fault.duration_s if fault.duration_s else math.inf
        self._held: list[tuple[float, int, M]] = []
        self._mode = MODES[fault.mode](Setting(fault.value, now_s, self._last, self._forge, self._seed))

    def put(self, message: M, now_s: float) -> None:
        """A message has come in."""
        self._end_fault(now_s)
        for due_s, out in self._mode.send(message, now_s):
            heapq.heappush(self._held, (due_s, next(self._order), out))
        self._last = message

    def take(self, now_s: float) -> list[M]:
        """What is due to go out, in order."""
        due = []
        while self._held and self._held[0][0] <= now_s:
            due.append(heapq.heappop(self._held)[2])
        self._end_fault(now_s)
        return due

    def _end_fault(self, now_s: float) -> None:
        if now_s >= self._until_s:
            self.set(PASS, now_s)
