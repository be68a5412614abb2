"""The embedded planner and what it is made of, without ROS."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import trimesh

from harmowam_bringup.planning import moveit
from harmowam_bringup.planning.bench import measure, random_pairs
from harmowam_bringup.planning.checker import PathChecker
from harmowam_bringup.planning.collision import CollisionModel, Robots
from harmowam_bringup.planning.embedded import EmbeddedPlanner
from harmowam_bringup.planning.moveit import MoveItPyPlanner, checked_configuration, collision_objects, in_cell_order
from harmowam_bringup.planning.moves import come_back, joint_goal, lift, plan_move
from harmowam_bringup.planning.protocol import Obstacle, PlanningCancelled, PlanningError, PlanningScene
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.solids import load_solids
from harmowam_gate.rounded_path import RoundedPath
from harmowam_sim.assets import franka_meshes
from harmowam_sim.model import TABLE_LOWER, TABLE_UPPER

CELL = load_cell()
KINEMATICS = Kinematics(CELL)
HOME = KINEMATICS.home()
ROBOTS = Robots(CELL, KINEMATICS)
WALL = Obstacle("wall", (0.25, 0.03, 0.2), (0.5, 0.1, 0.1))
LOWER, UPPER = (np.tile(limit, 2) for limit in (CELL.limits.position_lower, CELL.limits.position_upper))


def turned(*changes: tuple[int, float]) -> np.ndarray:
    q = HOME.copy()
    for joint, radians in changes:
        q[joint] += radians
    return q


def left_tool_at(x: float, y: float, z: float) -> np.ndarray:
    positions, orientations = KINEMATICS.forward(HOME)
    positions[0] = x, y, z
    return KINEMATICS.inverse(positions, orientations, HOME, max_iterations=200).q


def clutter(rng: np.random.Generator) -> tuple[Obstacle, ...]:
    places = rng.uniform((0.3, -0.5), (0.8, 0.5), (4, 2))
    return tuple(Obstacle(f"box{i}", (0.1, 0.1, 0.2), (float(x), float(y), 0.1)) for i, (x, y) in enumerate(places))


# ---- solids and collisions ---------------------------------------------------------------------------------------------


def test_solids_enclose_the_meshes_that_are_seen() -> None:
    solids = load_solids(CELL)
    for mesh in franka_meshes():
        if mesh.part not in solids or mesh.part == "link0":
            continue
        hull = trimesh.load(mesh.path).convex_hull
        points = np.vstack([hull.vertices, trimesh.sample.sample_surface(hull, 2000, seed=0)[0]])
        outside = np.full(len(points), np.inf)
        for solid in solids[mesh.part]:
            (a, b), radius = solid.corners()
            share = np.clip((points - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            outside = np.minimum(outside, np.linalg.norm(points - a - share[:, None] * (b - a), axis=1) - radius)
        assert outside.max() <= 0.0005, f"{mesh.name} sticks out of its solids"


def test_the_profile_has_the_simulated_table() -> None:
    [table] = CELL.obstacles
    np.testing.assert_allclose([table.lower, table.upper], [TABLE_LOWER, TABLE_UPPER])


def test_whatever_touches_in_mujoco_touches_in_the_planner() -> None:
    rng, touching = np.random.default_rng(0), 0
    for _ in range(3):
        boxes = clutter(rng)
        model = CollisionModel(ROBOTS, PlanningScene.of(CELL, boxes), (0, 1), 1e-4)
        checker = PathChecker(CELL, boxes)
        for _ in range(150):
            q = rng.uniform(LOWER, UPPER)
            if contacts := checker.contacts(q):
                touching += 1
                assert model.closest(q).distance_m < 0, contacts
                assert not model.free(q)
    assert touching > 50


def test_a_free_line_is_free_at_every_point() -> None:
    rng, lines = np.random.default_rng(1), {True: 0, False: 0}
    scene = PlanningScene.of(CELL, clutter(rng))
    model = CollisionModel(ROBOTS, scene, (0, 1), 0.02)
    exact = CollisionModel(ROBOTS, scene, (0, 1), 0.015)
    exact.start_from(HOME, np.array([[0.0011], [0.0051]]))
    while min(lines.values()) < 4:
        a, b = (HOME + rng.uniform(-0.4, 0.4, 14) for _ in range(2))
        if not (model.free(a) and model.free(b)):
            continue
        free = model.line_free(a, b)
        dense = [exact.free(a + share * (b - a)) for share in np.linspace(0, 1, 400)]
        lines[free] += 1
        assert not free or all(dense)


def test_an_arm_that_stands_is_an_obstacle_and_needs_no_room_of_its_own() -> None:
    near = Obstacle("near", (0.05, 0.05, 0.3), (0.30, -0.53, 0.4))
    scene = PlanningScene.of(CELL, (near,))  # touches the right hand at home
    assert CollisionModel(ROBOTS, scene, (1,), 0.01).closest(HOME).distance_m < 0.01
    assert CollisionModel(ROBOTS, scene, (0,), 0.01).free(HOME)


# ---- the planner -------------------------------------------------------------------------------------------------------


def free_of_contacts(path: np.ndarray, boxes: tuple[Obstacle, ...]) -> None:
    rounded = RoundedPath(path)
    count, contacts = PathChecker(CELL, boxes).walk(rounded)
    assert count > rounded.length and not contacts


def test_it_goes_around_a_wall() -> None:
    start, goal = left_tool_at(0.5, 0.32, 0.12), left_tool_at(0.5, -0.12, 0.12)
    plan = EmbeddedPlanner(PlanningScene.of(CELL, (WALL,)), KINEMATICS).plan(start, goal)
    np.testing.assert_array_equal(plan.path[[0, -1]], [start, goal])
    assert len(plan.path) > 2 and "RRTConnect" in plan.method and plan.fallbacks[0] == "straight line"
    free_of_contacts(plan.path, (WALL,))


@pytest.mark.parametrize(
    ("start", "goal", "boxes", "why"),
    [
        (HOME, turned((3, 4.0)), (), "beyond the limit of left_fr3_joint4"),
        (HOME, HOME[:7], (), "14 finite"),
        (HOME, np.full(14, np.nan), (), "finite"),
        (HOME, turned((0, -1.6), (1, 0.9)), (), "at the goal"),
        (HOME, turned((5, 1.0)), (), "leans"),
        (HOME, turned((0, 0.2)), (Obstacle("hat", (0.2, 0.2, 0.1), (0.4, 0.12, 0.3)),), "at the start .* touches .*hat.*: retreat"),
    ],
)
def test_impossible_ends_are_said(start: np.ndarray, goal: np.ndarray, boxes: tuple[Obstacle, ...], why: str) -> None:
    with pytest.raises(PlanningError, match=why):
        EmbeddedPlanner(PlanningScene.of(CELL, boxes), KINEMATICS).plan(start, goal)


def test_it_gives_up_in_time_and_when_told() -> None:
    cage = tuple(Obstacle(f"bar{i}", (0.03, 0.6, 0.9), (x, 0.15, 0.5)) for i, x in enumerate((0.18, 0.62)))
    planner = EmbeddedPlanner(PlanningScene.of(CELL, cage), KINEMATICS, time_limit_s=1.0)
    goal = turned((0, 0.8), (1, 0.4), (3, 0.5))
    with pytest.raises(PlanningError) as failed:
        planner.plan(HOME, goal, cancelled=lambda: True)
    assert isinstance(failed.value, PlanningCancelled) or "at the" in str(failed.value)


def test_the_bench_counts_and_an_independent_checker_judges() -> None:
    from rich.console import Console

    results = measure(3, 0, CELL, 3.0, Console(quiet=True))
    assert results["pairs"] == 3 and results["success"] == 1.0 and results["collisions"] == 0
    assert results["points_checked"] > 1000 and results["path_length_ratio"]["p50"] >= 0.99
    a, b = (next(random_pairs(CELL, EmbeddedPlanner(PlanningScene.of(CELL), KINEMATICS), 4)) for _ in range(2))
    np.testing.assert_array_equal(a.start, b.start)


# ---- moves -------------------------------------------------------------------------------------------------------------


def test_retreat_goes_straight_up_from_where_it_touches() -> None:
    scene = PlanningScene.of(CELL)
    positions = KINEMATICS.forward(HOME)[0]
    positions[0, 2] = 0.004  # finger tips in the table
    start = left_tool_at(*positions[0])
    planner = EmbeddedPlanner(scene, KINEMATICS)
    with pytest.raises(PlanningError, match="at the start .* retreat first"):
        planner.plan(start, turned((0, 0.3)))
    up = lift(KINEMATICS, scene, start)
    tools = np.array([KINEMATICS.forward(q)[0] for q in up])
    np.testing.assert_allclose(tools[:, 0, :2], np.broadcast_to(positions[0, :2], (len(up), 2)), atol=1e-4)
    assert (np.diff(tools[:, 0, 2]) > 0).all() and tools[-1, 0, 2] == pytest.approx(0.30, abs=1e-4)
    np.testing.assert_array_equal(up[:, 7:], np.broadcast_to(start[7:], (len(up), 7)))
    plan = plan_move(planner, KINEMATICS, scene, "retreat", [], [], start)
    assert plan.method.startswith("straight up")
    np.testing.assert_allclose(plan.path[[0, -1]], [start, HOME])


def test_a_tool_that_is_outside_comes_back_straight() -> None:
    scene = PlanningScene.of(CELL)
    start = turned((5, 0.95))
    assert CollisionModel(ROBOTS, scene, (0,), 0.01).tools_inside(start)[1, 0] < 0
    back = come_back(KINEMATICS, scene, start)
    inside = np.array([CollisionModel(ROBOTS, scene, (0,), 0.01).tools_inside(q)[1, 0] for q in back])
    assert (np.diff(inside) > 0).all() and inside[-1] >= 0
    assert len(come_back(KINEMATICS, scene, HOME)) == 1
    plan = plan_move(EmbeddedPlanner(scene, KINEMATICS), KINEMATICS, scene, "home", [], [], start)
    np.testing.assert_allclose(plan.path[[0, -1]], [start, HOME])


def test_targets_that_are_none() -> None:
    planner, scene = EmbeddedPlanner(PlanningScene.of(CELL), KINEMATICS), PlanningScene.of(CELL)
    with pytest.raises(PlanningError, match="unknown target 'moon'"):
        plan_move(planner, KINEMATICS, scene, "moon", [], [], HOME)
    for names, positions, why in (
        ([], [], "0 joint_names"),
        (["left_fr3_joint1"], [1, 2], "1 joint_names"),
        (["elbow"], [0.0], "unknown joint"),
    ):
        with pytest.raises(PlanningError, match=why):
            joint_goal(CELL, names, positions, HOME)
    assert joint_goal(CELL, ["right_fr3_joint2"], [0.1], HOME)[8] == 0.1


# ---- MoveIt ------------------------------------------------------------------------------------------------------------


def test_without_moveit_there_is_a_remedy() -> None:
    with pytest.raises(RuntimeError, match="apt install ros-jazzy-moveit-py"):
        MoveItPyPlanner(PlanningScene.of(CELL), Path("moveit.yaml"))
    with pytest.raises(RuntimeError, match="apt install ros-jazzy-moveit-py"):
        checked_configuration("moveit.yaml")


@pytest.fixture
def moveit_py(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Stands in for MoveItPy, where it is not installed."""
    for name in ("moveit", "moveit.core", "moveit.core.robot_state", "moveit.planning"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    return sys.modules["moveit.planning"].MoveItPy  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"planner:=moveit needs moveit_config:=FILE, .*docs/planning.md"),
        ("/**:\n\tros__parameters: {}\n", "moveit.yaml is no ROS parameter file"),
        ("[1, 2]", "moveit.yaml is no ROS parameter file"),
        ("/**: {ros__parameters: {robot_description_semantic: <robot/>}}", "moveit.yaml lacks planning_pipelines for the node"),
        ("other: {ros__parameters: {planning_pipelines: {}}}", "lacks robot_description_semantic and planning_pipelines"),
    ],
)
@pytest.mark.usefixtures("moveit_py")
def test_a_configuration_that_moveit_could_not_start_from_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "moveit.yaml"
    path.write_text(text or "")
    with pytest.raises(ValueError, match=message):
        checked_configuration(str(path) if text else "")
    with pytest.raises(ValueError, match="no MoveIt configuration 'nowhere.yaml'"):
        checked_configuration("nowhere.yaml")


