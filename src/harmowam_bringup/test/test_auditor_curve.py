"""The curve is the one the driver follows, and the kinematics are the robot's."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import BPoly
from trajectories import ARMS, CELL, HOME, NOW_NS, set_time
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from harmowam_bringup.auditor.curve import Curve, Points
from harmowam_bringup.auditor.forward_kinematics import ForwardKinematics, _find
from harmowam_core.kinematics import Kinematics
from harmowam_sim.driver import TrajectoryDriver

VALUES = st.floats(-2, 2)


@st.composite
def points(draw: st.DrawFn, given_accelerations: str = "all") -> Points:
    """2-6 points of two joints, 1-300 ms apart."""
    count = draw(st.integers(2, 6))
    gaps = draw(arrays(np.int64, count, elements=st.integers(10**6, 3 * 10**8)))
    rows = [draw(arrays(np.float64, (count, 2), elements=VALUES)) for _ in range(3)]
    if given_accelerations != "all":
        rows[2][draw(arrays(np.bool_, count)) if given_accelerations == "some" else slice(None)] = np.nan
    return Points(NOW_NS, NOW_NS + np.cumsum(gaps) - gaps[0], *rows)


@pytest.mark.parametrize("accelerations", ["all", "none"])
@settings(max_examples=20)
@given(data=st.data(), share=st.floats(0, 0.999))
def test_pieces_meet_values_and_derivatives(accelerations: str, data: st.DataObject, share: float) -> None:
    """As scipy's polynomials through the same derivatives."""
    given_points = data.draw(points(accelerations))
    curve, seconds = Curve(given_points), (given_points.times_ns - NOW_NS) * 1e-9
    orders = [given_points.positions, given_points.velocities, given_points.accelerations][: 3 if accelerations == "all" else 2]
    truth = BPoly.from_derivatives(seconds, list(np.stack(orders, axis=1)))
    time_ns = NOW_NS + int(share * (given_points.times_ns[-1] - NOW_NS))
    state = curve.at(time_ns)
    for order, values in enumerate((state.position, state.velocity, state.acceleration)):
        expected = truth(np.nextafter((time_ns - NOW_NS) * 1e-9, 9), nu=order)
        scale = max(1.0, np.abs(truth.c).max()) / np.diff(seconds).min() ** order
        assert values == pytest.approx(expected, abs=1e-6 * scale)


@settings(max_examples=30)
@given(points("some"), st.floats(0.001, 1))
def test_it_is_the_simulated_drivers_curve(given_points: Points, share: float) -> None:
    """Also where only some points have accelerations."""
    given_points.velocities[-1] = 0.0
    sent = JointTrajectory(joint_names=["a", "b"])
    for time_ns, position, velocity, acceleration in zip(
        given_points.times_ns - NOW_NS, given_points.positions, given_points.velocities, given_points.accelerations, strict=True
    ):
        point = JointTrajectoryPoint(positions=position.tolist(), velocities=velocity.tolist())
        point.accelerations = [] if np.isnan(acceleration).any() else acceleration.tolist()
        set_time(point, int(time_ns))
        sent.points.append(point)
    driver = TrajectoryDriver(["a", "b"], [0.0, 0.0])
    driver.accept(sent, 0.0)
    time_ns = int(share * (given_points.times_ns[-1] - 1 - NOW_NS))
    position, velocity = driver.sample(time_ns * 1e-9)
    state = Curve(given_points).at(NOW_NS + time_ns)
    assert state.position == pytest.approx(position, abs=1e-6)
    assert state.velocity == pytest.approx(velocity, abs=1e-3)


