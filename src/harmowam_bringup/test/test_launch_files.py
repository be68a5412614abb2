"""The project's own launch files and controller configuration."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from harmowam_bringup.drill.relayed import relayed_topics
from harmowam_bringup.launch_yaml import declared_arguments, read_launch
from harmowam_bringup.substitutions import LaunchError
from harmowam_core import topics
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
    assert list(nodes) == ["cell", "world_model", "predictive_expert", "reactive_expert", "arbiter", "auditor"]

    def values(node: str) -> dict[str, object]:
        return {name: value for source in nodes[node].parameters for name, value in source["/**"]["ros__parameters"].items()}

    assert values("cell") == {
        "task": "stack_cans", "environment": "in_domain", "seed": 3, "real_time_factor": 1.0, "camera_rate": 10.0, "state_log": "",
        "cell": "franka_dual", "autostart": True,
    }  # fmt: skip
    assert values("auditor") == {"cell": "franka_dual", "autostart": True} and nodes["auditor"].respawn
    for node in list(nodes)[1:-1]:
        own = {"joint_state_max_age_s": 0.25} if node == "arbiter" else {}
        shared = {"preset": "mine", "weights_directory": "", "device": "cpu", "backend": "openvino", "autostart": True}
        assert values(node) == shared | own
        assert nodes[node].respawn
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
        assert rules and process.parameters == before.parameters
        relayed |= dict(rule.split(":=") for rule in rules)  # type: ignore[arg-type]
    assert relayed == {name: topics.relayed(name) for name in relayed_topics(load_cell())}
    assert not any("/relay" in word for process in plain.processes for word in process.ros_arguments)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("environment", "mars", "'environment' is 'mars', expected one of in_domain, background, position, objects"),
        ("seed", "many", "parameter 'seed' is 'many', expected int"),
        ("backend", "abacus", "'backend' is 'abacus'"),
        ("colour", "red", "no argument 'colour'; it has autostart, backend"),
    ],
)
def test_bad_arguments_are_named(installed: Path, argument: str, value: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        read_launch(installed / "launch/sim.launch.yaml", {argument: value})


@pytest.mark.parametrize("name", ["graph.launch.yaml", "sim.launch.yaml"])
def test_every_argument_is_described(installed: Path, name: str) -> None:
    arguments = declared_arguments(installed / "launch" / name)
    assert arguments and all(argument.description and argument.default is not None for argument in arguments.values())


def test_controllers_match_the_cell_and_have_tolerances() -> None:
    controller = yaml.safe_load((SOURCE / "config/controllers.yaml").read_text())["arm_controller"]["ros__parameters"]
    cell = load_cell()
    assert tuple(controller["joints"]) == cell.arm_joint_names
    assert cell.controllers.arm_topic == "/arm_controller/joint_trajectory"
    assert controller["cmd_timeout"] > 0 and controller["constraints"]["goal_time"] > 0
    for joint in cell.arm_joint_names:
        assert controller["constraints"][joint]["trajectory"] > 0 and controller["constraints"][joint]["goal"] > 0


LAUNCH_STAND_IN = """
import importlib.abc, importlib.machinery, runpy, sys, types

class Anything(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *a, **k: setattr(self, "given", (a, k))})

class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ("launch", "launch_ros") else None
    def create_module(self, spec):
        return Anything(spec.name)
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Finder())
description = runpy.run_path(sys.argv[1])["generate_launch_description"]()
(actions,), _ = description.given
for action in actions:
    args, options = action.given
    print(type(action).__name__, args[0] if args and isinstance(args[0], str) else "", options.get("package", ""), options.get("name", ""))
"""


def test_real_robot_starts_arms_cameras_graph_and_rviz() -> None:
    """With stand-ins for the launch packages: their real ones come only with a full ROS 2 installation."""
    path = SOURCE / "launch/real_robot.launch.py"
    printed = subprocess.run([sys.executable, "-c", LAUNCH_STAND_IN, str(path)], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in printed.splitlines()]
    assert [line[2] for line in lines if line[:2] == ["Node", "realsense2_camera"]] == [camera.name for camera in load_cell().cameras]
    assert ["Node", "rviz2"] in lines
    assert [line[0] for line in lines].count("IncludeLaunchDescription") == 2
    assert all(ast.get_docstring(node) for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))


def test_rviz_shows_the_graphs_topics() -> None:
    text = (SOURCE / "rviz/harmowam.rviz").read_text()
    yaml.safe_load(text)
    assert all(topic in text for topic in (topics.MARKERS, topics.PREVIEW, topics.camera_image("scene"), topics.camera_image("wrist_left")))
