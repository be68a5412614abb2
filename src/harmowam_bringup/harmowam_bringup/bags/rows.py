"""A recording as rows one period apart, by the contract: what a model would have seen, where the tools were, what grippers were told."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmowam_bringup.bags.bag import Bag, Recorded
from harmowam_bringup.bags.message_types import IMAGES
from harmowam_bringup.bags.problems import Trouble
from harmowam_bringup.bags.stamps import Jump, JumpWatch
from harmowam_core.cell import Cell
from harmowam_core.contract import Contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import joint_state_from_message
from harmowam_core.observation import NotReadyError
from harmowam_core.observation_feed import COMPRESSED, ObservationFeed
from harmowam_core.presets import Preset
from harmowam_core.stages import Float64, Observation, StageError

LATE_NS = 500_000_000
"""How much later than a row its other inputs may have been recorded."""

Progress = Callable[[float], None]
"""Told the share that is done, 0 to 1."""


class GripperCommands:
    """Openings that the grippers were told, by when the command was recorded."""

    def __init__(self, cell: Cell) -> None:
        self._joints, self._travel = cell.finger_joint_names, cell.finger_travel
        self._times_ns: list[int] = []
        self._openings: list[Float64] = []

    def add(self, message: Any, time_ns: int) -> None:
        """A ``trajectory_msgs/JointTrajectory``: where its last point leaves each finger; StageError for anything less."""
        names = list(message.joint_names)
        missing = [joint for joint in self._joints if joint not in names]
        if missing or not len(message.points) or len(message.points[-1].positions) != len(names):
            raise StageError(
                f"a gripper command for {names} with {len(message.points)} points, expected {list(self._joints)} and a last point"
            )
        positions = np.asarray(message.points[-1].positions, np.float64)[[names.index(joint) for joint in self._joints]]
        if not np.isfinite(positions).all():
            raise StageError(f"a gripper command ends at {positions}, expected finite numbers")
        self._times_ns.append(time_ns)
        self._openings.append(np.clip(positions / self._travel, 0.0, 1.0))

    def before(self, time_ns: int, otherwise: NDArray[np.float32]) -> NDArray[np.float32]:
        """(A,) what was commanded last before a time; ``otherwise`` where nothing was."""
        index = bisect_right(self._times_ns, time_ns) - 1
        return otherwise if index < 0 else self._openings[index].astype(np.float32)


@dataclass
class Row:
    """One period: the observation, joint positions (arms, fingers) in rad and m, and whether it follows the row before without a gap.

    task_id: of the task that was given, 0 without one; the same words may be given twice.
    """

    observation: Observation
    joints: Float64
    follows: bool
    time_ns: int  # of the recorder's clock
    task_id: int


@dataclass
class Rows:
    """Rows in order, and the commands beside them."""

    commands: GripperCommands
    rows: list[Row] = field(default_factory=list)

    def commanded(self, period_s: float) -> NDArray[np.float32]:
        """(T, A) openings that each row's period was told; as measured where nothing was."""
        end = round(period_s * 1e9)
        return np.array([self.commands.before(row.time_ns + end - 1, row.observation.gripper) for row in self.rows], np.float32)


def read_rows(bag: Bag, contract: Contract, preset: Preset, kinematics: Kinematics, progress: Progress = lambda share: None) -> Rows:
    """All rows of a bag. The first camera of the contract sets the pace; what cannot be used is among the bag's problems."""
    feed = ObservationFeed(contract, preset, kinematics=kinematics)
    pace = Pace(contract.period_s)
    result = Rows(GripperCommands(preset.load_cell()))
    pending: deque[tuple[int, int, bool]] = deque()  # stamp, recorded, follows
    first = next(iter(contract.observation.images))
    broken, task_id = False, 0
    _require(bag, contract)

    def take(until_ns: int | None) -> None:
        nonlocal broken
        while pending and (until_ns is None or feed.assembler.covers(pending[0][0]) or until_ns - pending[0][1] > LATE_NS):
            stamp_ns, time_ns, follows = pending.popleft()
            try:
                row = Row(feed.observation(stamp_ns), feed.assembler.joints_at(stamp_ns), follows and not broken, time_ns, task_id)
            except StageError as error:
                broken = True
                kind = Trouble.LEFT_OUT if isinstance(error, NotReadyError) else Trouble.REFUSED
                bag.problems.add(kind, feed.image_topics[first], f"a row is left out: {error}", time_ns)
                continue
            broken = False
            result.rows.append(row)

    for item in _usable(bag, message_types(contract), progress):
        try:
            if item.topic == contract.action.openings.topic:
                result.commands.add(item.message, item.time_ns)
                continue
            stamp_ns = feed.put(item.topic, item.message)
            if item.topic == contract.observation.instruction.topic:
                task_id = int(item.message.task_id)
        except StageError as error:
            bag.problems.add(Trouble.REFUSED, item.topic, str(error), item.time_ns)
            continue
        if feed.camera_of(item.topic) == first:
            pending.extend(pace.see(stamp_ns, item.time_ns))
        take(item.time_ns)
    pending.extend(pace.end())
    take(None)
    return result


