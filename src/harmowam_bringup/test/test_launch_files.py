"""The project's own launch files; real_robot.launch.py has a file of tests for itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import yaml
from launch_stand_in import description_of

from harmowam_bringup.drill.relayed import relayed_topics
from harmowam_bringup.launch_yaml import declared_arguments, read_launch
from harmowam_bringup.substitutions import LaunchError
from harmowam_core import topics
from harmowam_core.backends import BACKEND_CHOICES
from harmowam_core.cell import load_cell

SOURCE = Path(__file__).parents[1]


@pytest.fixture
def installed(stand_ins: Path) -> Path:
    """This package's share directory in a workspace with the whole graph."""
    return stand_ins / "harmowam_bringup/share/harmowam_bringup"


def test_sim_runs_the_cell_and_the_graph(installed: Path) -> None:
    launch = read_launch(
        installed / "launch/sim.launch.yaml", {"task": "stack_cans", "seed": "3", "preset": "mine", "real_time_factor": "1"}
    )
    nodes = {process.node: process for process in launch.processes}
    assert list(nodes) == ["cell", "world_model", "predictive_expert", "reactive_expert", "arbiter", "planner", "auditor"]

    def values(node: str) -> dict[str, object]:
        return {name: value for source in nodes[node].parameters for name, value in source["/**"]["ros__parameters"].items()}

    assert values("cell") == {
        "task": "stack_cans", "environment": "in_domain", "seed": 3, "real_time_factor": 1.0, "camera_rate": 10.0, "state_log": "",
        "cell": "franka_dual", "autostart": True,
    }  # fmt: skip
    assert values("auditor") == {"cell": "franka_dual", "autostart": True}
    shared = {"preset": "mine", "contract": "", "weights_directory": "", "device": "cpu", "backend": "openvino", "autostart": True}
    for node in list(nodes)[1:5]:
        assert values(node) == (shared | {"joint_state_max_age_s": 0.25} if node == "arbiter" else shared)
    assert values("planner") == {"preset": "mine", "planner": "embedded", "moveit_config": "", "autostart": True}
    assert all(process.respawn for node, process in nodes.items() if node != "cell")
    assert nodes["cell"].shutdown_on_exit and not nodes["cell"].respawn


