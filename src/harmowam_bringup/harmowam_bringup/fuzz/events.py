"""What happens in a fuzzed episode: small events, drawn from a seed, that can be written down and played again. Plain Python."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg

from harmowam_core.cell import Cell
from harmowam_core.messages import chunk_to_message, stamp_to_message
from harmowam_core.stages import ActionChunk, Expert

TICKS = 200
"""Of an episode: four seconds at 50 Hz."""
CHUNK_EVERY = 0.35
"""Chance of a chunk of each expert at each tick: more than any model sends, so that handing over is what happens most."""
HOSTILE = 0.4
"""Share of chunks that something is wrong with."""
HORIZON = 12


@dataclass(frozen=True)
class Event:
    """At a tick: ``what`` ("chunk", "joints", "score", "operator", "stall", "slow", "path"), ``how``, and the numbers that this takes."""

    tick: int
    what: str
    how: str
    numbers: tuple[float, ...] = ()


CHUNK_KINDS: dict[str, Callable[[ActionChunkMsg, float], None]] = {}
"""What can be wrong with a chunk: changes the message, by a number in [0, 1) that says where or how much."""


def _kind(change: Callable[[ActionChunkMsg, float], None]) -> Callable[[ActionChunkMsg, float], None]:
    CHUNK_KINDS[change.__name__.strip("_")] = change
    return change


def _at(values: Any, where: float) -> int:
    return int(where * len(values))


@_kind
def _sound(message: ActionChunkMsg, where: float) -> None: ...


@_kind
def _nan(message: ActionChunkMsg, where: float) -> None:
    message.positions[_at(message.positions, where)] = np.nan


@_kind
def _infinite_turn(message: ActionChunkMsg, where: float) -> None:
    message.orientations[_at(message.orientations, where)] = np.inf


@_kind
def _nan_period(message: ActionChunkMsg, where: float) -> None:
    message.period_s = np.nan


@_kind
def _outlier(message: ActionChunkMsg, where: float) -> None:
    """One number far off."""
    message.positions[_at(message.positions, where)] += 10.0 ** (4 * where - 2)


@_kind
def _step(message: ActionChunkMsg, where: float) -> None:
    """From somewhere on, all is shifted."""
    for index in range(_at(message.positions, where), len(message.positions)):
        message.positions[index] += 0.2 * (where - 0.5)


@_kind
def _shaking(message: ActionChunkMsg, where: float) -> None:
    """As a badly trained model: every other target is beside the path."""
    for index in range(0, len(message.positions), 2):
        message.positions[index] += 0.08 * where


@_kind
def _tumbling(message: ActionChunkMsg, where: float) -> None:
    """The tool turns on and on."""
    angle = 2 * where * np.arange(len(message.orientations) // 4)
    turns = np.stack([np.cos(angle / 2), np.sin(angle / 2), 0 * angle, 0 * angle], -1).astype(np.float32).ravel()
    message.orientations[:] = type(message.orientations)("f", turns.tobytes())


@_kind
def _tilted(message: ActionChunkMsg, where: float) -> None:
    angle = np.pi * where
    one = np.array([np.cos(angle / 2), 0, np.sin(angle / 2), 0], np.float32)
    message.orientations[:] = type(message.orientations)("f", np.tile(one, len(message.orientations) // 4).tobytes())


@_kind
def _no_quaternion(message: ActionChunkMsg, where: float) -> None:
    message.orientations[_at(message.orientations, where)] += 0.5


@_kind
def _hurried(message: ActionChunkMsg, where: float) -> None:
    """The same way in a fraction of the time."""
    message.period_s = 0.1 * max(where, 0.01)


@_kind
def _swapped_arms(message: ActionChunkMsg, where: float) -> None:
    message.arms = list(reversed(message.arms))


@_kind
def _unknown_arm(message: ActionChunkMsg, where: float) -> None:
    message.arms = [*message.arms[:-1], "third"]


@_kind
def _cut(message: ActionChunkMsg, where: float) -> None:
    message.positions = message.positions[: _at(message.positions, where)]


@_kind
def _short(message: ActionChunkMsg, where: float) -> None:
    """A well-formed chunk of very few targets."""
    steps, arms = 1 + int(3 * where), len(message.arms)
    message.positions = message.positions[: steps * arms * 3]
    message.orientations = message.orientations[: steps * arms * 4]
    message.grippers = message.grippers[: steps * arms]


@_kind
def _wide_gripper(message: ActionChunkMsg, where: float) -> None:
    message.grippers[_at(message.grippers, where)] = 3.0


@_kind
def _old_id(message: ActionChunkMsg, where: float) -> None:
    message.chunk_id = int(message.chunk_id * where)


@_kind
def _aged(message: ActionChunkMsg, where: float) -> None:
    _shift_stamp(message, -3.0 * where)


@_kind
def _early(message: ActionChunkMsg, where: float) -> None:
    _shift_stamp(message, 0.5 * where)


def _shift_stamp(message: ActionChunkMsg, seconds: float) -> None:
    stamp = message.header.stamp
    message.header.stamp = stamp_to_message(max(stamp.sec * 10**9 + stamp.nanosec + round(seconds * 1e9), 0))


JOINT_KINDS = ("nan", "jump", "missing", "silent", "unordered")
OPERATOR_KINDS = ("hold", "reset", "start", "stop", "lose_predictive", "lose_reactive")
SLOW_KINDS = ("", "fails", "unsent")
"""What comes of a slow tick: as it is; its sending raises; so does that of the brake instead."""
PLANNED = 0.3
"""Share of episodes with planned paths between the tasks."""
REST_TICKS = 20
"""After a task, until the arm rests."""


def draw(seed: int, index: int) -> list[Event]:
    """The events of one episode, in order; the same for the same numbers."""
    random = np.random.default_rng([seed, index])
    events = [Event(0, "operator", "start")]
    # A few paths an episode, which chunks come back to: some near home and slow, some that sweep the workspace and beyond.
    paths = [_path(random, calm=random.random() < 0.6) for _ in range(int(random.integers(1, 5)))]
    hostile = HOSTILE * random.random() * 2
    names = list(CHUNK_KINDS)
    planned = random.random() < PLANNED
    for tick in range(TICKS):
        for expert in range(len(Expert)):
            if random.random() < CHUNK_EVERY:
                how = names[int(random.integers(1, len(names)))] if random.random() < hostile else "sound"
                path = paths[int(random.integers(len(paths)))]
                events.append(Event(tick, "chunk", how, (float(expert), random.random(), 0.3 * random.random(), *path)))
        if random.random() < 0.2:
            events.append(Event(tick, "score", "", (float(random.choice([0.1, 0.9, 0.5, np.nan, 2.0], p=[0.4, 0.4, 0.1, 0.05, 0.05])),)))
        if random.random() < 0.01:
            kind = JOINT_KINDS[int(random.integers(len(JOINT_KINDS)))]
            events.append(Event(tick, "joints", kind, (float(random.integers(1, 20)), random.random())))
        if random.random() < 0.02:
            events.append(Event(tick, "operator", OPERATOR_KINDS[int(random.integers(len(OPERATOR_KINDS)))]))
        if random.random() < 0.005:
            events.append(Event(tick, "stall", "", (float(random.integers(1, 100)),)))
        if random.random() < 0.02:
            kind = SLOW_KINDS[int(random.choice(len(SLOW_KINDS), p=[0.9, 0.05, 0.05]))]
            events.append(Event(tick, "slow", kind, (float(random.integers(1, 80)),)))
        if planned and tick % 50 == 25:
            events += _planned(random, tick)
        if tick % 25 == 24:  # whoever latched it, an operator comes by: most of an episode moves
            events += [Event(tick, "operator", "reset"), Event(tick, "operator", "start")]
    return events


def _path(random: np.random.Generator, *, calm: bool) -> tuple[float, ...]:
    """Per arm: middle (3) and amplitude (3) from home, m; then frequency, Hz, phase, and the gripper's opening."""
    reach, swing, pace = (0.05, 0.06, 0.3) if calm else (0.35, 0.3, 1.5)
    numbers: list[float] = []
    for arm in range(2):
        scale = 1.0 if arm == 0 or random.random() < 0.3 else 0.0
        numbers += (scale * reach * random.normal(size=3)).tolist() + (scale * swing * random.normal(size=3)).tolist()
    return (*numbers, pace * random.random(), 2 * np.pi * random.random(), random.random())


