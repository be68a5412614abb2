"""Ways in which a stand-in model can go wrong: given its sound message, what it sends instead. Plain Python on ROS messages."""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

OLD_S = 15.0
"""How old a replayed message is; a stand-in remembers those of a little longer."""
SLOW_S = 1.5
"""How long a slow model thinks."""

History = deque[tuple[float, Any]]
"""(steady time, s; message) of what was sent, oldest first."""
Misbehaviour = Callable[[Any, History, int], Sequence[Any] | None]
"""From the sound message, those sent before, and how often it has gone wrong already, to what is sent; None while it cannot yet."""


def _sound(message: Any, history: History, count: int) -> Sequence[Any]:
    return [message]


def _silent(message: Any, history: History, count: int) -> Sequence[Any]:
    return []


def _spoil(field: str, value: float) -> Misbehaviour:
    """One number of an array is not finite."""

    def spoilt(message: Any, history: History, count: int) -> Sequence[Any]:
        getattr(message, field)[7 * (count + 1) % len(getattr(message, field))] = value
        return [message]

    return spoilt


def _nan_period(message: Any, history: History, count: int) -> Sequence[Any]:
    message.period_s = math.nan
    return [message]


def _jump(message: Any, history: History, count: int) -> Sequence[Any]:
    """Half way along, everything is 0.3 m lower: finite, inside the workspace at first, and nonsense."""
    positions = message.positions
    for index in range(len(positions) // 2, len(positions)):
        if index % 3 == 2:
            positions[index] -= 0.3
    return [message]


def _far(message: Any, history: History, count: int) -> Sequence[Any]:
    """A smooth chunk a metre away."""
    for index in range(0, len(message.positions), 3):
        message.positions[index] += 1.0
    return [message]


def _other_order(message: Any, history: History, count: int) -> Sequence[Any]:
    message.arms = list(reversed(message.arms))
    return [message]


def _other_names(message: Any, history: History, count: int) -> Sequence[Any]:
    message.arms = ["left", "middle"]
    return [message]


def _cut_short(message: Any, history: History, count: int) -> Sequence[Any]:
    message.positions = message.positions[:-1]
    return [message]


def _no_grippers(message: Any, history: History, count: int) -> Sequence[Any]:
    message.grippers = []
    return [message]


def _backwards(message: Any, history: History, count: int) -> Sequence[Any]:
    message.period_s = -message.period_s
    return [message]


def _from_the_future(message: Any, history: History, count: int) -> Sequence[Any]:
    message.header.stamp.sec += 3600
    return [message]


def _replayed(message: Any, history: History, count: int) -> Sequence[Any] | None:
    """What was sent OLD_S ago."""
    if not history or time.monotonic() - history[0][0] < OLD_S:
        return None
    return [copy.deepcopy(history[0][1])]


def _restamped(message: Any, history: History, count: int) -> Sequence[Any] | None:
    """What was sent OLD_S ago under the time of now: only its id gives it away."""
    replayed = _replayed(message, history, count)
    for old in replayed or ():
        old.header.stamp = message.header.stamp
    return replayed


def _reordered(message: Any, history: History, count: int) -> Sequence[Any]:
    """The message, and then the one before it again."""
    return [message, *(copy.deepcopy(old) for _, old in list(history)[-1:])]


def _raising(message: Any, history: History, count: int) -> Sequence[Any]:
    raise RuntimeError("out of memory: the stand-in was told to raise")


def _slow(message: Any, history: History, count: int) -> Sequence[Any]:
    time.sleep(SLOW_S)
    return [message]


MISBEHAVIOURS: dict[str, Misbehaviour] = {
    "sound": _sound,
    "silent": _silent,
    "nan": _spoil("positions", math.nan),
    "inf": _spoil("positions", math.inf),
    "nan_turn": _spoil("orientations", math.nan),
    "nan_gripper": _spoil("grippers", math.nan),
    "nan_period": _nan_period,
    "jump": _jump,
    "far": _far,
    "other_order": _other_order,
    "other_names": _other_names,
    "cut_short": _cut_short,
    "no_grippers": _no_grippers,
    "backwards": _backwards,
    "from_the_future": _from_the_future,
    "replayed": _replayed,
    "restamped": _restamped,
    "reordered": _reordered,
    "raising": _raising,
    "slow": _slow,
}
