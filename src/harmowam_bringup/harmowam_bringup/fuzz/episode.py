"""Plays a fuzzed episode: the pure arbiter, a driver that follows it exactly, and the auditor. Plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from harmowam_bringup.auditor import CellAuditor
from harmowam_bringup.fuzz.events import TICKS, Event, chunk_message
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import chunk_from_message
from harmowam_core.stages import Expert, JointState, JointTrajectory, StageError
from harmowam_core.status import Reason
from harmowam_gate.arbiter import Arbiter, ArbiterOutput, ArbiterSettings, ResetRefused, TaskRefused
from harmowam_gate.path_follower import PathRefused
from harmowam_sim.driver import TrajectoryDriver, TrajectoryRefused

TICK_NS = 20_000_000
START_NS = 1_000_000_000_000
UNSENDABLE = "fuzzed: cannot be sent"


@dataclass(frozen=True)
class Played:
    """What came of an episode: chunks that went in, trajectories that came out, and what was wrong with them."""

    chunks: int
    accepted: int
    trajectories: int
    violations: tuple[str, ...]


class Player:
    """Plays one episode after another; robot models are loaded once."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._kinematics = Kinematics(cell)
        self._names = cell.arm_joint_names + cell.finger_joint_names

    def play(self, events: Sequence[Event], ticks: int = TICKS) -> Played:
        """From home; stops at the first violation."""
        run = _Run(self._cell, self._kinematics)
        by_tick: dict[int, list[Event]] = {}
        for event in events:
            by_tick.setdefault(event.tick, []).append(event)
        for tick in range(ticks):
            run.tick(by_tick.get(tick, []))
            if run.violations:
                break
        return Played(run.chunks, run.accepted, run.trajectories, tuple(run.violations))