def test_samples_lie_on_the_curve_and_are_dense() -> None:
    times_ns = NOW_NS + np.array([0, 20, 40, 240]) * 10**6
    rng = np.random.default_rng(0)
    curve = Curve(Points(NOW_NS, times_ns, *rng.normal(size=(3, 4, 14))))
    samples = curve.samples(0.005, 10)
    assert samples.positions.shape == (3 * 41, 14) == samples.jerks.shape  # 200 ms in steps of 5 ms
    first_of_third = curve.at(int(times_ns[2]) + 5 * 10**6)
    row = int(np.abs(samples.positions - first_of_third.position).max(axis=1).argmin())
    assert samples.velocities[row] == pytest.approx(first_of_third.velocity)
    assert samples.accelerations[row] == pytest.approx(first_of_third.acceleration)
    positions, velocities = curve.moments(0.02)
    knots = [curve.at(int(time_ns)) for time_ns in times_ns[:-1]]
    assert positions[:3] == pytest.approx(np.array([knot.position for knot in knots])) and len(positions) == 3 * 10 + 1
    assert velocities[:3] == pytest.approx(np.array([knot.velocity for knot in knots]))
    assert positions[-1] == pytest.approx(curve.points.positions[-1])
    assert not curve.at(NOW_NS - 1).velocity.any() and not curve.at(curve.end_ns).velocity.any()


def test_a_single_point_is_a_place() -> None:
    curve = Curve(Points(NOW_NS, np.array([NOW_NS]), *np.ones((3, 1, 2))))
    assert [values.tolist() for values in curve.moments(0.02)] == [[[1, 1]], [[1, 1]]]
    assert curve.samples(0.005, 10).positions.tolist() == [[1, 1]] == [curve.at(NOW_NS + 5).position.tolist()]


@pytest.fixture(scope="module")
def random_joints() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(ARMS.lower, ARMS.upper, (40, 14)), rng.normal(size=(40, 14))


def test_tools_are_where_the_arbiters_kinematics_have_them(random_joints: tuple[np.ndarray, np.ndarray]) -> None:
    """Two implementations, on two libraries, that must agree."""
    q, rates = random_joints
    poses, other = ForwardKinematics(CELL).poses(q, rates), Kinematics(CELL)
    for row in range(len(q)):
        positions, orientations = other.forward(q[row])
        assert poses.tcp[row] == pytest.approx(positions, abs=1e-9)
        down = [-pin.Quaternion(quaternion).toRotationMatrix()[2, 2] for quaternion in orientations]
        assert poses.tool_down[row] == pytest.approx(np.array(down), abs=1e-9)
        jacobian = other.jacobian(q[row])
        speeds = [np.linalg.norm(jacobian[arm, :3] @ rates[row, arm * 7 : arm * 7 + 7]) for arm in range(2)]
        assert poses.tcp_speed[row] == pytest.approx(np.array(speeds), abs=1e-9)


def test_elbows_are_where_the_robots_description_has_them(random_joints: tuple[np.ndarray, np.ndarray]) -> None:
    q, rates = random_joints
    poses = ForwardKinematics(CELL).poses(q, rates)
    model = pin.buildModelFromUrdf(str(_find(CELL.urdf)))
    data, elbow = model.createData(), model.getFrameId(CELL.safety.elbow_link)
    for row in range(len(q)):
        for arm, span in enumerate((slice(0, 7), slice(7, 14))):
            jacobian = pin.computeFrameJacobian(model, data, q[row, span], elbow, pin.LOCAL_WORLD_ALIGNED)
            pin.framesForwardKinematics(model, data, q[row, span])
            assert poses.elbow[row, arm] == pytest.approx(data.oMf[elbow].translation + CELL.arms[arm].base_position, abs=1e-9)
            assert poses.elbow_speed[row, arm] == pytest.approx(np.linalg.norm(jacobian[:3] @ rates[row, span]), abs=1e-9)


def test_at_home_the_palms_are_lowest() -> None:
    poses = ForwardKinematics(CELL).poses(HOME[None], np.zeros((1, 14)))
    assert poses.kept[..., 2].min(axis=-1) == pytest.approx(poses.tcp[..., 2] + CELL.tool.palm_behind_tcp)
    assert poses.tool_down == pytest.approx(1.0)


def test_a_description_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 6"):
        ForwardKinematics(CELL.model_copy(update={"joints": CELL.joints[:6]}))
    with pytest.raises(ValueError, match="is not there"):
        ForwardKinematics(CELL.model_copy(update={"urdf": "no_such_package:a.urdf"}))
