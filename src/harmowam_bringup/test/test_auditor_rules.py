"""Each rule finds what breaks it, and nothing else; what is right at a limit passes."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from trajectories import ARM_TOPIC, ARMS, CELL, FINGERS, GRIPPER_TOPIC, HOME, NOW_NS, message, minimum_jerk, move, only, parting, set_time
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.auditor import CellAuditor, Finding, Rule, audit
from harmowam_bringup.auditor.audit import Auditor
from harmowam_bringup.auditor.limits import FINGER_SPEED_M_S, POSITION_SLACK_RAD, REST_WITHIN_S
from harmowam_bringup.auditor.rules import ArmInSpace
from harmowam_bringup.auditor.rules.arm_in_space import KEEP_OUT_SLACK_M, SPEED_SLACK, TILT_SLACK_RAD, WORKSPACE_SLACK_M
from harmowam_bringup.auditor.rules.continuity import ACCELERATION_STEP, DELIVERY_NS, OTHER_CLOCK_NS, POSITION_STEP, VELOCITY_STEP
from harmowam_core.cell import Cell, Plane
from harmowam_core.kinematics import Kinematics

MS = 10**6
JUST_BELOW, JUST_ABOVE = 0.999, 1.01
"""Of a limit; sampling sees the top of a curve within 0.3 %."""


def joint_rules(*messages: JointTrajectory, received_ns: int = NOW_NS) -> set[Rule]:
    """Rules that messages break which arrive at their stamps, the first one at ``received_ns``, wherever the arms are in space."""
    auditor, found = Auditor(ARMS), set()
    for sent in messages:
        stamp_ns = sent.header.stamp.sec * 10**9 + sent.header.stamp.nanosec
        found |= {finding.rule for finding in auditor.check(sent, received_ns if sent is messages[0] else stamp_ns)}
    return found


def rules(*messages: JointTrajectory, cell: Cell = CELL) -> set[Rule]:
    """All rules that messages on the arms' topic break."""
    auditor = CellAuditor(cell)
    for sent in messages:
        auditor.check(ARM_TOPIC, sent, sent.header.stamp.sec * 10**9 + sent.header.stamp.nanosec)
    return set(auditor.verdict.by_rule)


def kept_to(**safety: object) -> Cell:
    """The cell with other limits in its profile."""
    return CELL.model_copy(update={"safety": CELL.safety.model_copy(update=safety)})


def test_sound_moves_pass() -> None:
    follow_on = move(-0.01, begin=HOME + 0.01, stamp_ns=NOW_NS + 600 * MS)
    assert rules(move(), follow_on) == set()


# ---- structure -----------------------------------------------------------------------------------------------------------


def _reverse_names(sent: JointTrajectory) -> None:
    sent.joint_names = sent.joint_names[::-1]


def _no_points(sent: JointTrajectory) -> None:
    sent.points = []


def _short_positions(sent: JointTrajectory) -> None:
    sent.points[2].positions = sent.points[2].positions[:-1]


def _no_velocities(sent: JointTrajectory) -> None:
    sent.points[2].velocities = []


def _one_acceleration(sent: JointTrajectory) -> None:
    sent.points[2].accelerations = [0.0]


def _equal_times(sent: JointTrajectory) -> None:
    sent.points[3].time_from_start = sent.points[2].time_from_start


def _negative_time(sent: JointTrajectory) -> None:
    set_time(sent.points[0], -1)


def _future(sent: JointTrajectory) -> None:
    sent.header.stamp.nanosec += 10_000


def _moving_end(sent: JointTrajectory) -> None:
    sent.points[-1].velocities[3] = 1e-5


def _accelerating_end(sent: JointTrajectory) -> None:
    sent.points[-1].accelerations[3] = 1e-5


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (_reverse_names, Rule.JOINT_NAMES), (_no_points, Rule.NO_POINTS), (_short_positions, Rule.POSITION_COUNT),
        (_no_velocities, Rule.VELOCITY_COUNT), (_one_acceleration, Rule.ACCELERATION_COUNT), (_equal_times, Rule.TIME_ORDER),
        (_negative_time, Rule.TIME_ORDER), (_future, Rule.FUTURE_STAMP), (_moving_end, Rule.MOVING_END),
        (_accelerating_end, Rule.ACCELERATING_END),
    ],
)  # fmt: skip
def test_structure(damage: Callable[[JointTrajectory], None], rule: Rule) -> None:
    sent = move()
    damage(sent)
    assert joint_rules(sent) == {rule}


