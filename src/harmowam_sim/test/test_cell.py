"""The simulated cell: kinematics, tracking, contact grasps, exact restarts, cameras, speed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from harmowam_core.cell import Calibration, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import StageError
from harmowam_sim.cell import SimCell
from harmowam_sim.model import SceneError
from harmowam_sim.scene import Appearance, Geom, Scene, SceneObject

CELL = load_cell()
KINEMATICS = Kinematics(CELL)
DT_S = 0.01


def ball(name="apple", position=(0.5, 0.12, 0.03), radius=0.03):
    return SceneObject(name, (Geom("sphere", (radius,), rgba=(0.8, 0.1, 0.1, 1.0)),), 0.1, position)


def can(name="can", position=(0.45, 0.05, 0.045)):
    return SceneObject(name, (Geom("cylinder", (0.028, 0.045), rgba=(0.1, 0.2, 0.8, 1.0)),), 0.3, position)


def move(cell, target, speed_m_s=0.25):
    """Left tool along a straight minimum-jerk line peaking at this speed; returns the worst tracking error, m."""
    positions, orientations = KINEMATICS.forward(cell.arm_positions)
    start, q, worst = positions[0].copy(), cell.arm_positions, 0.0
    steps = max(round(np.linalg.norm(target - start) * 1.875 / speed_m_s / DT_S), 1)
    path = []
    for s in np.linspace(0, 1, steps + 1):
        positions[0] = start + (target - start) * (10 * s**3 - 15 * s**4 + 6 * s**5)
        q = KINEMATICS.inverse(positions, orientations, q).q
        path.append(q)
    rates = np.gradient(np.array(path), DT_S, axis=0) if steps > 1 else np.zeros((2, 14))
    for before, after, rate_before, rate_after in zip(path, path[1:], rates, rates[1:], strict=False):
        for share in np.arange(1, 6) / 5:  # set-points at the driver's rate, 500 Hz
            cell.command_arms(before + share * (after - before), rate_before + share * (rate_after - rate_before))
            cell.step(DT_S / 5)
        worst = max(worst, float(np.linalg.norm(cell.tcp_pose()[0][0] - KINEMATICS.forward(after)[0][0])))
    cell.command_arms(path[-1], np.zeros(14))
    return worst


def wait(cell, duration_s):
    cell.step(duration_s)


def test_tool_poses_agree_with_the_urdf_kinematics():
    random = np.random.default_rng(0)
    lower, upper = np.tile(CELL.limits.position_lower, 2), np.tile(CELL.limits.position_upper, 2)
    for _ in range(5):
        q = random.uniform(lower, upper)
        with SimCell(Scene(), start_arm_positions=q) as cell:
            positions, orientations = cell.tcp_pose()
        expected, turned = KINEMATICS.forward(q)
        assert np.abs(positions - expected).max() < 1e-4
        assert np.abs(np.abs((orientations * turned).sum(axis=1)) - 1).max() < 1e-6


def test_starts_at_home_and_stays_there():
    with SimCell(Scene()) as cell:
        home = np.array([arm.home_tcp_position for arm in CELL.arms])
        assert cell.tcp_pose()[0] == pytest.approx(home, abs=1e-4)
        wait(cell, 2.0)
        assert cell.time_s == pytest.approx(2.0)
        assert cell.tcp_pose()[0] == pytest.approx(home, abs=5e-4)
        assert cell.openings == pytest.approx([1.0, 1.0], abs=0.02)


def test_joint_state_names_and_units():
    with SimCell(Scene(), start_openings=(0.5, 1.0)) as cell:
        state = cell.joint_state()
    assert state.names == CELL.arm_joint_names + CELL.finger_joint_names
    assert state.positions[:14] == pytest.approx(KINEMATICS.home(), abs=1e-9)
    assert state.positions[14:] == pytest.approx([0.02, 0.04])


def test_tracks_within_two_millimetres_at_a_quarter_metre_a_second():
    with SimCell(Scene()) as cell:
        errors = [move(cell, np.array(target)) for target in ((0.6, 0.3, 0.1), (0.35, -0.1, 0.25), (0.55, 0.1, 0.05))]
    assert max(errors) < 2e-3


@pytest.mark.parametrize(("thing", "height"), [(ball(), 0.03), (can(), 0.06)])
def test_grasps_lifts_and_carries_by_contact(thing, height):
    with SimCell(Scene((thing,))) as cell:
        above = np.array(thing.position) * (1, 1, 0) + (0, 0, 0.2)
        move(cell, above)
        move(cell, above * (1, 1, 0) + (0, 0, height))
        assert cell.in_contact(thing.name, "table") and not cell.grasped(thing.name, "left")
        cell.command_openings([0.0, 1.0])
        wait(cell, 0.6)
        assert cell.grasped(thing.name, "left") and not cell.grasped(thing.name, "right")
        assert cell.in_contact(thing.name, "left_hand") and not cell.in_contact(thing.name, "right_hand")
        move(cell, above)
        held = cell.object_pose(thing.name)[0] - cell.tcp_pose()[0][0]
        move(cell, above + np.array([0.05, -0.1, 0.0]))
        wait(cell, 5.0)
        slip = cell.object_pose(thing.name)[0] - cell.tcp_pose()[0][0] - held
        assert np.linalg.norm(slip) < 3e-3
        assert cell.grasped(thing.name, "left") and not cell.in_contact(thing.name, "table")
        cell.command_openings([1.0, 1.0])
        wait(cell, 0.15)
        assert not cell.grasped(thing.name, "left") and cell.object_velocity(thing.name)[0][2] < -0.1


def test_fingers_close_in_half_a_second():
    with SimCell(Scene()) as cell:
        cell.command_openings([0.0, 1.0])
        wait(cell, 0.1)
        assert 0.5 < cell.openings[0] < 0.9
        wait(cell, 0.4)
        assert cell.openings == pytest.approx([0.0, 1.0], abs=0.03)


def test_an_open_finger_that_is_pushed_outward_stays_at_its_stop():
    """A hand that runs into something pushes that hard; the arbiter takes no joint state with fingers that are nowhere."""
    with SimCell(Scene()) as cell:
        finger = cell.model.body("left_finger1").id
        cell.data.xfrc_applied[finger, :3] = cell.data.xmat[finger].reshape(3, 3)[:, 1] * 120.0  # N
        wait(cell, 0.3)
        assert cell.joint_state().positions[14:] == pytest.approx([CELL.finger_travel] * 2, abs=1e-3)


def test_objects_rest_where_they_are_put():
    things = (ball(), can(), SceneObject("plate", (Geom("cylinder", (0.08, 0.006)),), 0.3, (0.6, -0.1, 0.006), fixed=True))
    with SimCell(Scene(things)) as cell:
        wait(cell, 2.0)
        for thing in things:
            assert cell.object_pose(thing.name)[0] == pytest.approx(thing.position, abs=2e-3)
            assert np.linalg.norm(cell.object_velocity(thing.name)[0]) < 1e-2


def test_restarts_exactly():
    with SimCell(Scene((ball(), can(position=(0.5, 0.12, 0.11))))) as cell:  # the can falls onto the ball
        wait(cell, 0.1)
        state = cell.state()
        cell.command_openings([0.0, 0.5])
        wait(cell, 0.5)
        after = cell.state()
        cell.restore(state)
        assert cell.time_s == pytest.approx(0.1)
        cell.command_openings([0.0, 0.5])
        wait(cell, 0.5)
        again = cell.state()
    assert not np.array_equal(after["qpos"], state["qpos"])
    for name, value in after.items():
        assert np.array_equal(again[name], value), name


def test_pictures_show_things_where_the_calibration_says():
    thing = ball(position=(0.55, 0.2, 0.03))
    with SimCell(Scene((thing,))) as cell, SimCell(Scene()) as empty:
        picture = cell.render("scene")
        assert picture.shape == (128, 160, 3) and picture.dtype == np.uint8
        assert np.array_equal(picture, cell.render("scene"))
        changed = (np.abs(picture.astype(int) - empty.render("scene")).sum(axis=2) > 150) & (picture[..., 0] > 1.5 * picture[..., 1])
        rows, columns = np.nonzero(changed)
        expected = CELL.camera("scene").project(np.array(thing.position))
        assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(expected, abs=1.0)


def test_a_calibrated_camera_is_refused_not_rendered_wrongly():
    scene = CELL.camera("scene")
    lens = Calibration(fx=600.0, fy=600.0, cx=320.0, cy=240.0, position=scene.position, orientation=(0.0, 0.0, 0.0, 1.0))
    cameras = (scene.model_copy(update={"calibration": lens}), *CELL.cameras[1:])
    with pytest.raises(SceneError, match="camera 'scene' of cell 'franka_dual' is calibrated"):
        SimCell(Scene(), CELL.model_copy(update={"cameras": cameras}))


def test_wrist_pictures_show_what_is_between_the_fingers():
    camera = CELL.camera("wrist_left")
    thing = ball(position=(0.4, 0.12, 0.3), radius=0.02)
    with SimCell(Scene((thing,))) as cell:
        picture = cell.render("wrist_left").astype(int)
        rows, columns = np.nonzero((picture[..., 0] > 100) & (picture[..., 1] < 60))
        assert [columns.mean() + 0.5, rows.mean() + 0.5] == pytest.approx(camera.project(np.zeros(3)), abs=2.0)
        assert cell.render("wrist_right", (240, 320)).shape == (240, 320, 3)


def test_a_recorded_moment_renders_the_same():
    with SimCell(Scene((ball(),))) as cell, SimCell(Scene((ball(),))) as replayed:
        move(cell, np.array([0.5, 0.2, 0.2]))
        replayed.show(cell.state()["qpos"])
        for camera in CELL.cameras:
            difference = np.abs(cell.render(camera.name).astype(int) - replayed.render(camera.name))
            assert difference.max() <= 2, camera.name


def test_appearance_changes_the_picture():
    means = []
    for look in (
        Appearance(),
        Appearance(table_texture="checker", table_rgb_2=(0.1, 0.1, 0.1)),
        Appearance(table_texture="stripes"),
        Appearance(ambient=0.2),
    ):
        with SimCell(Scene(appearance=look)) as cell:
            means.append(cell.render("scene")[80:].mean())
    assert min(abs(a - b) for i, a in enumerate(means) for b in means[:i]) > 3


def test_runs_ten_times_faster_than_real_time():
    with SimCell(Scene((ball(), can(), ball("other", (0.6, 0.3, 0.03))))) as cell:
        started = time.process_time()
        wait(cell, 4.0)
        assert 4.0 / (time.process_time() - started) > 10


@pytest.mark.parametrize(
    ("things", "text"),
    [
        ((ball("same"), can("same")), "same"),
        ((ball("left_hand"),), "left_hand"),
        ((SceneObject("nothing", (), 0.1, (0.5, 0, 0)),), "nothing"),
        ((SceneObject("light", (Geom("sphere", (0.1,)),), 0.0, (0.5, 0, 0)),), "mass_kg"),
        ((SceneObject("flat", (Geom("box", (0.1, 0.1)),), 0.1, (0.5, 0, 0)),), "3 positive sizes"),
        ((SceneObject("odd", (Geom("cone", (0.1,)),), 0.1, (0.5, 0, 0)),), "cone"),
    ],
)
def test_malformed_scenes_are_named(things, text):
    with pytest.raises(SceneError, match=text):
        SimCell(Scene(things))


def test_malformed_commands_are_refused_and_change_nothing():
    with SimCell(Scene()) as cell:
        before = cell.state()["ctrl"]
        for positions, velocities in (
            (np.full(14, np.nan), np.zeros(14)),
            (np.zeros(13), np.zeros(13)),
            (np.zeros(14), np.full(14, np.inf)),
        ):
            with pytest.raises(StageError):
                cell.command_arms(positions, velocities)
        with pytest.raises(StageError):
            cell.command_openings([np.nan, 1.0])
        assert np.array_equal(cell.state()["ctrl"], before)
        with pytest.raises(KeyError, match="apple"):
            cell.object_pose("apple")
        with pytest.raises(KeyError, match="apple"):
            cell.grasped("apple", "left")
        with pytest.raises(KeyError, match="lamp"):
            cell.in_contact("table", "lamp")
        with pytest.raises(KeyError, match="ceiling"):
            cell.render("ceiling")
