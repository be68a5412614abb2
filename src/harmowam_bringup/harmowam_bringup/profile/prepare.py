"""Everything a launch file must know of a profile, written to a folder: real_robot.launch.py starts what stands in launch.json."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix

from harmowam_bringup.profile.lint import lint, serial_findings
from harmowam_bringup.profile.ros2_control import (
    ARM_CONTROLLER,
    BROADCASTER,
    BROADCASTER_STATES,
    GRIPPER_CONTROLLER,
    controllers,
    follows_trajectories,
    gripper_systems,
    with_hardware,
    words,
)
from harmowam_bringup.robot_description import robot_description
from harmowam_core.cell import Camera, Cell, cell_path, load_cell
from harmowam_core.robot import filled
from harmowam_core.wan_preset import load_any_preset

Cameras = Literal["harmowam", "realsense", "none"]
NO_PRESET = "none"
RESPAWN = {"respawn": True, "respawn_delay": 2.0}
NOMINAL_SIZE = (640, 480)
"""Width and height of a stream that was not calibrated: a nominal camera's own are the simulation's."""
FROM_SOURCE = "build {package} from source in this workspace (docs/operator.md names the repository), then source it"
REMEDIES = {
    package: f"apt install ros-jazzy-{package.replace('_', '-')}"
    for package in (
        "controller_manager", "joint_trajectory_controller", "joint_state_broadcaster", "robot_state_publisher", "xacro",
        "realsense2_camera", "rviz2", "ur_robot_driver", "ur_description", "ur_client_library", "control_msgs", "gripper_controllers",
    )
}  # fmt: skip


class ProfileError(ValueError):
    """A robot cannot be started from this profile, or not on this machine; the message says what to do."""


@dataclass(frozen=True)
class Wishes:
    """What shall run.

    preset: "none" for a robot without the policy. dry_run: the arms' states are read, and no controller that could move them is loaded.
    """

    preset: str = "compact"
    arms: bool = True
    cameras: Cameras = "harmowam"
    fake_hardware: bool = False
    dry_run: bool = False
    rviz: bool = False

    def __post_init__(self) -> None:
        if self.cameras not in get_args(Cameras):
            raise ProfileError(f"cameras is '{self.cameras}', expected one of {', '.join(get_args(Cameras))}")


def prepare(profile: str | Path, out: Path, wishes: Wishes) -> dict[str, Any]:
    """Check profile, preset and installation, write the files, and return what launch.json says. ProfileError or ValueError otherwise."""
    path = cell_path(profile)
    cell = load_cell(path)
    if wishes.preset != NO_PRESET:
        check_preset(cell, wishes.preset)
    findings = lint(cell)
    if wishes.cameras != "none" and len(cell.cameras) > 1:
        findings += serial_findings(cell)
    if findings:
        raise ProfileError(f"profile {path} is not ready for a robot:\n" + "\n".join(f"  {finding}" for finding in findings))
    check_packages(cell, wishes)
    cells = out / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, cells / f"{cell.name}.yaml")
    hardware = []
    if wishes.arms:
        description = write_description(cell, out, wishes.fake_hardware)
        parameters = controllers(cell, wishes.fake_hardware)
        resting = gripper_systems(description, cell) if wishes.dry_run else []
        if resting:  # some grippers open and close when they are activated
            parameters["controller_manager"]["ros__parameters"]["hardware_components_initial_state"] = {"unconfigured": resting}
        _write_yaml(out / "controllers.yaml", parameters)
        _write_yaml(out / "robot_state_publisher.yaml", {"/**": {"ros__parameters": {"robot_description": description}}})
        hardware += arm_nodes(cell, out, wishes, assume_open=bool(resting))
    hardware += camera_nodes(cell, wishes)
    launch = {"profile": cell.name, "cells": str(cells), "hardware": hardware}
    (out / "launch.json").write_text(json.dumps(launch, indent=2) + "\n")
    return launch


def check_preset(cell: Cell, preset: str) -> None:
    """A preset's weights know one cell: the robot, its cameras and what the demonstrations looked like there."""
    wanted = load_any_preset(preset).cell
    if wanted != cell.name:
        raise ProfileError(
            f"preset '{preset}' was trained for the cell '{wanted}' and cannot drive '{cell.name}': it has never seen that robot. "
            f"Take the profile '{wanted}', or train for '{cell.name}' (docs/porting.md); preset '{NO_PRESET}' starts the robot alone"
        )


def check_packages(cell: Cell, wishes: Wishes) -> None:
    """Every ROS package that will be started must be installed; ProfileError lists all that are not."""
    missing = []
    for package in required_packages(cell, wishes):
        try:
            get_package_prefix(package)
        except PackageNotFoundError:
            missing.append(f"  {package}: {REMEDIES.get(package, FROM_SOURCE.format(package=package))}")
    if missing:
        raise ProfileError("ROS packages that this launch needs are not installed:\n" + "\n".join(missing))