@given(joint=st.integers(0, 13), point=st.integers(0, 10), name=st.sampled_from(["positions", "velocities", "accelerations"]),
       value=st.sampled_from([np.nan, np.inf, -np.inf]))  # fmt: skip
def test_whatever_is_not_finite_is_found(joint: int, point: int, name: str, value: float) -> None:
    sent = move()
    getattr(sent.points[point], name)[joint] = value
    assert joint_rules(sent) == {Rule.NOT_FINITE}


def test_what_structure_allows() -> None:
    """A stamp of now or 0 (at once), a first point now, no accelerations, and no more than rounding in the last velocity."""
    sent = move()
    sent.header.stamp.sec = sent.header.stamp.nanosec = 0
    for point in sent.points:
        point.accelerations = []
    sent.points[-1].velocities[3] = 1e-7
    assert joint_rules(move(), received_ns=NOW_NS) == joint_rules(sent) == set()
    sent.points = sent.points[-1:]  # a single point: the joints are there already
    assert joint_rules(sent) == set()


@pytest.mark.parametrize(("late_ns", "expected"), [(0, set()), (MS, {Rule.LATE_REST})])
def test_rest_is_soon(late_ns: int, expected: set[Rule]) -> None:
    sent = move(seconds=REST_WITHIN_S)
    assert joint_rules(sent, received_ns=NOW_NS) == set()
    set_time(sent.points[-1], round(REST_WITHIN_S * 1e9) + late_ns)
    assert joint_rules(sent) == expected
    assert joint_rules(sent, received_ns=NOW_NS + MS) == set()  # it arrived later than it was stamped


# ---- joints --------------------------------------------------------------------------------------------------------------

MIDDLE = (ARMS.lower + ARMS.upper) / 2


@pytest.mark.parametrize("joint", [0, 4, 13])
@pytest.mark.parametrize(("share", "expected"), [(JUST_BELOW, set()), (JUST_ABOVE, {Rule.POSITION_LIMIT})])
@pytest.mark.parametrize("side", [-1, 1])
def test_position(joint: int, side: int, share: float, expected: set[Rule]) -> None:
    edge = ARMS.upper if side > 0 else ARMS.lower
    begin = MIDDLE.copy()
    begin[joint] = edge[joint] - side * 0.05
    assert joint_rules(move(only(joint, side * 0.05 * share), begin)) == expected


@pytest.mark.parametrize(("share", "expected"), [(JUST_BELOW, set()), (JUST_ABOVE, {Rule.VELOCITY_LIMIT})])
def test_velocity(share: float, expected: set[Rule]) -> None:
    """A minimum-jerk move has a velocity of 15 / 8 of way / time at most; in 1 s that is the tighter limit."""
    way = only(3, ARMS.velocity[3] * share * 8 / 15)
    found = Auditor(ARMS, rest_within_s=1.0).check(move(way, MIDDLE - way / 2, seconds=1.0), NOW_NS)
    assert {finding.rule for finding in found} == expected


@pytest.mark.parametrize(("share", "expected"), [(JUST_BELOW, set()), (JUST_ABOVE, {Rule.ACCELERATION_LIMIT})])
def test_acceleration(share: float, expected: set[Rule]) -> None:
    """A minimum-jerk move accelerates by 10 / sqrt(3) of way / time^2 at most."""
    way = ARMS.acceleration[2] * share * 0.5**2 * np.sqrt(3) / 10
    assert joint_rules(move(only(2, way), MIDDLE)) == expected


