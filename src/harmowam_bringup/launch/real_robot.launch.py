"""The policy on a real robot: cameras, arm driver and controllers, the graph, and on request rviz and a recording.

    ros2 launch harmowam_bringup real_robot.launch.py robot:=/path/my_cell.yaml

What the robot is stands in its profile. `harmowam profile prepare` checks it and says what to start; then, each step only
once the one before is done: cameras and joint states alive, models active, arbiter active. A step that fails ends the launch
with a sentence on what to install, plug in or switch on. Needs ROS 2 Jazzy; docs/operator.md walks through it.
"""

import json
import os
import tempfile
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from launch import LaunchDescription

SWITCH = ["true", "false"]
ARGUMENTS = (
    ("robot", "franka_dual", "cell profile by name, or path of a profile with your cameras' serial numbers and arms' addresses", None),
    ("preset", "compact", "preset by name, or path of a preset file; none starts the robot without the policy", None),
    ("contract", "", "what is read from which topic: name or path; empty for the contract of the preset's cell", None),
    ("weights_directory", "", "folder of the weights; empty for those that ship with the preset", None),
    ("device", "cpu", "where the models run", ["cpu", "cuda"]),
    ("backend", "openvino", "what runs the networks", ["torch", "torch_bf16", "openvino", "onnx", "onnxruntime", "tensorrt"]),
    ("planner", "embedded", "who plans moves: ours, or MoveItPy", ["embedded", "moveit"]),
    ("moveit_config", "", "file of MoveIt's parameters for this robot, for planner:=moveit (docs/planning.md)", None),
    ("joint_state_max_age", "0.045", "age in s at which the arbiter takes a moving arm for lost", None),
    ("arms", "true", "start the arm driver; false if it runs already", SWITCH),
    (
        "cameras",
        "harmowam",
        "who reads the cameras: our node, realsense-ros, or none if they are published already",
        ["harmowam", "realsense", "none"],
    ),
    ("use_fake_hardware", "false", "ros2_control's mock components instead of the arms", SWITCH),
    ("dry_run", "false", "compute everything, command nothing: no controller that moves is loaded, trajectories go to /dry_run", SWITCH),
    ("rviz", "false", "show the cell in rviz", SWITCH),
    ("rviz_config", PathJoinSubstitution([FindPackageShare("harmowam_bringup"), "rviz", "harmowam.rviz"]), "rviz configuration", None),
    ("record", "false", "record the session to out/bags (harmowam record)", SWITCH),
    ("sensor_timeout", "30.0", "seconds that cameras and joint states may take to come", None),
    ("model_timeout", "120.0", "seconds that the models may take to load", None),
)


def arguments() -> list[DeclareLaunchArgument]:
    """Everything a user may change."""
    return [
        DeclareLaunchArgument(name, default_value=default, description=text, **({"choices": choices} if choices else {}))
        for name, default, text, choices in ARGUMENTS
    ]


def harmowam(*words) -> ExecuteProcess:
    """A call of the harmowam command."""
    return ExecuteProcess(cmd=[ExecutableInPackage("harmowam", "harmowam_bringup"), *words], output="screen", name=f"harmowam {words[0]}")


def when_done(process: ExecuteProcess, actions) -> RegisterEventHandler:
    """Once ``process`` has ended well, what ``actions`` (called then) returns; otherwise an error, which ends the launch."""

    def on_exit(event, context) -> list:
        if event.returncode == 0:
            return actions()
        if context.is_shutdown:  # interrupted
            return []
        raise RuntimeError(f"'{event.process_name}' failed with code {event.returncode}: see what it says above")

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=on_exit))


def bring_up(context) -> list:
    """The first step; the others follow from its end."""
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    out = Path(tempfile.mkdtemp(prefix="harmowam_launch_"))
    flags = [
        f"--{name.replace('use_', '').replace('_', '-')}" for name in ("use_fake_hardware", "dry_run", "rviz") if given[name] == "true"
    ]
    prepare = harmowam(
        "profile", "prepare", given["robot"], "--out", str(out), "--preset", given["preset"], "--cameras", given["cameras"],
        "--arms" if given["arms"] == "true" else "--no-arms", *flags,
    )  # fmt: skip
    return [prepare, when_done(prepare, lambda: start_hardware(given, out))]