class _Run:
    def __init__(self, cell: Cell, kinematics: Kinematics) -> None:
        self._cell = cell
        self._arbiter = Arbiter(cell, kinematics, ArbiterSettings(), TICK_NS * 1e-9)
        self._auditor = CellAuditor(cell)
        fingers = np.full(len(cell.arms), cell.finger_travel)
        self._drivers = {
            cell.controllers.arm_topic: TrajectoryDriver(cell.arm_joint_names, kinematics.home()),
            cell.controllers.gripper_topic: TrajectoryDriver(cell.finger_joint_names, fingers),
        }
        self._names = cell.arm_joint_names + cell.finger_joint_names
        self._now_ns = START_NS
        self._bad_joints: tuple[str, int, float] = ("", 0, 0.0)
        self._ids = dict.fromkeys(Expert, 0)
        self.chunks = self.accepted = self.trajectories = 0
        self.violations: list[str] = []

    def tick(self, events: Sequence[Event]) -> None:
        """One tick; what happens before it, first."""
        for event in events:
            if event.what == "stall":
                self._now_ns += round(event.numbers[0]) * 10_000_000
        self._measure([event for event in events if event.what == "joints"], any(event.how == "reset" for event in events))
        for event in events:
            match event.what:
                case "chunk":
                    self._chunk(event)
                case "score":
                    self._arbiter.on_gate_score(event.numbers[0], self._now_ns)
                case "operator":
                    self._operate(event.how)
                case "path":
                    self._start_path(event.numbers)
        started_ns = self._now_ns
        output = self._arbiter.tick(started_ns)
        if output.state.reason is Reason.INTERNAL_ERROR and UNSENDABLE not in output.state.text:
            self.violations.append(output.state.text)
        for event in events:
            if event.what == "slow":
                output = self._late(output, started_ns, event)
        controllers = self._cell.controllers
        for topic, trajectory in ((controllers.arm_topic, output.arm_trajectory), (controllers.gripper_topic, output.gripper_trajectory)):
            if trajectory is not None:
                self._publish(topic, trajectory)
        self._now_ns = started_ns + max(-(-(self._now_ns - started_ns) // TICK_NS), 1) * TICK_NS

    def _late(self, output: ArbiterOutput, started_ns: int, event: Event) -> ArbiterOutput:
        """What leaves of a tick that takes a while, or cannot be sent; as the node does."""
        self._now_ns = started_ns + round(event.numbers[0] * 1e6)
        output = self._arbiter.checked(output, started_ns, self._now_ns)
        if not event.how:
            return output
        try:
            raise RuntimeError(UNSENDABLE)
        except RuntimeError as error:
            output = self._arbiter.checked(self._arbiter.fail(started_ns, error), started_ns, self._now_ns)
        if event.how == "unsent":
            self._arbiter.not_sent(started_ns)
            output = replace(output, arm_trajectory=None)
        return output

    def _start_path(self, numbers: Sequence[float]) -> None:
        """From where the arm is measured."""
        arm, _ = self._drivers[self._cell.controllers.arm_topic].sample(self._now_ns * 1e-9)
        scale, *steps = numbers
        with suppress(PathRefused):
            self._arbiter.start_path(arm + np.cumsum(np.reshape(steps, (-1, len(arm))), axis=0), scale, self._now_ns)

    def _chunk(self, event: Event) -> None:
        expert = list(Expert)[int(event.numbers[0])]
        self._ids[expert] += 1
        self.chunks += 1
        try:
            chunk = chunk_from_message(chunk_message(self._cell, event, self._now_ns, self._ids[expert]))
        except StageError as error:  # as the node does
            self._arbiter.on_bad_chunk(expert, error)
            return
        self.accepted += self._arbiter.on_chunk(chunk, self._now_ns).ok

    def _operate(self, how: str) -> None:
        arbiter = self._arbiter
        match how:
            case "hold":
                arbiter.hold("fuzzed")
            case "reset":
                with suppress(ResetRefused):
                    arbiter.reset(self._now_ns)
            case "start":
                with suppress(TaskRefused):
                    arbiter.start_task("go on", self._now_ns, 60.0)
            case "stop":
                arbiter.stop_task()
            case "stop_path":
                arbiter.stop_path()
            case "lose_predictive":
                arbiter.on_expert_lost(Expert.PREDICTIVE, "fuzzed")
            case "lose_reactive":
                arbiter.on_expert_lost(Expert.REACTIVE, "fuzzed")

    def _joints(self) -> JointState:
        samples = [driver.sample(self._now_ns * 1e-9) for driver in self._drivers.values()]
        return JointState(self._now_ns, self._names, *(np.concatenate([sample[k] for sample in samples]) for k in range(2)))

    def _measure(self, events: Sequence[Event], operator_resets: bool) -> None:
        """An operator who resets sees the arm: a joint that is measured wrongly then ends being so, for nothing else could tell."""
        for event in events:
            self._bad_joints = (event.how, round(event.numbers[0]), event.numbers[1])
        how, left, where = self._bad_joints
        if left == 0 or (how == "jump" and operator_resets):
            how, left = "", 0
        self._bad_joints = (how, max(left - 1, 0), where)
        state = self._joints()
        index = int(where * len(self._names))
        try:
            match how:
                case "silent":
                    return
                case "nan":
                    positions = state.positions.copy()
                    positions[index] = np.nan
                    state = JointState(state.stamp_ns, state.names, positions, state.velocities)
                case "jump":
                    positions = state.positions.copy()
                    positions[index] += where - 0.5
                    state = JointState(state.stamp_ns, state.names, positions, state.velocities)
                case "missing":
                    state = JointState(state.stamp_ns, state.names[1:], state.positions[1:], state.velocities[1:])
                case "unordered":
                    state = JointState(state.stamp_ns, state.names[::-1], state.positions[::-1], state.velocities[::-1])
            self._arbiter.on_joint_state(state)
        except StageError as error:  # as the node does
            self._arbiter.on_bad_joint_state(error)

    def _publish(self, topic: str, trajectory: JointTrajectory) -> None:
        self.trajectories += 1

        def measured(_: int) -> dict[str, float]:
            state = self._joints()
            return dict(zip(state.names, state.positions.tolist(), strict=True))

        found = self._auditor.check(topic, _message(trajectory), self._now_ns, measured)
        self.violations += [str(violation) for violation in found]
        try:
            self._drivers[topic].accept(trajectory, self._now_ns * 1e-9)
        except TrajectoryRefused as error:
            self.violations.append(f"the driver: {error}")


def _message(trajectory: JointTrajectory) -> Any:
    """Shaped as trajectory_msgs/JointTrajectory, which would take longer to fill than all else here."""
    seconds, nanoseconds = divmod(trajectory.stamp_ns, 10**9)
    times_ns = np.round(trajectory.times_s * 1e9).astype(np.int64)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds)),
        joint_names=trajectory.names,
        points=[
            SimpleNamespace(
                positions=trajectory.positions[k],
                velocities=trajectory.velocities[k],
                accelerations=trajectory.accelerations[k],
                time_from_start=SimpleNamespace(sec=int(time_ns) // 10**9, nanosec=int(time_ns) % 10**9),
            )
            for k, time_ns in enumerate(times_ns)
        ],
    )