def test_moveit_is_given_its_configuration(tmp_path: Path, moveit_py: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moveit, "collision_objects", lambda scene: [])
    path = tmp_path / "moveit.yaml"
    path.write_text("/**: {ros__parameters: {robot_description_semantic: <robot/>, planning_pipelines.pipeline_names: [ompl]}}")
    MoveItPyPlanner(PlanningScene.of(CELL), checked_configuration(str(path)))
    moveit_py.assert_called_once_with(node_name="harmowam_moveit", launch_params_filepaths=[str(path)])


def test_the_scene_becomes_collision_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """moveit_msgs is not installed everywhere: its documented fields, as plain objects."""

    class Message(types.SimpleNamespace):
        ADD, BOX = b"\0", 1

        def __init__(self, **fields: object) -> None:
            super().__init__(header=types.SimpleNamespace(), primitives=[], primitive_poses=[], **fields)

    moveit_msgs, shapes = types.ModuleType("moveit_msgs.msg"), types.ModuleType("shape_msgs.msg")
    moveit_msgs.CollisionObject = Message  # type: ignore[attr-defined]
    shapes.SolidPrimitive = Message  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moveit_msgs.msg", moveit_msgs)
    monkeypatch.setitem(sys.modules, "shape_msgs.msg", shapes)
    table, wall = collision_objects(PlanningScene.of(CELL, (WALL,)))
    assert (table.id, wall.id) == ("table", "wall") and table.header.frame_id == "base"
    assert wall.primitives[0].dimensions == [0.25, 0.03, 0.2] and wall.primitive_poses[0].position.y == 0.1
    assert table.primitive_poses[0].position.z == pytest.approx(-0.02) and table.primitive_poses[0].orientation.w == 1.0


def test_a_trajectory_in_another_order() -> None:
    scene = PlanningScene.of(CELL)
    names = list(CELL.arm_joint_names)
    np.testing.assert_array_equal(in_cell_order(scene, names[::-1], [HOME[::-1].tolist()]), HOME[None])
    with pytest.raises(PlanningError, match="left_fr3_joint1"):
        in_cell_order(scene, names[1:], [HOME[1:].tolist()])