def _planned(random: np.random.Generator, tick: int) -> list[Event]:
    """The task ends, the arm comes to rest and follows a path, which somebody may cancel on the way.

    Numbers of a path: speed scale, then the steps from way-point to way-point, rad (P, A*J): near, or out of every limit.
    """
    far = random.choice([0.05, 0.2, 0.6])
    steps = far * random.normal(size=(int(random.integers(1, 5)), 14))
    begins = 0.02 * random.normal(size=(1, 14)) * (random.random() < 0.1)  # elsewhere than the arm is
    numbers = (0.1 + 0.9 * random.random(), *begins.ravel().tolist(), *steps.ravel().tolist())
    events = [Event(tick, "operator", "stop"), Event(tick + REST_TICKS, "path", "", numbers)]
    if random.random() < 0.5:
        events.append(Event(tick + REST_TICKS + int(random.integers(1, 60)), "operator", "stop_path"))
    return events


def chunk_message(cell: Cell, event: Event, now_ns: int, chunk_id: int) -> ActionChunkMsg:
    """The chunk of an event."""
    expert, where, age_s, *path = event.numbers
    *ways, frequency_hz, phase, opening = path
    stamp_ns = now_ns - round(age_s * 1e9)
    due_s = stamp_ns * 1e-9 + 0.1 * np.arange(1, HORIZON + 1)
    positions = np.empty((HORIZON, len(cell.arms), 3))
    for index, arm in enumerate(cell.arms):
        middle, swing = np.reshape(ways[6 * index : 6 * index + 6], (2, 3))
        positions[:, index] = arm.home_tcp_position + middle + swing * np.sin(2 * np.pi * frequency_hz * due_s + phase)[:, None]
    orientations = np.tile(np.array([arm.home_tcp_orientation for arm in cell.arms], np.float32), (HORIZON, 1, 1))
    grippers = np.full((HORIZON, len(cell.arms)), opening, np.float32)
    source, targets = list(Expert)[int(expert)], positions.astype(np.float32)
    chunk = ActionChunk(stamp_ns, chunk_id, source, 0.1, cell.arm_names, targets, orientations, grippers)
    message = copy.copy(chunk_to_message(chunk))
    CHUNK_KINDS[event.how](message, where)
    return message