def start_hardware(given: dict[str, str], out: Path) -> list:
    """Drivers and cameras, as launch.json says."""
    plan = json.loads((out / "launch.json").read_text())
    on_exit = {"ros2_control_node": must_go_on, "spawner": must_succeed}
    nodes = [Node(output="screen", on_exit=on_exit.get(node["executable"]), **node) for node in plan["hardware"]]
    blind = ["--no-cameras"] if given["cameras"] == given["preset"] == "none" else []  # nobody would look
    alive = harmowam("wait", "sensors", "--cell", plan["profile"], *blind, "--timeout", given["sensor_timeout"])
    # The graph reads the profile by name, and finds the one that was checked.
    return [
        SetEnvironmentVariable("HARMOWAM_CELLS", plan["cells"]),
        *large_images(),
        *nodes,
        alive,
        when_done(alive, lambda: start_policy(given, plan["profile"])),
    ]


def large_images() -> list:
    """Room for pictures of 640x480 in Fast DDS, for all that send or hear them, unless the environment has profiles of its own."""
    if "FASTRTPS_DEFAULT_PROFILES_FILE" in os.environ:
        return []
    return [
        SetEnvironmentVariable(
            "FASTRTPS_DEFAULT_PROFILES_FILE", PathJoinSubstitution([FindPackageShare("harmowam_bringup"), "config", "fastdds.xml"])
        )
    ]


def must_go_on(event, context) -> list:
    """What happens when the arm driver ends; an error, since launch would end by Shutdown with code 0."""
    if not context.is_shutdown:
        raise RuntimeError(f"the arm driver ended with code {event.returncode}: see what 'ros2_control_node' says above")
    return []


def must_succeed(event, context) -> list:
    """What happens when the controllers' spawner ends."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError("a controller could not be started: see what 'spawner' and 'ros2_control_node' say above")
    return []


def start_policy(given: dict[str, str], profile: str) -> list:
    """The graph, its arbiter waiting, and who looks on."""
    lookers = []
    if given["rviz"] == "true":
        lookers.append(Node(package="rviz2", executable="rviz2", arguments=["-d", given["rviz_config"]]))
    if given["record"] == "true":
        policy = ["--preset", given["preset"], "--contract", given["contract"]]
        lookers.append(harmowam("record", *(["--cell", profile] if given["preset"] == "none" else policy)))
    if given["preset"] == "none":
        return [*lookers, LogInfo(msg="the robot is up, without the policy")]
    commands = [(f"/{kind}_controller/joint_trajectory", f"/dry_run/{kind}_controller/joint_trajectory") for kind in ("arm", "gripper")]
    lookers.append(
        Node(
            package="harmowam_bringup", executable="auditor_node", name="auditor", output="screen", respawn=True, respawn_delay=1.0,
            parameters=[{"cell": profile}], remappings=commands if given["dry_run"] == "true" else [],
        )
    )  # fmt: skip
    names = ("preset", "contract", "weights_directory", "device", "backend", "planner", "moveit_config", "joint_state_max_age", "dry_run")
    passed_on = {name: given[name] for name in names}
    source = AnyLaunchDescriptionSource(PathJoinSubstitution([FindPackageShare("harmowam_bringup"), "launch", "graph.launch.yaml"]))
    graph = IncludeLaunchDescription(source, launch_arguments={**passed_on, "autostart_arbiter": "false"}.items())
    alive = harmowam("wait", "models", "--timeout", given["model_timeout"])
    return [graph, *lookers, alive, when_done(alive, start_arbiter)]


def start_arbiter() -> list:
    """The last step: from here on the arms can move."""
    activate = harmowam("activate", "arbiter")
    ready = 'ready: harmowam do "put the green lime on the plate"'
    return [activate, when_done(activate, lambda: [LogInfo(msg=ready)])]


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    return LaunchDescription([*arguments(), OpaqueFunction(function=bring_up)])