@pytest.mark.parametrize(("share", "expected"), [(JUST_BELOW, set()), (JUST_ABOVE, {Rule.JERK_LIMIT})])
def test_jerk(share: float, expected: set[Rule]) -> None:
    """A minimum-jerk move has a jerk of 60 of way / time^3 at its ends: in 0.1 s that is the tighter limit."""
    way = ARMS.jerk[2] * share * 0.1**3 / 60
    assert joint_rules(move(only(2, way), MIDDLE, seconds=0.1)) == expected


def test_the_position_margin_of_the_profile_counts() -> None:
    upper, margin = CELL.limits.position_upper[0], CELL.safety.position_margin
    begin = MIDDLE.copy()
    begin[0] = upper - 0.05
    assert joint_rules(move(only(0, 0.05 - margin), begin)) == set()
    assert joint_rules(move(only(0, 0.05 - margin + 2 * POSITION_SLACK_RAD), begin)) == {Rule.POSITION_LIMIT}


@pytest.mark.parametrize("side", [-1, 1])
def test_a_joint_that_is_outside_may_come_back_but_not_go_further(side: int) -> None:
    begin = MIDDLE.copy()
    begin[0] = (ARMS.upper if side > 0 else ARMS.lower)[0] + side * 0.02
    back, on = only(0, -side * 0.01), only(0, side * 0.005)
    assert joint_rules(move(back, begin)) == set()
    assert joint_rules(move(on, begin)) == {Rule.POSITION_LIMIT}
    assert joint_rules(move(back, begin), move(on, begin + back, NOW_NS + 600 * MS)) == {Rule.POSITION_LIMIT}


def test_overshoot_between_points_is_found() -> None:
    """Both ends are inside the range, the cubic between them is not."""
    begin = MIDDLE.copy()
    begin[0] = ARMS.upper[0] - 0.001
    sent = message(minimum_jerk(begin, 0.0, 0.5), np.array([0.0, 0.25, 0.5]))
    for point in sent.points:
        point.accelerations = []
    sent.points[1].velocities[0] = 0.5
    assert Rule.POSITION_LIMIT in joint_rules(sent)


def test_rounding_in_a_very_short_piece_is_no_jerk() -> None:
    """A trajectory published 2 us before the next point of the one that it repeats."""
    path = minimum_jerk(HOME, 0.01, 0.5)
    times = np.r_[0.1 - 2e-6, np.linspace(0.1, 0.5, 9)]
    assert joint_rules(message(path, times)) == set()


# ---- continuity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["positions", "velocities", "accelerations"])
@pytest.mark.parametrize("share", [0.99, 1.05])
def test_seams(name: str, share: float) -> None:
    """The second trajectory goes on in the middle of the first one, but for one step in one joint."""
    path = minimum_jerk(HOME, 0.01, 0.5)
    step, rule = {
        "positions": (POSITION_STEP, Rule.POSITION_JUMP),
        "velocities": (VELOCITY_STEP, Rule.VELOCITY_JUMP),
        "accelerations": (ACCELERATION_STEP, Rule.ACCELERATION_JUMP),
    }[name]
    rest = message(path, np.linspace(0.2, 0.5, 7), NOW_NS + 200 * MS)
    values = getattr(rest.points[0], name)
    values[5] += share * step
    assert joint_rules(move(), rest) == (set() if share < 1 else {rule})


def test_accelerations_that_are_not_given_make_no_seam() -> None:
    """The driver's cubics step in them at every point."""
    rest = message(minimum_jerk(HOME, 0.01, 0.5), np.linspace(0.2, 0.5, 7), NOW_NS + 200 * MS)
    for point in rest.points:
        point.accelerations = []
    assert joint_rules(move(), rest) == set()


LATE = {Rule.POSITION_JUMP, Rule.VELOCITY_JUMP, Rule.ACCELERATION_JUMP}


