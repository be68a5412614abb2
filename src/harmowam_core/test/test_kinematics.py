"""Kinematics: known poses, algebraic laws on random samples, cold and warm inverse kinematics."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import HAND_LENGTH_M, READY_POSTURE_RAD, Kinematics, KinematicsError

CELL = load_cell()
LOWER = np.array(CELL.limits.position_lower * 2)
UPPER = np.array(CELL.limits.position_upper * 2)


@pytest.fixture(scope="module")
def kinematics() -> Kinematics:
    return Kinematics(CELL)


def changed(**limits: tuple[float, ...]) -> Cell:
    return CELL.model_copy(update={"limits": CELL.limits.model_copy(update=limits)})


def random_workspace_targets(kinematics: Kinematics, count: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Tool poses that some posture within the limits reaches, inside the cell's workspace."""
    random = np.random.default_rng(3)
    targets = []
    while len(targets) < count:
        positions, orientations = kinematics.forward(random.uniform(LOWER, UPPER))
        if ((positions > CELL.workspace.lower) & (positions < CELL.workspace.upper)).all():
            targets.append((positions, orientations))
    return targets


def test_ready_posture_agrees_with_the_data_sheet(kinematics: Kinematics) -> None:
    """Upper arm leaning back by 45 degrees, fore arm level, hand straight down, with the published link lengths."""
    shoulder, upper, elbow, fore, wrist, flange = 0.333, 0.316, 0.0825, 0.384, 0.088, 0.107
    diagonal = np.sqrt(0.5)
    x = (elbow - upper) * diagonal + fore + wrist
    z = shoulder + (elbow + upper) * diagonal + elbow - flange - HAND_LENGTH_M
    positions, orientations = kinematics.forward(np.tile(READY_POSTURE_RAD, 2))
    assert positions[0] - CELL.arms[0].base_position == pytest.approx([x, 0, z], abs=1e-6)
    assert np.abs(orientations) == pytest.approx(np.tile([1.0, 0, 0, 0], (2, 1)), abs=1e-9)


def test_home_reaches_the_home_poses_and_is_deterministic(kinematics: Kinematics) -> None:
    positions, orientations = kinematics.forward(kinematics.home())
    assert positions == pytest.approx(np.array([arm.home_tcp_position for arm in CELL.arms]), abs=2e-6)
    assert np.abs(orientations) == pytest.approx(np.abs([arm.home_tcp_orientation for arm in CELL.arms]), abs=2e-5)
    assert np.array_equal(kinematics.home(), Kinematics(CELL).home())
    assert ((kinematics.home() > LOWER) & (kinematics.home() < UPPER)).all()


def test_jacobian_is_the_derivative_of_forward(kinematics: Kinematics) -> None:
    q, step = kinematics.home() + 0.1, 1e-6
    jacobian = kinematics.jacobian(q)
    for joint in range(14):
        nudge = np.zeros(14)
        nudge[joint] = step
        slope = (kinematics.forward(q + nudge)[0] - kinematics.forward(q - nudge)[0]) / (2 * step)
        arm, column = divmod(joint, 7)
        assert slope[arm] == pytest.approx(jacobian[arm, :3, column], abs=1e-6)
        assert slope[1 - arm] == pytest.approx(np.zeros(3), abs=1e-9)


def test_condition_number_grows_towards_the_stretched_arm(kinematics: Kinematics) -> None:
    stretched = np.tile([0.0, 0.6, 0.0, -0.16, 0.0, 1.6, 0.0], 2)
    assert (kinematics.condition_numbers(kinematics.home()) < 15).all()
    assert (kinematics.condition_numbers(stretched) > 30).all()


def test_cold_starts(kinematics: Kinematics) -> None:
    """From home to anywhere some posture within the limits reaches: at least 99 % of the arms arrive."""
    results = [kinematics.inverse(*target, kinematics.home(), restarts=20) for target in random_workspace_targets(kinematics, 150)]
    assert np.mean([result.converged for result in results]) >= 0.99
    for result in results:
        assert ((result.q >= LOWER) & (result.q <= UPPER)).all()


def test_converged_results_reach_their_targets(kinematics: Kinematics) -> None:
    for positions, orientations in random_workspace_targets(kinematics, 40):
        result = kinematics.inverse(positions, orientations, kinematics.home(), restarts=20)
        reached, turned = kinematics.forward(result.q)
        assert np.abs(reached - positions)[result.converged].max() < 2e-6
        assert (np.abs(np.sum(turned * orientations, axis=-1))[result.converged] > 1 - 1e-9).all()


def test_tracking_is_smooth_and_leaves_the_other_arm_alone(kinematics: Kinematics) -> None:
    q = kinematics.home()
    positions, orientations = kinematics.forward(q)
    path = [q]
    for step in range(100):
        positions[0] += [0.01 * np.cos(step / 30), 0.01 * np.sin(step / 30), -0.0005]
        result = kinematics.inverse(positions, orientations, path[-1])
        assert result.converged.all()
        path.append(result.q)
    assert np.abs(np.diff(path, axis=0)).max() < 0.06
    assert np.abs(np.diff(path, 2, axis=0))[5:].max() < 0.01
    assert np.array_equal(path[-1][7:], q[7:])


def test_out_of_reach_is_reported_not_raised(kinematics: Kinematics) -> None:
    positions, orientations = kinematics.forward(kinematics.home())
    positions[1] = [3.0, 0.0, 0.5]
    result = kinematics.inverse(positions, orientations, kinematics.home())
    assert result.converged.tolist() == [True, False]
    assert result.position_error_m[1] > 1.0
    assert np.isfinite(result.q).all()


def test_bad_numbers_are_named(kinematics: Kinematics) -> None:
    with pytest.raises(ValueError, match="q must be finite"):
        kinematics.forward(np.full(14, np.nan))
    with pytest.raises(ValueError, match=r"q has shape \(7,\)"):
        kinematics.forward(np.zeros(7))


def test_profile_looser_than_the_robot_is_refused() -> None:
    with pytest.raises(KinematicsError, match="velocity of 'fr3_joint1'"):
        Kinematics(changed(velocity=(9.0, *CELL.limits.velocity[1:])))
    with pytest.raises(KinematicsError, match="position_lower of 'fr3_joint1'"):
        Kinematics(changed(position_lower=(-3.0, *CELL.limits.position_lower[1:])))


def test_missing_robot_description_is_named() -> None:
    with pytest.raises(KinematicsError, match="no_such_package"):
        Kinematics(CELL.model_copy(update={"urdf": "no_such_package:robot.urdf"}))
