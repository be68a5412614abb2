"""Paths through the arbiter: refused for what is wrong with them, else followed within every limit, to rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import JointState
from harmowam_core.status import Outcome, Reason, Status
from harmowam_gate.arbiter import Arbiter, ArbiterOutput, TaskRefused
from harmowam_gate.path_follower import PathRefused, waypoints_of

CELL = load_cell()
KINEMATICS = Kinematics(CELL)
HOME = KINEMATICS.home()
TICK_NS = 20_000_000


class Rig:
    """An arbiter whose arms follow exactly."""

    def __init__(self) -> None:
        self.arbiter, self.now_ns = Arbiter(CELL, KINEMATICS), 1_000_000_000
        self.offset = np.zeros(14)
        self.trajectories: list = []
        self.states: list = []
        for _ in range(3):
            self.tick()

    @property
    def q(self) -> np.ndarray:
        motion = self.arbiter._mover.set_point(self.now_ns)
        return HOME if motion is None else motion.positions

    def tick(self) -> ArbiterOutput:
        motion = self.arbiter._mover.set_point(self.now_ns)
        q, v = (HOME, np.zeros(14)) if motion is None else (motion.positions, motion.velocities)
        names = CELL.arm_joint_names + CELL.finger_joint_names
        self.arbiter.on_joint_state(JointState(self.now_ns, names, np.r_[q + self.offset, 0.04, 0.04], np.r_[v, 0, 0]))
        output = self.arbiter.tick(self.now_ns)
        self.states.append(output.state)
        if output.arm_trajectory is not None:
            self.trajectories.append(output.arm_trajectory)
        self.now_ns += TICK_NS
        return output

    def run(self, each: Callable[[int], None] = lambda count: None) -> ArbiterOutput:
        for count in range(1500):
            each(count)
            output = self.tick()
            if output.outcome is not None:
                return output
        raise AssertionError("the path has no end")

    def to_rest(self) -> None:
        while self.arbiter._mover.moves(self.now_ns):
            self.tick()


def way(*steps: tuple[int, float]) -> np.ndarray:
    rows = [HOME]
    for joint, radians in steps:
        rows.append(rows[-1].copy())
        rows[-1][joint] += radians
    return np.array(rows)


PATH = way((0, 0.4), (3, -0.3), (7, -0.3))


def test_a_path_that_took_long_to_time_begins_with_the_next_tick() -> None:
    """What the late tick made is not sent; the arms still rest, so that the path begins when it can."""
    rig = Rig()
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    for late in (True, True, False):
        made = rig.tick()
        started_ns = rig.now_ns - TICK_NS
        sent = rig.arbiter.checked(made, started_ns, started_ns + (50_000_000 if late else 1_000_000))
        assert (sent.arm_trajectory is None) == late and sent.outcome is None
    assert rig.run().outcome is Outcome.SUCCEEDED
    assert rig.q == pytest.approx(PATH[-1], abs=1e-9)


def test_a_path_that_ends_where_it_begins_is_followed_once() -> None:
    rig = Rig()
    rig.arbiter.start_path(way((0, 0.2), (0, -0.2)), 1.0, rig.now_ns)
    assert rig.run().outcome is Outcome.SUCCEEDED


def test_a_path_is_followed_to_rest_in_short_trajectories() -> None:
    rig = Rig()
    takes_s = rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    began_ns = rig.now_ns
    output = rig.run()
    assert output.outcome is Outcome.SUCCEEDED, output.why
    np.testing.assert_allclose(rig.q, PATH[-1], atol=1e-9)
    assert (rig.now_ns - began_ns) * 1e-9 == pytest.approx(takes_s, abs=0.1)
    assert not rig.trajectories[-1].velocities[-1].any()
    assert all(t.times_s[-1] <= 0.6 for t in rig.trajectories)
    following = [state for state in rig.states if state.text == "following a path"]
    assert len(following) > 20 and all(state.status is Status.EXECUTING for state in following)
    assert not rig.arbiter.follower.running
    assert rig.tick().state.status is Status.IDLE


def test_goals_wait_until_the_arm_was_seen_at_rest_and_while_it_comes_to_rest() -> None:
    rig = Rig()
    unseen = Arbiter(CELL, KINEMATICS)
    assert unseen.settles(rig.now_ns) and not rig.arbiter.settles(rig.now_ns)
    with pytest.raises(PathRefused, match="seen at rest yet; are their joint states published"):
        unseen.start_path(PATH, 1.0, rig.now_ns)
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    for _ in range(20):
        rig.tick()
    assert not rig.arbiter.settles(rig.now_ns), "a second path is refused at once"
    rig.arbiter.stop_path()
    rig.tick()
    assert rig.arbiter.settles(rig.now_ns)
    with pytest.raises(PathRefused, match="still move"):
        rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    rig.to_rest()
    assert not rig.arbiter.settles(rig.now_ns)
    unseen.hold("test")
    unseen.tick(rig.now_ns)
    assert not unseen.settles(rig.now_ns), "held: refused at once"


def test_half_the_speed_takes_twice_as_long() -> None:
    fast, slow = Rig(), Rig()
    a, b = fast.arbiter.start_path(PATH, 1.0, fast.now_ns), slow.arbiter.start_path(PATH, 0.25, slow.now_ns)
    assert 2 < b / a < 5


@pytest.mark.parametrize(
    ("waypoints", "scale", "why"),
    [
        (PATH + 0.05, 1.0, "from where the arms are"),
        (PATH, 0.0, "speed_scale"),
        (PATH, np.nan, "speed_scale"),
        (PATH, 1e-9, "speed_scale"),
        (way((0, 1e200)), 1.0, "POSITION_LIMIT"),
        (np.tile(HOME, (1001, 1)), 1.0, "at most 1000"),
        (way((3, 4.0)), 1.0, "POSITION_LIMIT"),
        (way((1, 0.9)), 1.0, "WORKSPACE|KEEP_OUT|CLEARANCE|TOOL_TILT|NOT_STOPPABLE"),
        (way((5, 1.2)), 1.0, "TOOL_TILT|NOT_STOPPABLE|WORKSPACE"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(waypoints: np.ndarray, scale: float, why: str) -> None:
    rig = Rig()
    with pytest.raises(PathRefused, match=why):
        rig.arbiter.start_path(waypoints, scale, rig.now_ns)
    assert not rig.arbiter.follower.running and not rig.trajectories


def test_never_beside_a_task_or_another_path_or_while_held() -> None:
    rig = Rig()
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    with pytest.raises(TaskRefused, match="follow a path"):
        rig.arbiter.start_task("put the apple on the plate", rig.now_ns)
    with pytest.raises(PathRefused, match="another path"):
        rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    rig.run()
    rig.arbiter.start_task("put the apple on the plate", rig.now_ns)
    with pytest.raises(PathRefused, match="a task"):
        rig.arbiter.start_path(PATH[::-1], 1.0, rig.now_ns)
    rig.arbiter.stop_task()
    rig.arbiter.hold("test")
    rig.tick()
    with pytest.raises(PathRefused, match="reset first"):
        rig.arbiter.start_path(PATH[::-1], 1.0, rig.now_ns)


def test_cancelled_it_brakes_to_rest_on_the_way() -> None:
    rig = Rig()
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    for _ in range(30):
        rig.tick()
    rig.arbiter.stop_path()
    rig.to_rest()
    assert 0.05 < np.abs(rig.q - HOME).max() < 0.4 + 0.1 and np.abs(rig.q - PATH[-1]).max() > 0.1
    assert not rig.trajectories[-1].velocities[-1].any()
    rig.arbiter.start_path(np.array([rig.q, HOME]), 1.0, rig.now_ns)
    assert rig.run().outcome is Outcome.SUCCEEDED


def test_a_hold_ends_it() -> None:
    rig = Rig()
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    output = rig.run(lambda count: rig.arbiter.hold("test") if count == 20 else None)
    assert output.outcome is Outcome.CANCELLED and output.state.status is Status.LATCHED
    rig.to_rest()
    assert np.abs(rig.q - PATH[-1]).max() > 0.05


def test_an_arm_that_does_not_follow_latches() -> None:
    rig = Rig()
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)

    def drag(count: int) -> None:
        rig.offset[0] -= 0.01 * (count >= 10)

    output = rig.run(drag)
    assert output.outcome is Outcome.FAULT and output.state.reason is Reason.TRACKING_ERROR
    assert output.state.status is Status.LATCHED


def test_an_arm_that_stops_short_of_the_end_is_a_fault() -> None:
    rig = Rig()
    rig.arbiter.start_path(PATH, 1.0, rig.now_ns)
    rig.offset[3] = 0.008
    output = rig.run()
    assert output.outcome is Outcome.FAULT and "0.0080 rad from the last way-point" in output.why


def test_joints_come_in_any_order_but_all_of_them() -> None:
    names = CELL.arm_joint_names
    order = np.random.default_rng(0).permutation(14)
    shuffled = [names[i] for i in order]
    np.testing.assert_array_equal(waypoints_of(CELL, shuffled, PATH[:, order].ravel().tolist()), PATH)
    for bad_names, positions, why in (
        (names[:-1], PATH.ravel().tolist(), "every arm joint"),
        (names, PATH.ravel()[:-1].tolist(), "way-points of 14 joints"),
        (names, HOME.tolist(), "two or more"),
        (names, [np.nan] * 28, "not finite"),
    ):
        with pytest.raises(PathRefused, match=why):
            waypoints_of(CELL, bad_names, positions)