@pytest.mark.parametrize(
    ("received_ns", "waited_ns", "expected"),
    [
        (200 * MS, 0, set()),
        (240 * MS, 0, set()),  # while both still have the joints at one place
        (240 * MS + DELIVERY_NS, 0, set()),
        (280 * MS + DELIVERY_NS, 0, LATE),
        (400 * MS, 0, LATE),
        (400 * MS, 160 * MS, set()),  # it was the auditor that was late
        (400 * MS, 400 * MS, set()),
        (400 * MS, 80 * MS, LATE),
        (200 * MS + 10 * OTHER_CLOCK_NS, 0, set()),
    ],
)
def test_what_arrives_after_it_left_the_curve_before_is_found(received_ns: int, waited_ns: int, expected: set[Rule]) -> None:
    auditor = Auditor(ARMS)
    assert auditor.check(move(), NOW_NS) == []
    found = auditor.check(parting(), NOW_NS + received_ns, waited_ns=waited_ns)
    assert {finding.rule for finding in found} & LATE == expected


def test_a_trajectory_to_begin_on_arrival_is_never_late() -> None:
    sent = parting()
    sent.header.stamp.sec = sent.header.stamp.nanosec = 0
    auditor = Auditor(ARMS)
    auditor.check(move(), NOW_NS)
    assert {finding.rule for finding in auditor.check(sent, NOW_NS + 200 * MS)} & LATE == set()
    auditor.forget()
    auditor.check(move(), NOW_NS)
    assert Rule.POSITION_JUMP in {finding.rule for finding in auditor.check(sent, NOW_NS + 400 * MS)}


@pytest.mark.parametrize("way", [0.0, 0.2])
def test_the_joining_segment_is_judged(way: float) -> None:
    """A first point 50 ms after the arrival, at the set-point or far from it."""
    held = message(minimum_jerk(HOME + only(2, way), 0.0, 0.3), np.array([0.0, 0.3]), NOW_NS + 600 * MS)
    for point, time_ns in zip(held.points, (50 * MS, 350 * MS), strict=True):
        set_time(point, time_ns)
    found = joint_rules(move(0.0), held)
    assert found == ({Rule.VELOCITY_LIMIT, Rule.ACCELERATION_LIMIT, Rule.JERK_LIMIT} if way else set())


def test_the_next_one_goes_on_from_what_the_driver_follows() -> None:
    """What it refuses does not count; what is too fast does."""
    refused = move(0.0, begin=HOME + 0.005, stamp_ns=NOW_NS + 250 * MS)
    refused.points[-1].velocities[3] = 0.01
    broken = SimpleNamespace(header=refused.header, joint_names=["x"], points=[])
    after = move(-0.01, HOME + 0.01, NOW_NS + 600 * MS)
    found = joint_rules(move(), refused, broken, after)
    assert {Rule.MOVING_END, Rule.JOINT_NAMES} <= found and Rule.POSITION_JUMP not in found
    fast = move(only(0, 1.0))
    assert Rule.POSITION_JUMP not in joint_rules(fast, move(0.01, HOME + only(0, 1.0), NOW_NS + 600 * MS))


@pytest.mark.parametrize(("measured_at", "expected"), [(0.3, set()), (0.2, {Rule.POSITION_JUMP}), (None, {Rule.POSITION_JUMP})])
def test_arms_that_were_moved_by_hand_go_on_from_where_they_are(measured_at: float | None, expected: set[Rule]) -> None:
    measured = None if measured_at is None else dict(zip(ARMS.joints, MIDDLE + measured_at, strict=True))
    auditor = Auditor(ARMS)
    auditor.check(move(0.01, MIDDLE), NOW_NS)
    later_ns = NOW_NS + 10**9
    assert {f.rule for f in auditor.check(move(0.01, MIDDLE + 0.3, later_ns), later_ns, lambda _: measured)} == expected
    # Not while the last one still moves.
    auditor = Auditor(ARMS)
    auditor.check(move(0.01, MIDDLE), NOW_NS)
    early_ns = NOW_NS + 200 * MS
    assert Rule.POSITION_JUMP in {f.rule for f in auditor.check(move(0.01, MIDDLE + 0.3, early_ns), early_ns, lambda _: measured)}


# ---- in space ------------------------------------------------------------------------------------------------------------

KINEMATICS = Kinematics(CELL)
POSITIONS, ORIENTATIONS = KINEMATICS.forward(HOME)


