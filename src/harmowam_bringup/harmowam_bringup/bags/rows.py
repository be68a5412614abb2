"""A recording as rows at a steady rate: what was observed, and what the robot was told and did."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.problems import Trouble
from harmowam_core.cell import Cell
from harmowam_core.contract import Contract
from harmowam_core.messages import trajectory_from_message
from harmowam_core.observation import NotReadyError
from harmowam_core.observation_feed import COMPRESSED, ObservationFeed
from harmowam_core.presets import Preset
from harmowam_core.stages import Observation, StageError
from harmowam_core.status import Task

LEAD_CAMERA = "scene"
EARLY = 0.25  # share of the period by which an image may come before its row is due
PATIENCE_S = 0.5  # how long a row waits for inputs nearer in time than those it has


class RowsError(ValueError):
    """Nothing in the recording can be used; the message says what is missing."""


@dataclass(frozen=True)
class Row:
    """One moment. commanded: (A,) openings in [0, 1] last told to the grippers, None where no command came yet; task_id 0: no task."""

    observation: Observation
    task_id: int
    commanded: NDArray[np.float32] | None


def rows(bag: Bag, contract: Contract, preset: Preset, *, instruction: str = "") -> Iterator[Row]:
    """Rows at the contract's period, stamped as the lead camera's images; what cannot be used is reported in ``bag.problems``.

    instruction: stands for tasks that were not recorded. RowsError where a topic that every row needs is missing.
    """
    feed = ObservationFeed(contract, preset)
    recorded = [topic for topic in feed.topics if topic in bag.topics and bag.topics[topic].count]
    needed = [[topic, topic + COMPRESSED] for topic in feed.image_topics.values()] + [[contract.observation.joints.topic]]
    missing = [names[0] for names in needed if not any(name in recorded for name in names)]
    if missing:
        bag.require(*missing)
        raise RowsError(f"{bag.path} has nothing on {missing}, which contract '{contract.name}' needs; it has {sorted(bag.topics)}")
    if instruction:
        feed.assembler.set_instruction(instruction)
        recorded = [topic for topic in recorded if topic != contract.observation.instruction.topic]
    else:
        bag.require(contract.observation.instruction.topic)
    bag.require(contract.action.openings.topic)
    yield from _Clock(bag, contract, feed, preset.load_cell(), 1 if instruction else 0).rows(recorded)


class _Clock:
    """Feeds messages and makes a row of each due image once nothing nearer in time is to come."""

    def __init__(self, bag: Bag, contract: Contract, feed: ObservationFeed, cell: Cell, task_id: int) -> None:
        self._bag, self._contract, self._feed, self._cell = bag, contract, feed, cell
        self._period_ns = round(contract.period_s * 1e9)
        self._due_ns: int | None = None
        self._waiting: deque[tuple[int, int]] = deque()  # stamp of a row's image, and when that was recorded, ns
        self._task_id = task_id
        self._commanded: NDArray[np.float32] | None = None

    def rows(self, recorded: list[str]) -> Iterator[Row]:
        openings = self._contract.action.openings.topic
        for item in self._bag.messages({*recorded, openings}):
            try:
                if item.topic == openings:
                    self._command(item.message)
                else:
                    self._put(item.topic, item.message, item.time_ns)
            except (StageError, ValueError) as error:
                self._bag.problems.add(Trouble.REFUSED, item.topic, str(error), item.time_ns)
            yield from self._finished(item.time_ns)
        yield from self._finished(None)

    def _put(self, topic: str, message: Any, received_ns: int) -> None:
        if topic == self._contract.observation.instruction.topic:
            task: Task = self._feed.put_task(message)
            self._task_id = task.task_id
            return
        stamp_ns = self._feed.put(topic, message)
        if self._feed.camera_of(topic) != LEAD_CAMERA:
            return
        if self._due_ns is None or stamp_ns < self._due_ns - 10 * self._period_ns:  # the first, or time began again
            self._due_ns = stamp_ns
        if stamp_ns >= self._due_ns - EARLY * self._period_ns:
            self._waiting.append((stamp_ns, received_ns))
            self._due_ns += self._period_ns * max(round((stamp_ns - self._due_ns) / self._period_ns) + 1, 1)

    def _command(self, message: Any) -> None:
        trajectory = trajectory_from_message(message)
        missing = [name for name in self._cell.finger_joint_names if name not in trajectory.names]
        if missing:
            raise StageError(f"gripper command lacks {missing}; it has {list(trajectory.names)}")
        order = [trajectory.names.index(name) for name in self._cell.finger_joint_names]
        self._commanded = np.clip(trajectory.positions[-1][order] / self._cell.finger_travel, 0, 1).astype(np.float32)

    def _finished(self, now_ns: int | None) -> Iterator[Row]:
        while self._waiting:
            stamp_ns, received_ns = self._waiting[0]
            if not (now_ns is None or self._feed.assembler.covers(stamp_ns) or now_ns - received_ns > PATIENCE_S * 1e9):
                return
            self._waiting.popleft()
            try:
                yield Row(self._feed.observation(stamp_ns), self._task_id, self._commanded)
            except (NotReadyError, StageError) as error:
                self._bag.problems.add(Trouble.REFUSED, self._feed.image_topics[LEAD_CAMERA], str(error), received_ns)
