"""real_robot.launch.py: every argument, the order of the steps, and how it ends when one of them fails."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from launch_stand_in import Run, description_of

from harmowam_bringup.cli import main
from harmowam_bringup.launch_yaml import declared_arguments
from harmowam_bringup.profile.prepare import Wishes, required_packages
from harmowam_core.cell import CELLS_DIR, load_cell

SOURCE = Path(__file__).parents[1]
PATH = SOURCE / "launch/real_robot.launch.py"
GRAPH = SOURCE / "launch/graph.launch.yaml"


@pytest.fixture
def profile(tmp_path: Path, make_package: Callable[..., Path]) -> Path:
    """A Franka cell of one's own, on a machine with all that mock hardware and any camera driver need."""
    for package in required_packages(load_cell(), Wishes(fake_hardware=True, cameras="realsense", rviz=True)):
        make_package(package)
    content = yaml.safe_load((CELLS_DIR / "franka_dual.yaml").read_text())
    for number, camera in enumerate(content["cameras"]):
        camera["serial"] = f"1234{number}"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def launched(profile: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """A run up to the end of `profile prepare`, which is really called with the words that the launch file gives it."""

    def launch(**arguments: str) -> Run:
        run = Run(PATH, monkeypatch, robot=str(profile), use_fake_hardware="true", **arguments)
        assert run.names() == ["profile prepare"]
        prepare = run.process("profile", "prepare")
        with pytest.raises(SystemExit) as ended:
            main(prepare.options["cmd"][1:])
        run.end(prepare, int(ended.value.code or 0))
        return run

    return launch


def test_every_argument_is_described_and_shares_its_choices_with_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = {entity.args[0]: entity.options for entity in description_of(PATH, monkeypatch) if entity.kind == "DeclareLaunchArgument"}
    assert all(options["description"] and options["default_value"] is not None for options in declared.values())
    graph = declared_arguments(GRAPH)
    for name in ("preset", "weights_directory", "device", "backend", "joint_state_max_age"):
        assert declared[name]["default_value"] == graph[name].default
        assert set(declared[name].get("choices", ())) == {choice.value for choice in graph[name].choice or ()}


def test_each_step_waits_for_the_one_before(launched: Callable[..., Run]) -> None:
    run = launched()
    hardware = ["profile prepare", "robot_state_publisher", "ros2_control_node", "spawner", "camera_node", "wait sensors"]
    assert run.names() == hardware
    assert run.environment["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("/config/fastdds.xml")
    assert (Path(run.environment["HARMOWAM_CELLS"]) / "franka_dual.yaml").read_text().count("12340") == 1
    assert run.process("wait", "sensors").options["cmd"][3:] == ["--cell", "franka_dual", "--timeout", "30.0"]
    run.end(run.process("wait", "sensors"))
    assert run.names() == [*hardware, "graph.launch.yaml", "auditor_node", "wait models"]
    [graph] = [item for item in run.started if item.kind == "IncludeLaunchDescription"]
    passed = dict(graph.options["launch_arguments"])
    assert passed["autostart_arbiter"] == "false" and set(passed) <= set(declared_arguments(GRAPH))
    run.end(run.process("wait", "models"))
    assert run.names()[-1] == "activate arbiter" and not run.said
    run.end(run.process("activate"))
    assert "harmowam do" in run.said[0]


@pytest.mark.parametrize("step", ["sensors", "models", "arbiter"])
def test_a_step_that_fails_ends_the_launch_and_starts_nothing_more(launched: Callable[..., Run], step: str) -> None:
    run = launched()
    for done in [("wait", "sensors"), ("wait", "models"), ("activate", "arbiter")]:
        process = run.process(*done)
        if done[1] == step:
            before = list(run.started)
            with pytest.raises(RuntimeError, match="failed with code 3: see what it says above"):
                run.end(process, 3)
            assert run.started == before
            return
        run.end(process)


def test_a_profile_that_is_not_ready_ends_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(PATH, monkeypatch)
    with pytest.raises(RuntimeError, match="'harmowam profile' failed with code 2"):
        run.end(run.process("profile", "prepare"), 2)
    assert run.names() == ["profile prepare"]


def test_interrupting_is_no_error(launched: Callable[..., Run]) -> None:
    run = launched()
    run.is_shutdown = True
    run.end(run.process("wait", "sensors"), -2)
    run.end(next(item for item in run.started if item.options.get("executable") == "ros2_control_node"), -2)
    assert not run.said and run.names()[-1] == "wait sensors"


def test_the_arms_driver_and_its_controllers_must_live(launched: Callable[..., Run]) -> None:
    run = launched()
    nodes = {item.options["executable"]: item for item in run.started if item.kind == "Node"}
    run.end(nodes["spawner"])
    with pytest.raises(RuntimeError, match="a controller could not be started"):
        run.end(nodes["spawner"], 1)
    for code in (0, 1):  # it has no reason to end by itself
        with pytest.raises(RuntimeError, match=f"the arm driver ended with code {code}"):
            run.end(nodes["ros2_control_node"], code)


def up_to_the_graph(launched: Callable[..., Run], **arguments: str) -> Run:
    run = launched(**arguments)
    run.end(run.process("wait", "sensors"))
    return run


def graph_arguments(run: Run) -> dict[str, str]:
    [graph] = [item for item in run.started if item.kind == "IncludeLaunchDescription"]
    return dict(graph.options["launch_arguments"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights_directory", "/w"),
        ("device", "cuda"),
        ("backend", "tensorrt"),
        ("dry_run", "true"),
        ("joint_state_max_age", "0.1"),
        ("preset", "wan2_2_5b"),
        ("planner", "moveit"),
        ("moveit_config", "/moveit.yaml"),
    ],
)
def test_arguments_of_the_graph_are_passed_on(launched: Callable[..., Run], name: str, value: str) -> None:
    assert graph_arguments(up_to_the_graph(launched))[name] != value
    assert graph_arguments(up_to_the_graph(launched, **{name: value}))[name] == value


def test_a_dry_run_reaches_no_controller(launched: Callable[..., Run]) -> None:
    run = up_to_the_graph(launched, dry_run="true")
    spawned = next(item for item in run.started if item.options.get("executable") == "spawner").options["arguments"]
    assert not {"arm_controller", "gripper_controller"} & set(spawned)
    [auditor] = [item for item in run.started if item.options.get("executable") == "auditor_node"]
    assert ("/arm_controller/joint_trajectory", "/dry_run/arm_controller/joint_trajectory") in auditor.options["remappings"]
    [plain] = [item for item in up_to_the_graph(launched).started if item.options.get("executable") == "auditor_node"]
    assert plain.options["remappings"] == []


def test_arms_cameras_rviz_and_recording_are_choices(launched: Callable[..., Run]) -> None:
    assert launched(arms="false").names()[1:] == ["camera_node", "wait sensors"]
    assert launched(arms="false", cameras="realsense").names()[1:] == ["realsense2_camera_node"] * 3 + ["wait sensors"]
    assert launched(arms="false", cameras="none").names()[1:] == ["wait sensors"]
    watched = up_to_the_graph(launched, rviz="true", rviz_config="/my.rviz", record="true", contract="/my.yaml")
    assert {"rviz2", "record --preset"} <= set(watched.names())
    assert next(item for item in watched.started if item.options.get("executable") == "rviz2").options["arguments"] == ["-d", "/my.rviz"]
    assert next(item for item in watched.started if "--contract" in item.options.get("cmd", [])).options["cmd"][-1] == "/my.yaml"
    assert not {"rviz2", "record --preset"} & set(up_to_the_graph(launched).names())


def test_timeouts_are_those_given(launched: Callable[..., Run]) -> None:
    run = up_to_the_graph(launched, sensor_timeout="5.0", model_timeout="7.0")
    assert [run.process("wait", part).options["cmd"][-1] for part in ("sensors", "models")] == ["5.0", "7.0"]


def test_without_a_preset_the_robot_is_up_alone(launched: Callable[..., Run]) -> None:
    run = up_to_the_graph(launched, preset="none")
    assert "graph.launch.yaml" not in run.names() and run.said == ["the robot is up, without the policy"]


@pytest.mark.parametrize(("preset", "cameras", "waits"), [("none", "none", False), ("none", "harmowam", True), ("compact", "none", True)])
def test_cameras_are_waited_for_where_somebody_looks(launched: Callable[..., Run], preset: str, cameras: str, waits: bool) -> None:
    command = launched(preset=preset, cameras=cameras).process("wait", "sensors").options["cmd"]
    assert ("--no-cameras" not in command) is waits


# ---- with the genuine launch packages, where they are installed ---------------------------------------------------------------

if importlib.util.find_spec("launch_ros") is not None:

    def run_genuinely(path: Path, *arguments: str) -> int:
        from launch.actions import IncludeLaunchDescription
        from launch.launch_description_sources import AnyLaunchDescriptionSource

        from launch import LaunchDescription, LaunchService

        service = LaunchService(noninteractive=True)
        given = [tuple(argument.split(":=")) for argument in arguments]
        service.include_launch_description(
            LaunchDescription([IncludeLaunchDescription(AnyLaunchDescriptionSource(str(path)), launch_arguments=given)])
        )
        return int(service.run())

    @pytest.mark.usefixtures("domain_id")
    def test_genuine_launch_ends_with_a_sentence_where_a_camera_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
        assert run_genuinely(PATH, "arms:=false", "cameras:=none", "sensor_timeout:=1.0") == 1
        said = capfd.readouterr()
        assert "no image from camera 'scene' on /camera/scene/color/image_raw" in said.out + said.err

    @pytest.mark.usefixtures("domain_id")
    def test_genuine_launch_refuses_a_preset_of_another_robot(capfd: pytest.CaptureFixture[str]) -> None:
        assert run_genuinely(PATH, "robot:=ur5e_robotiq", "use_fake_hardware:=true", "cameras:=none") == 1
        said = capfd.readouterr()
        assert "was trained for the cell 'franka_dual' and cannot drive 'ur5e_robotiq'" in said.out + said.err

    @pytest.mark.parametrize(
        "name", ["real_robot.launch.py", "rviz.launch.py", "graph.launch.yaml", "sim.launch.yaml", "replay.launch.yaml"]
    )
    def test_genuine_launch_reads_every_file_and_its_arguments(name: str) -> None:
        from launch.launch_description_sources import AnyLaunchDescriptionSource

        from launch import LaunchContext

        source = AnyLaunchDescriptionSource(str(SOURCE / "launch" / name))
        declared = source.get_launch_description(LaunchContext()).get_launch_arguments()
        assert declared and all(argument.description for argument in declared)
        if name.endswith(".yaml"):
            assert {argument.name for argument in declared} >= set(declared_arguments(SOURCE / "launch" / name)) - {"preset"}