def space(begin: np.ndarray, end: np.ndarray, cell: Cell = CELL) -> set[Rule]:
    """Rules that a move between two joint postures breaks."""
    return rules(message(minimum_jerk(begin, end - begin, 0.5), np.linspace(0, 0.5, 11)), cell=cell)


def reach(position: np.ndarray | None = None, turned: tuple[float, float, float] | None = None) -> np.ndarray:
    """Joints with the left tool elsewhere (3,), or turned by Euler angles in the base frame, rad."""
    positions, orientations = POSITIONS.copy(), ORIENTATIONS.copy()
    positions[0] = POSITIONS[0] if position is None else position
    if turned is not None:
        orientations[0] = (Rotation.from_euler("xyz", turned) * Rotation.from_quat(ORIENTATIONS[0])).as_quat()
    found = KINEMATICS.inverse(positions, orientations, HOME, max_iterations=300, restarts=20)
    assert found.converged.all()
    return found.q


def peak(joint: int, poses: str) -> float:
    """Speed at its highest of a 0.1 rad move of one joint in 0.5 s, m/s."""
    path = minimum_jerk(HOME, only(joint, 0.1), 0.5)
    rows = [path(t) for t in np.linspace(0, 0.5, 401)]
    check = ArmInSpace(CELL)._kinematics.poses(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    return float(getattr(check, poses).max())


@pytest.mark.parametrize(("name", "joint", "rule"), [("tcp_speed", 5, Rule.TCP_SPEED), ("elbow_speed", 1, Rule.ELBOW_SPEED)])
def test_speeds(name: str, joint: int, rule: Rule) -> None:
    """Those of the profile, tight or loose."""
    highest = peak(joint, name) / SPEED_SLACK
    sent = move(only(joint, 0.1))
    loose = {"tcp_speed": 2.0, "elbow_speed": 2.0}
    assert rules(sent, cell=kept_to(**{**loose, name: highest / JUST_BELOW})) == set()
    assert rules(sent, cell=kept_to(**{**loose, name: highest / JUST_ABOVE})) == {rule}


@pytest.mark.parametrize(("beyond_m", "expected"), [(WORKSPACE_SLACK_M - 0.001, set()), (WORKSPACE_SLACK_M + 0.0015, {Rule.WORKSPACE})])
def test_workspace(beyond_m: float, expected: set[Rule]) -> None:
    upper = CELL.workspace.upper[1]
    near, far = (np.array([0.4, upper + out, 0.3]) for out in (-0.01, beyond_m))
    assert space(reach(near), reach(far)) == expected


def test_a_tool_that_is_outside_may_come_back_but_not_creep_away() -> None:
    upper = CELL.workspace.upper[1]
    joints = [reach(np.array([0.4, upper + out, 0.3])) for out in (0.05, 0.03, 0.033, 0.0365)]
    steps = [
        message(minimum_jerk(a, b - a, 0.5), np.linspace(0, 0.5, 11), NOW_NS + k * 600 * MS)
        for k, (a, b) in enumerate(zip(joints, joints[1:], strict=False))
    ]
    assert rules(*steps[:2]) == set()
    assert rules(*steps) == {Rule.WORKSPACE}
    assert Rule.WORKSPACE in rules(message(minimum_jerk(joints[1], joints[0] - joints[1], 0.5), np.linspace(0, 0.5, 11)))


@pytest.mark.parametrize(("clearance_m", "expected"), [(0.001, set()), (-0.001 - KEEP_OUT_SLACK_M, {Rule.KEEP_OUT})])
def test_table(clearance_m: float, expected: set[Rule]) -> None:
    """A hand leaning along its fingers: its palm's edge is lowest, while the TCP is inside the workspace."""
    lean = 0.6
    tcp_z = CELL.tool.palm_half_width * np.sin(lean) - CELL.tool.palm_behind_tcp * np.cos(lean) + clearance_m
    assert tcp_z > CELL.workspace.lower[2]
    high, low = (reach(np.array([0.5, 0.2, tcp_z + up]), (lean, 0.0, 0.0)) for up in (0.01, 0.0))
    assert space(high, low) == expected


@pytest.mark.parametrize(("past_m", "expected"), [(0.0, set()), (0.002, {Rule.KEEP_OUT})])
def test_any_plane_of_the_profile_keeps_the_elbow_out(past_m: float, expected: set[Rule]) -> None:
    """A wall behind the arm, which its elbow is nearest to."""
    leant = HOME + only(1, -0.1)
    elbow_x = ArmInSpace(CELL)._kinematics.poses(np.array([HOME, leant]), np.zeros((2, 14))).elbow[:, 0, 0]
    wall = Plane(name="wall", normal=(1.0, 0.0, 0.0), offset=float(elbow_x[1]) + KEEP_OUT_SLACK_M - 0.001 + past_m)
    assert elbow_x[1] < elbow_x[0] - 0.01
    assert space(HOME, leant, kept_to(keep_out=(*CELL.safety.keep_out, wall))) == expected


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("tilt_rad", "expected"), [(0.749, set()), (0.752 + TILT_SLACK_RAD, {Rule.TOOL_TILT})])
def test_tilt(axis: int, tilt_rad: float, expected: set[Rule]) -> None:
    begin, end = (reach(np.array([0.5, 0.2, 0.3]), tuple(np.eye(3)[axis] * angle)) for angle in (0.7, tilt_rad))
    assert space(begin, end) == expected
    assert space(begin, end, kept_to(tool_tilt=0.5)) == {Rule.TOOL_TILT}


