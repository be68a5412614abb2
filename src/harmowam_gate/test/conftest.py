"""A stand-in cell whose arms follow what the arbiter publishes exactly; it checks every trajectory with SciPy's splines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import BPoly

from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import ActionChunk, Expert, JointState, JointTrajectory
from harmowam_gate.arbiter import Arbiter, ArbiterOutput, ArbiterSettings

sys.path.insert(0, str(Path(__file__).parent))  # drives.py

Float64 = NDArray[np.float64]
START_NS = 1_700_000_000_000_000_000
TICK_NS = 50_000_000
STEP_NS = 10_000_000
SEAM_TOLERANCE = 1e-6


class Curve:
    """A published trajectory as an arm driver executes it; times ns."""

    def __init__(self, trajectory: JointTrajectory) -> None:
        self.start_ns, self.times_s = trajectory.stamp_ns, trajectory.times_s
        self.last = trajectory.positions[-1]
        derivatives = np.stack([trajectory.positions, trajectory.velocities, trajectory.accelerations], axis=1)
        self.spline = BPoly.from_derivatives(trajectory.times_s, derivatives) if len(self.times_s) > 1 else None

    def at(self, time_ns: int) -> list[Float64]:
        """Position, velocity, acceleration (N,)."""
        seconds = (time_ns - self.start_ns) * 1e-9
        if self.spline is None or seconds >= self.times_s[-1]:
            return [self.last, 0 * self.last, 0 * self.last]
        return [self.spline(max(seconds, 0.0), nu) for nu in range(3)]

    def positions(self, times_ns: NDArray[np.int64]) -> Float64:
        """(T, N) at times after the start."""
        seconds = (times_ns - self.start_ns) * 1e-9
        if self.spline is None:
            return np.tile(self.last, (len(seconds), 1))
        return np.where(seconds[:, None] < self.times_s[-1], self.spline(seconds), self.last)


class Rig:
    """One arbiter and the cell it drives, tick by tick."""

    def __init__(self, cell: Cell, kinematics: Kinematics, settings: ArbiterSettings, tick_period_s: float | None = None) -> None:
        self.cell, self.kinematics = cell, kinematics
        self.arbiter = Arbiter(cell, kinematics, settings, tick_period_s)
        self.now_ns = START_NS
        self.arm: Curve | None = None
        self.resting = kinematics.home()
        self.fingers = np.full(2, cell.finger_travel)
        self.object_m = np.zeros(2)  # how wide a finger stays open around what is between them
        self.outputs: list[ArbiterOutput] = []
        self.path: list[Float64] = []  # (14,) set-points every 10 ms
        self.path_ns: list[int] = []
        self.ids = dict.fromkeys(Expert, 0)

    def chunk(
        self, source: Expert, tool: Callable[[float], Float64], *, stamp_ns: int | None = None, gripper: float = 1.0, period_s: float = 0.1
    ) -> ActionChunk:
        """12 targets along ``tool``: seconds since the start to the left tool's position (3,); the right arm stays at home."""
        stamp_ns = self.now_ns if stamp_ns is None else stamp_ns
        self.ids[source] += 1
        positions, orientations = self.kinematics.forward(self.kinematics.home())
        positions = np.tile(positions, (12, 1, 1))
        positions[:, 0] = [tool((stamp_ns - START_NS) * 1e-9 + period_s * (k + 1)) for k in range(12)]
        return ActionChunk(
            stamp_ns, self.ids[source], source, period_s, self.cell.arm_names, positions.astype(np.float32),
            np.tile(orientations, (12, 1, 1)).astype(np.float32), np.full((12, 2), gripper, np.float32),
        )  # fmt: skip

    def measure(self) -> JointState:
        """What the arms are at now."""
        position, velocity, _ = (self.resting, 0 * self.resting, None) if self.arm is None else self.arm.at(self.now_ns)
        names = self.cell.arm_joint_names + self.cell.finger_joint_names
        return JointState(self.now_ns, names, np.concatenate([position, self.fingers]), np.concatenate([velocity, [0.0, 0.0]]))

    def tick(self, took_ns: int = 0) -> ArbiterOutput:
        """One tick that takes a while; checks what is published."""
        self.arbiter.on_joint_state(self.measure())
        output = self.arbiter.checked(self.arbiter.tick(self.now_ns), self.now_ns, self.now_ns + took_ns)
        if output.arm_trajectory is not None:
            self.check(output.arm_trajectory)
            self.arm = Curve(output.arm_trajectory)
        if output.gripper_trajectory is not None:
            self.fingers = np.maximum(output.gripper_trajectory.positions[-1], self.object_m)
        until_ns = max(-(-took_ns // TICK_NS), 1) * TICK_NS
        times_ns = self.now_ns + np.arange(0, until_ns, STEP_NS)
        self.path.extend(np.tile(self.resting, (len(times_ns), 1)) if self.arm is None else self.arm.positions(times_ns))
        self.path_ns.extend(times_ns)
        self.outputs.append(output)
        self.now_ns += until_ns
        return output

    def check(self, trajectory: JointTrajectory) -> None:
        """Continuous with the last, within all limits between the points too, at rest at the end."""
        new = Curve(trajectory)
        assert trajectory.stamp_ns == self.now_ns
        before = [self.resting, 0 * self.resting, 0 * self.resting] if self.arm is None else self.arm.at(self.now_ns)
        for old_value, new_value in zip(before, new.at(self.now_ns), strict=True):
            assert np.abs(old_value - new_value).max() <= SEAM_TOLERANCE
        assert not trajectory.velocities[-1].any() and not trajectory.accelerations[-1].any()
        assert trajectory.times_s[-1] <= 0.05 + 0.2 + 0.5
        if new.spline is None:
            return
        limits, arms = self.cell.limits, len(self.cell.arms)
        times_s = np.unique(
            np.concatenate([np.linspace(a, b, 5) for a, b in zip(trajectory.times_s, trajectory.times_s[1:], strict=False)])
        )
        positions = new.spline(times_s)
        assert (positions >= np.tile(limits.position_lower, arms)).all() and (positions <= np.tile(limits.position_upper, arms)).all()
        for nu, name in enumerate(("velocity", "acceleration", "jerk"), start=1):
            share = np.abs(new.spline(times_s, nu)).max(axis=0) / np.tile(getattr(limits, name), arms)
            assert share.max() <= 1.05, f"{name}: {share.max():.2f} of the limit"  # the arbiter samples less densely

    def left_tool(self) -> Float64:
        """(T, 3) where the left tool's set-point was, every 10 ms."""
        return np.array([self.kinematics.forward(q)[0][0] for q in self.path])


CELL = load_cell()
KINEMATICS = Kinematics(CELL)


@pytest.fixture(scope="session")
def cell() -> Cell:
    return CELL


@pytest.fixture(scope="session")
def kinematics() -> Kinematics:
    return KINEMATICS


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """Settings by keyword, ``safety``: what differs in the profile; Hypothesis tests call it once an example."""

    def make(safety: dict[str, object] | None = None, tick_period_s: float | None = None, cell: Cell = CELL, **settings: object) -> Rig:
        cell = cell.model_copy(update={"safety": cell.safety.model_copy(update=safety or {})})
        return Rig(cell, KINEMATICS, ArbiterSettings(**settings), tick_period_s)

    return make