def required_packages(cell: Cell, wishes: Wishes) -> tuple[str, ...]:
    """ROS packages beside ours, without repetition."""
    names: list[str] = []
    if wishes.arms:
        names += ["controller_manager", "joint_trajectory_controller", "joint_state_broadcaster", "robot_state_publisher"]
        if not wishes.fake_hardware:
            names += ["xacro", *cell.driver.packages, *cell.gripper.packages]
            names += ["gripper_controllers"] if any("GripperActionController" in str(c) for c in cell.gripper.controllers.values()) else []
    names += ["realsense2_camera"] if wishes.cameras == "realsense" else []
    names += ["rviz2"] if wishes.rviz else []
    return tuple(dict.fromkeys(names))


def write_description(cell: Cell, out: Path, fake: bool) -> str:
    """robot.urdf, by the makers' xacro macros where the hardware is real; ProfileError where these lack a joint of the profile."""
    source, target = out / "robot.urdf.xacro", out / "robot.urdf"
    text = with_hardware(robot_description(cell), cell, fake)
    if not fake:
        source.write_text(text)
        done = subprocess.run(["xacro", str(source)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise ProfileError(
                f"xacro {source} failed; do driver.macros fit the installed {', '.join(cell.driver.packages)}?\n{done.stderr.strip()}"
            )
        text = done.stdout
    driven = {joint.get("name") for joint in ElementTree.fromstring(text.encode()).findall("ros2_control/joint")}
    lacking = [name for name in cell.arm_joint_names if name not in driven]
    if lacking:
        raise ProfileError(
            f"the driver knows no joint {', '.join(lacking)}; it has {', '.join(sorted(map(str, driven)))}. Check joints and joint_prefix"
        )
    target.write_text(text)
    return text


def arm_nodes(cell: Cell, out: Path, wishes: Wishes, assume_open: bool) -> list[dict[str, Any]]:
    """Robot state publisher, controller manager, the controllers' spawner, the gripper's driver and our node that follows trajectories.

    assume_open: the gripper's driver measures nothing, its fingers count as open.
    """
    parameters = str(out / "controllers.yaml")
    nodes: list[dict[str, Any]] = [
        {
            "package": "robot_state_publisher",
            "executable": "robot_state_publisher",
            "parameters": [str(out / "robot_state_publisher.yaml")],
        },
        {"package": "controller_manager", "executable": "ros2_control_node", "parameters": [parameters]},
    ]
    with_node = not follows_trajectories(cell, wishes.fake_hardware)
    spawned = [BROADCASTER]
    if not wishes.dry_run:
        spawned += [ARM_CONTROLLER, *([GRIPPER_CONTROLLER] if not with_node else cell.gripper.controllers)]
    nodes.append({"package": "controller_manager", "executable": "spawner", "arguments": [*spawned, "--param-file", parameters]})
    if not with_node:
        return nodes
    if cell.gripper.node is not None:
        nodes += [filled(cell.gripper.node.model_dump(exclude={"parameters"}), **arm)
                  | {"parameters": [filled(cell.gripper.node.parameters, **arm)], **RESPAWN} for arm in words(cell)]  # fmt: skip
    settings = {"cell": cell.name, "dry_run": wishes.dry_run, "assume_open": assume_open, "arm_states": BROADCASTER_STATES}
    nodes.append({"package": "harmowam_bringup", "executable": "gripper_node", "name": "gripper", "parameters": [settings], **RESPAWN})
    return nodes


def stream_size(cameras: Sequence[Camera]) -> tuple[int, int]:
    """Width and height for cameras that run together: as calibrated, since a lens is known at that size alone; ProfileError for two."""
    sizes = sorted({(camera.width, camera.height) for camera in cameras if camera.calibration is not None})
    if len(sizes) > 1:
        raise ProfileError(
            f"cameras were calibrated at {' and '.join(f'{width}x{height}' for width, height in sizes)}, "
            "and our camera node runs all at one size: calibrate them at one, or take cameras:=realsense"
        )
    return sizes[0] if sizes else NOMINAL_SIZE


def camera_nodes(cell: Cell, wishes: Wishes) -> Iterator[dict[str, Any]]:
    """Our node for all cameras, or realsense-ros for each; either publishes /camera/<name>/color/image_raw."""
    if wishes.cameras == "harmowam":
        width, height = stream_size(cell.cameras)
        yield {
            "package": "harmowam_bringup",
            "executable": "camera_node",
            "name": "cameras",
            "parameters": [{"cell": cell.name, "width": width, "height": height}],
            **RESPAWN,
        }
    elif wishes.cameras == "realsense":
        for camera in cell.cameras:
            width, height = stream_size([camera])
            parameters = {
                "camera_name": camera.name,
                "serial_no": f"_{camera.serial}" if camera.serial else "",  # realsense-ros wants the underscore, lest YAML reads a number
                "rgb_camera.color_profile": f"{width}x{height}x30",
                "enable_color": True,
                "enable_depth": False,
                "enable_infra1": False,
                "enable_infra2": False,
                "publish_tf": False,  # the description has the optical frame, and a frame has one parent
            }
            yield {
                "package": "realsense2_camera", "executable": "realsense2_camera_node", "name": camera.name, "namespace": "/camera",
                "parameters": [parameters], **RESPAWN,
            }  # fmt: skip


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