# ---- fingers, and the verdict ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("opening_m", "expected"), [(0.04, set()), (0.0401, {Rule.POSITION_LIMIT}), (-0.0001, {Rule.POSITION_LIMIT})])
def test_fingers_keep_to_their_travel(opening_m: float, expected: set[Rule]) -> None:
    path = minimum_jerk(np.array([0.02, 0.02]), np.array([0.0, opening_m - 0.02]), 0.4)
    found = Auditor(FINGERS).check(message(path, np.linspace(0, 0.4, 5), joints=FINGERS.joints), NOW_NS)
    assert {finding.rule for finding in found} == expected
    assert all(finding.measured == pytest.approx(opening_m) and finding.part == FINGERS.joints[1] for finding in found)


@pytest.mark.parametrize(("share", "expected"), [(JUST_BELOW, set()), (JUST_ABOVE, {Rule.VELOCITY_LIMIT})])
def test_fingers_keep_to_their_speed(share: float, expected: set[Rule]) -> None:
    seconds = 0.04 * 15 / 8 / (FINGER_SPEED_M_S * share)
    path = minimum_jerk(np.array([0.04, 0.0]), np.array([-0.04, 0.0]), seconds)
    found = Auditor(FINGERS).check(message(path, np.linspace(0, seconds, 21), joints=FINGERS.joints), NOW_NS)
    assert {finding.rule for finding in found} == expected


def test_the_verdict_counts_both_controllers_and_quotes_the_first() -> None:
    path = minimum_jerk(np.array([0.02, 0.02]), np.array([0.0, 0.03]), 0.5)
    fingers = message(path, np.linspace(0, 0.5, 11), joints=FINGERS.joints)
    fast = [(ARM_TOPIC, NOW_NS + k * 10**9, move(only(6, 2.0), MIDDLE, NOW_NS + k * 10**9)) for k in range(30)]
    verdict = audit(CELL, [(ARM_TOPIC, NOW_NS, move()), (GRIPPER_TOPIC, NOW_NS, fingers)]).to_json()
    assert verdict == {
        "trajectories": 2, "violations": 1, "by_rule": {"position_limit": 1},
        "first": [f"gripper #0 position_limit {FINGERS.joints[1]}: 0.05, limit 0.04"],
    }  # fmt: skip
    many = audit(CELL, fast).to_json()
    assert many["by_rule"]["velocity_limit"] == 30 and len(many["first"]) == 10


def test_what_is_found_apart_from_trajectories_counts() -> None:
    auditor = CellAuditor(CELL)
    assert auditor.blame(ARM_TOPIC, Finding(Rule.SECOND_PUBLISHER, "/rogue", 2, 1)).source == "arm"
    assert auditor.verdict.to_json()["by_rule"] == {"second_publisher": 1}
