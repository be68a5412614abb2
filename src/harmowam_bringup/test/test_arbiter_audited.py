"""Whatever comes in, the auditor, which shares no code with the arbiter, finds nothing wrong with what goes out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmowam_bringup.auditor.audit import CellAuditor
from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import trajectory_to_message
from harmowam_core.stages import ActionChunk, Expert, JointState, StageError
from harmowam_core.status import Reason
from harmowam_gate.arbiter import Arbiter, ArbiterSettings
from harmowam_gate.joint_spline import JointSpline

CELL = load_cell()
KINEMATICS = Kinematics(CELL)
START_NS = 1_700_000_000_000_000_000
TICK_NS = 20_000_000
NAMES = CELL.arm_joint_names + CELL.finger_joint_names


class Arms:
    """Follow what was published, each joint ``off`` (N,) rad away from it."""

    def __init__(self, resting: np.ndarray | None = None, off: np.ndarray | float = 0.0) -> None:
        self.spline: JointSpline | None = None
        self.resting = KINEMATICS.home() if resting is None else resting
        self._off = off

    def measured(self, now_ns: int) -> JointState:
        q, v = (self.resting, 0 * self.resting)
        if self.spline is not None:
            motion = self.spline.motion(now_ns)
            q, v = motion.positions + self._off, motion.velocities
        fingers = np.full(2, CELL.finger_travel)
        return JointState(now_ns, NAMES, np.concatenate([q, fingers]), np.concatenate([v, 0 * fingers]))


def random_arms(random: np.random.Generator, spread: float) -> Arms:
    """Anywhere within the limits, so far from home as ``spread`` (1: everywhere) lets them; they follow within 3 mrad."""
    limits = CELL.limits
    anywhere = random.uniform(np.tile(limits.position_lower, 2), np.tile(limits.position_upper, 2))
    return Arms(KINEMATICS.home() + spread * (anywhere - KINEMATICS.home()), random.uniform(-0.003, 0.003, len(anywhere)))


def random_chunk(
    random: np.random.Generator, stamp_ns: int, number: int, source: Expert, wildness: float, resting: np.ndarray
) -> ActionChunk | None:
    """Tools that wander from where the arms rested: gently, wildly, or with numbers that are none (None where the type itself refuses
    them).
    """
    steps = random.normal(0, 0.005 + 0.06 * wildness, (12, 2, 3))
    home, down = KINEMATICS.forward(resting)
    positions = home + random.normal(0, 0.1 * wildness, (2, 3)) + np.cumsum(steps, axis=0)
    turned = down + random.normal(0, 0.4 * wildness, (12, 2, 4))
    if random.random() < 0.1 * wildness:
        positions.flat[random.integers(positions.size)] = random.choice([np.nan, np.inf, 1e30])
    try:
        return ActionChunk(
            stamp_ns + int(random.normal(0, 0.2 * wildness) * 1e9), number, source, float(random.choice([0.02, 0.1, 0.3])),
            CELL.arm_names, positions.astype(np.float32),
            (turned / np.linalg.norm(turned, axis=-1, keepdims=True)).astype(np.float32), random.random((12, 2)).astype(np.float32),
        )  # fmt: skip
    except StageError:
        return None


def profile(random: np.random.Generator, strictness: float) -> Cell:
    """The cell's limits, tightened at random by up to ``strictness``."""
    limits = CELL.limits.model_copy(
        update={
            name: tuple(value * random.uniform(1 - strictness, 1) for value in getattr(CELL.limits, name))
            for name in ("velocity", "acceleration", "jerk")
        }
    )
    safety = CELL.safety.model_copy(update={"tcp_speed": CELL.safety.tcp_speed * random.uniform(1 - strictness, 1)})
    return CELL.model_copy(update={"limits": limits, "safety": safety})


def play(seed: int, wildness: float, strictness: float, spread: float) -> int:
    """2 s at 50 Hz: arms somewhere, random chunks, losses, scores and stalls under a random profile; how much of it was published."""
    random = np.random.default_rng(seed)
    cell, arms = profile(random, strictness), random_arms(random, spread)
    arbiter, auditor = Arbiter(cell, KINEMATICS, ArbiterSettings(), TICK_NS * 1e-9), CellAuditor(cell)
    now_ns, published = START_NS, 0
    arbiter.on_joint_state(arms.measured(now_ns))
    arbiter.tick(now_ns)
    arbiter.start_task("anything", now_ns)

    def measured(_: int) -> dict[str, float]:
        return dict(zip(NAMES, arms.measured(now_ns).positions.tolist(), strict=True))

    for number in range(1, 100):
        now_ns += TICK_NS * (1 if random.random() < 0.97 else int(random.integers(2, 30)))
        arbiter.on_joint_state(arms.measured(now_ns))
        for expert in Expert:
            if random.random() < 0.25:
                chunk = random_chunk(random, now_ns - 100_000_000, number, expert, wildness, arms.resting)
                if chunk is not None:
                    arbiter.on_chunk(chunk, now_ns)
            if random.random() < 0.02:
                arbiter.on_expert_lost(expert, "failed")
        if random.random() < 0.5:
            arbiter.on_gate_score(float(random.random()), now_ns)
        output = arbiter.tick(now_ns)
        assert output.state.reason is not Reason.INTERNAL_ERROR, output.state.text
        if output.arm_trajectory is not None:
            arms.spline = _spline(output.arm_trajectory)
            published += 1
            message = trajectory_to_message(output.arm_trajectory)
            assert auditor.check(cell.controllers.arm_topic, message, now_ns, measured) == []
        if output.gripper_trajectory is not None:
            message = trajectory_to_message(output.gripper_trajectory)
            assert auditor.check(cell.controllers.gripper_topic, message, now_ns, measured) == []
    return published


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    wildness=st.sampled_from([0.1, 0.2, 0.4, 1.0]),
    strictness=st.sampled_from([0.0, 0.6]),
    spread=st.sampled_from([0.0, 0.1, 0.2, 1.0]),
)
def test_the_auditor_finds_nothing(seed: int, wildness: float, strictness: float, spread: float) -> None:
    play(seed, wildness, strictness, spread)


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_there_is_something_to_find(spread: float) -> None:
    """Arms do move in such episodes, also from elsewhere than home."""
    assert sum(play(seed, 0.1, 0.6, spread) for seed in range(2)) > 10