class Pace:
    """Picks the images that lie nearest to one period after the one before."""

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self._last: tuple[int, int] | None = None  # stamp, recorded
        self._candidate: tuple[int, int] | None = None
        self._jumps = JumpWatch()

    def see(self, stamp_ns: int, time_ns: int) -> Iterator[tuple[int, int, bool]]:
        """The next image; yields (stamp, recorded, whether it follows without a gap) of those picked.

        Stamps that go back are passed over, and bad ones; after a clock was set, it begins anew.
        """
        jump = self._jumps.see(stamp_ns, time_ns, *self._last) if self._last else Jump.SET
        if self._last is None or jump is Jump.SET:
            yield self._pick((stamp_ns, time_ns))
            return
        candidate, due_ns = self._candidate, self._last[0] + self._period_ns
        if jump is Jump.ALONE or stamp_ns <= (candidate or self._last)[0]:
            return
        if candidate is not None and stamp_ns >= due_ns and due_ns - candidate[0] <= min(stamp_ns - due_ns, self._period_ns // 2):
            yield self._pick(candidate)
            due_ns = candidate[0] + self._period_ns
        if stamp_ns < due_ns:
            self._candidate = (stamp_ns, time_ns)
        else:
            yield self._pick((stamp_ns, time_ns))

    def end(self) -> Iterator[tuple[int, int, bool]]:
        """What is left when no image will come."""
        if self._candidate is not None and self._last is not None and self._candidate[0] - self._last[0] > self._period_ns // 2:
            yield self._pick(self._candidate)

    def _pick(self, image: tuple[int, int]) -> tuple[int, int, bool]:
        stamp_ns, time_ns = image
        follows = self._last is not None and abs(stamp_ns - self._last[0] - self._period_ns) <= self._period_ns // 2
        self._last, self._candidate = image, None
        return stamp_ns, time_ns, follows


@dataclass(frozen=True)
class Motion:
    """Tools and grippers one period apart: times_ns (T,), positions (T, A, 3) m, openings and commanded (T, A) in [0, 1]."""

    times_ns: NDArray[np.int64]
    positions: NDArray[np.float32]
    openings: NDArray[np.float32]
    commanded: NDArray[np.float32]


def read_motion(bag: Bag, contract: Contract, cell: Cell, kinematics: Kinematics, progress: Progress = lambda share: None) -> Motion:
    """What joint states and gripper commands tell; ValueError if there are no joint states to use."""
    names = [contract.observation.joints.names.get(name, name) for name in cell.arm_joint_names + cell.finger_joint_names]
    commands, period_ns = GripperCommands(cell), round(contract.period_s * 1e9)
    joints_topic, arms = contract.observation.joints.topic, len(cell.arms)
    times_ns: list[int] = []
    joints: list[Float64] = []
    bag.require(joints_topic, contract.action.openings.topic)
    kinds = message_types(contract)
    for item in _usable(bag, {topic: kinds[topic] for topic in (joints_topic, contract.action.openings.topic)}, progress):
        try:
            if item.topic != joints_topic:
                commands.add(item.message, item.time_ns)
            elif not times_ns or item.time_ns >= times_ns[-1] + period_ns:
                state = joint_state_from_message(item.message, names)
                # On a steady grid, unless there was a gap.
                late = item.time_ns - times_ns[-1] - period_ns if times_ns else 0
                times_ns.append(item.time_ns - late if 0 < late < period_ns else item.time_ns)
                joints.append(state.positions)
        except StageError as error:
            bag.problems.add(Trouble.REFUSED, item.topic, str(error), item.time_ns)
    if not joints:
        raise ValueError(f"{bag.path} has no usable joint states on {joints_topic}; it has {sorted(bag.topics)}")
    positions = np.array([kinematics.forward(row[:-arms])[0] for row in joints], np.float32)
    openings = np.clip(np.array(joints)[:, -arms:] / cell.finger_travel, 0.0, 1.0).astype(np.float32)
    commanded = [commands.before(time_ns + period_ns - 1, opening) for time_ns, opening in zip(times_ns, openings, strict=True)]
    return Motion(np.array(times_ns), positions, openings, np.array(commanded, np.float32))


def message_types(contract: Contract) -> dict[str, tuple[str, ...]]:
    """What each topic of the contract may carry."""
    observation = contract.observation
    return {
        **{source.topic + ending: IMAGES for source in observation.images.values() for ending in ("", COMPRESSED)},
        observation.joints.topic: ("sensor_msgs/msg/JointState",),
        observation.instruction.topic: ("harmowam_msgs/msg/Task",),
        contract.action.openings.topic: ("trajectory_msgs/msg/JointTrajectory",),
    }


def _usable(bag: Bag, topics: Mapping[str, Collection[str]], progress: Progress) -> Iterator[Recorded]:
    span_ns = max(bag.ended_ns - bag.started_ns, 1)
    for item in bag.messages(topics):
        progress((item.time_ns - bag.started_ns) / span_ns)
        yield item


def _require(bag: Bag, contract: Contract) -> None:
    """Report what the contract asks for and the bag has not; an image may be there compressed."""
    for source in contract.observation.images.values():
        if not (source.topic + COMPRESSED in bag.topics and bag.topics[source.topic + COMPRESSED].count):
            bag.require(source.topic)
    bag.require(contract.observation.joints.topic, contract.observation.instruction.topic, contract.action.openings.topic)