def test_in_a_drill_every_relayed_topic_leads_through_the_relay(installed: Path) -> None:
    plain = read_launch(installed / "launch/sim.launch.yaml")
    drill = read_launch(installed / "launch/sim.launch.yaml", {"drill": "true"})
    drilled = {process.node: process for process in drill.processes}
    assert set(drilled) == {*(process.node for process in plain.processes), "relay"}
    relayed: dict[str, str] = {}
    for before in plain.processes:
        process = drilled[before.node]
        rules = [word for word in process.ros_arguments if ":=" in word and word not in before.ros_arguments]
        assert (rules or before.node == "planner") and process.parameters == before.parameters  # the planner publishes nothing
        relayed |= dict(rule.split(":=") for rule in rules)  # type: ignore[arg-type]
    assert relayed == {name: topics.relayed(name) for name in relayed_topics(load_cell())}
    assert not any("/relay" in word for process in plain.processes for word in process.ros_arguments)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("environment", "mars", "'environment' is 'mars', expected one of in_domain, background, position, objects"),
        ("seed", "many", "parameter 'seed' is 'many', expected int"),
        ("backend", "abacus", "'backend' is 'abacus'"),
        ("colour", "red", "no argument 'colour'; it has autostart, autostart_arbiter, backend"),
    ],
)
def test_bad_arguments_are_named(installed: Path, argument: str, value: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        read_launch(installed / "launch/sim.launch.yaml", {argument: value})


def test_a_dry_run_leads_the_arbiters_trajectories_away(installed: Path) -> None:
    plain = {process.node: process for process in read_launch(installed / "launch/graph.launch.yaml").processes}
    dry = {process.node: process for process in read_launch(installed / "launch/graph.launch.yaml", {"dry_run": "true"}).processes}
    for node, process in dry.items():
        rules = [word for word in process.ros_arguments if ":=" in word and word not in plain[node].ros_arguments]
        wanted = [f"{topic}:=/dry_run{topic}" for topic in (load_cell().controllers.arm_topic, load_cell().controllers.gripper_topic)]
        assert rules == (wanted if node == "arbiter" else [])


def test_in_a_dry_run_no_drill_brings_trajectories_back(installed: Path) -> None:
    drill = read_launch(installed / "launch/graph.launch.yaml", {"dry_run": "true", "drill": "true"})
    [arbiter] = [process for process in drill.processes if process.node == "arbiter"]
    rules = [word for word in arbiter.ros_arguments if "joint_trajectory:=" in word]
    assert len(rules) == 4 and all(":=/dry_run/" in rule for rule in rules[:2])  # the first rule for a name counts


def test_the_arbiter_can_be_left_waiting(installed: Path) -> None:
    launch = read_launch(installed / "launch/graph.launch.yaml", {"autostart_arbiter": "false"})
    values = {
        process.node: value
        for process in launch.processes
        for source in process.parameters
        for name, value in source["/**"]["ros__parameters"].items()
        if name == "autostart"
    }
    assert values.pop("arbiter") is False and all(values.values())


def test_replay_commands_nothing_and_runs_on_the_recordings_clock(installed: Path) -> None:
    launch = read_launch(
        installed / "launch/replay.launch.yaml", {"bag": "/bags/a b", "start": "2.5", "contract": "/my.yaml", "rviz": "true"}
    )
    nodes = [process for process in launch.processes if process.node]
    assert [process.node for process in nodes] == ["world_model", "predictive_expert", "reactive_expert", "arbiter", "planner"]
    for process in nodes:
        values = {name: value for source in process.parameters for name, value in source["/**"]["ros__parameters"].items()}
        assert values["use_sim_time"] is True and values["tracking_rad"] == values["blocked_rad"] == 1.0
        assert process.environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds.xml")
    [arbiter] = [process for process in nodes if process.node == "arbiter"]
    assert sum(":=/dry_run/" in word for word in arbiter.ros_arguments) == 2
    [player, viewer] = [process for process in launch.processes if not process.node]
    words = ("harmowam", "play", "/bags/a b", "--start", "2.5", "--instruction", "", "--preset", "compact", "--contract", "/my.yaml")
    assert player.command == words and "use_sim_time:=true" in viewer.command
    assert player.shutdown_on_exit
    with pytest.raises(LaunchError, match="argument 'bag' .* is required"):
        read_launch(installed / "launch/replay.launch.yaml")


def test_sim_may_be_watched_and_recorded(installed: Path) -> None:
    watched = read_launch(installed / "launch/sim.launch.yaml", {"rviz": "true", "record": "true"}).processes
    commands = [" ".join(map(str, process.command)) for process in watched]
    assert "ros2 launch harmowam_bringup rviz.launch.py cell:=franka_dual" in commands, "with the robot's description"
    assert any("harmowam record --preset compact" in command for command in commands)
    assert len(watched) == len(read_launch(installed / "launch/sim.launch.yaml").processes) + 2


@pytest.mark.parametrize("name", ["graph.launch.yaml", "sim.launch.yaml", "replay.launch.yaml"])
def test_every_argument_is_described(installed: Path, name: str) -> None:
    arguments = declared_arguments(installed / "launch" / name)
    assert arguments and all(argument.description for argument in arguments.values())
    assert {argument.name for argument in arguments.values() if argument.default is None} <= {"bag"}


def test_the_launch_file_offers_the_backends_there_are() -> None:
    arguments = yaml.safe_load((SOURCE / "launch/graph.launch.yaml").read_text())["launch"]
    [backend] = [entry["arg"] for entry in arguments if entry.get("arg", {}).get("name") == "backend"]
    assert {choice["value"] for choice in backend["choice"]} == set(BACKEND_CHOICES)


def test_rviz_starts_with_the_robot(monkeypatch: pytest.MonkeyPatch) -> None:
    entities = description_of(SOURCE / "launch/rviz.launch.py", monkeypatch)
    declared = [entity for entity in entities if entity.kind == "DeclareLaunchArgument"]
    assert [entity.args[0] for entity in declared] == ["cell", "robot_state_publisher", "rviz_config", "use_sim_time"]
    assert all(entity.options["description"] for entity in declared)
    assert [entity.options["package"] for entity in entities if entity.kind == "Node"] == ["robot_state_publisher", "rviz2"]


@pytest.mark.parametrize("path", sorted((SOURCE / "launch").glob("*.launch.py")), ids=lambda path: path.name)
def test_python_launch_files_need_nothing_that_a_system_python_lacks(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name).split(".")[0]  # type: ignore[union-attr]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {"launch", "launch_ros", *sys.stdlib_module_names}
    assert all(ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name != "on_exit")