@pytest.mark.parametrize(
    ("part", "limits", "rule"),
    [
        ("limits", {"velocity": tuple(0.01 * v for v in CELL.limits.velocity)}, "velocity_limit"),
        ("safety", {"tcp_speed": 0.01 * CELL.safety.tcp_speed}, "tcp_speed"),
        ("safety", {"elbow_speed": 0.01 * CELL.safety.elbow_speed}, "elbow_speed"),
    ],
)
def test_the_auditor_would_have_found_something(part: str, limits: dict[str, object], rule: str) -> None:
    """The same judge, told that a limit is a hundredth: it is not deaf."""
    arms, cell = Arms(), CELL
    strict = cell.model_copy(update={part: getattr(cell, part).model_copy(update=limits)})
    arbiter, auditor = Arbiter(cell, KINEMATICS, ArbiterSettings(selector="predictive")), CellAuditor(strict)
    arbiter.on_joint_state(arms.measured(START_NS))
    arbiter.tick(START_NS)
    arbiter.start_task("down", START_NS)
    home, down = KINEMATICS.forward(KINEMATICS.home())
    way = home + np.linspace(0, 0.1, 12)[:, None, None] * np.array([0, 0, -1.0])
    chunk = ActionChunk(
        START_NS, 1, Expert.PREDICTIVE, 0.1, cell.arm_names, way.astype(np.float32),
        np.tile(down, (12, 1, 1)).astype(np.float32), np.ones((12, 2), np.float32),
    )  # fmt: skip
    arbiter.on_chunk(chunk, START_NS)
    found = []
    for tick in range(1, 15):
        now_ns = START_NS + tick * TICK_NS
        arbiter.on_joint_state(arms.measured(now_ns))
        output = arbiter.tick(now_ns)
        if output.arm_trajectory is not None:
            arms.spline = _spline(output.arm_trajectory)
            found += auditor.check(cell.controllers.arm_topic, trajectory_to_message(output.arm_trajectory), now_ns)
    assert {violation.rule.value for violation in found} >= {rule}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_wall_clock_that_is_set_changes_no_motion(jump_s: float) -> None:
    """The same chunks, once with stamps of a clock that is set on the way: the same trajectories."""
    from harmowam_core.stamp_clock import StampClock

    def run(jump_ns: int) -> list[np.ndarray]:
        arms, arbiter = Arms(), Arbiter(CELL, KINEMATICS, ArbiterSettings(selector="predictive"), TICK_NS * 1e-9)
        wall_ns = START_NS + 987_654_321_000
        clock, sent, pending = StampClock(wall_ns, START_NS), [], []
        home, down = KINEMATICS.forward(KINEMATICS.home())
        for tick in range(120):
            now_ns = START_NS + tick * TICK_NS
            stamp_ns = wall_ns + tick * TICK_NS + (jump_ns if tick >= 60 else 0)
            clock.read(stamp_ns, now_ns, now_ns)
            state = arms.measured(now_ns)
            arbiter.on_joint_state(replace(state, stamp_ns=clock.to_steady(stamp_ns, now_ns)))
            if tick == 1:
                arbiter.start_task("down", now_ns)
            if tick % 12 == 3:
                start = (tick - 3) * 0.002
                way = home + (start + np.linspace(0, 0.1, 12))[:, None, None] * np.array([[0, 0, -0.3], [0, 0, 0]])
                pending.append((tick + 10, stamp_ns, way))
            while pending and pending[0][0] <= tick:
                _, seen_ns, way = pending.pop(0)
                arbiter.on_chunk(
                    ActionChunk(
                        clock.to_steady(seen_ns, now_ns), tick, Expert.PREDICTIVE, 0.1, CELL.arm_names, way.astype(np.float32),
                        np.tile(down, (12, 1, 1)).astype(np.float32), np.ones((12, 2), np.float32),
                    ),
                    now_ns,
                )  # fmt: skip
            output = arbiter.tick(now_ns)
            if output.arm_trajectory is not None:
                arms.spline = _spline(output.arm_trajectory)
                sent.append(output.arm_trajectory.positions)
        return sent

    calm, jumped = run(0), run(round(jump_s * 1e9))
    assert len(calm) == len(jumped) > 20
    assert all(np.array_equal(a, b) for a, b in zip(calm, jumped, strict=True))


def _spline(trajectory) -> JointSpline:
    times_ns = trajectory.stamp_ns + np.round(trajectory.times_s * 1e9).astype(np.int64)
    return JointSpline(times_ns, trajectory.positions, trajectory.velocities, trajectory.accelerations)
