"""What is wrong with a cell profile before a robot moves by it, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from harmowam_bringup.auditor.forward_kinematics import ForwardKinematics
from harmowam_bringup.profile.ros2_control import TRAJECTORY_TYPE, controllers
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics, KinematicsError
from harmowam_gate.body import Body
from harmowam_gate.settings import ArbiterSettings

AGREEMENT_M = 1e-4


def lint(cell: Cell) -> list[str]:
    """Findings about a profile that is valid by itself (``load_cell``); empty where there are none."""
    sections = (_controllers_findings, _pose_findings, _solid_findings, _camera_findings, _gripper_findings)
    return list(dict.fromkeys(finding for section in sections for finding in section(cell)))


def lint_controllers(parameters: dict[str, Any]) -> Iterator[str]:
    """Tolerances and time-outs of joint_trajectory_controllers that are unset, zero or ignored: ros2_control takes all three for *off*."""
    manager = parameters.get("controller_manager", {}).get("ros__parameters", {})
    followers = [name for name, value in manager.items() if isinstance(value, dict) and value.get("type") == TRAJECTORY_TYPE]
    if not followers:
        yield f"controller_manager has no controller of type {TRAJECTORY_TYPE}"
    for name in followers:
        given = parameters.get(name, {}).get("ros__parameters", {})
        constraints = given.get("constraints", {})
        wanted = {"cmd_timeout": given.get("cmd_timeout")}
        wanted |= {f"constraints.{key}": constraints.get(key) for key in ("goal_time", "stopped_velocity_tolerance")}
        for joint in given.get("joints", []):
            own = constraints.get(joint, {})
            wanted |= {f"constraints.{joint}.{key}": own.get(key) for key in ("trajectory", "goal")}
        for key, value in wanted.items():
            if not _positive(value):
                yield f"{name}: {key} is {'not set' if value is None else value}, which means off; give it a positive number"
        timeout, goal_time = given.get("cmd_timeout"), constraints.get("goal_time")
        if _positive(timeout) and _positive(goal_time) and not timeout > goal_time:
            yield f"{name}: cmd_timeout {timeout} is ignored unless it exceeds constraints.goal_time {goal_time}"
        if not given.get("joints"):
            yield f"{name}: it has no joints"


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _controllers_findings(cell: Cell) -> Iterator[str]:
    for fake in (False, True):
        yield from lint_controllers(controllers(cell, fake))
    for field in ("arm", "gripper"):
        topic, wanted = getattr(cell.controllers, f"{field}_topic"), f"/{field}_controller/joint_trajectory"
        if topic != wanted:
            yield f"controllers.{field}_topic is {topic}; the launch files can redirect {wanted} alone (dry_run, drill)"
    tracking = ArbiterSettings().tracking_rad
    for field in ("path_tolerance", "goal_tolerance"):
        if (tolerance := getattr(cell.controllers, field)) < tracking:
            yield (
                f"controllers.{field} {tolerance} is below the arbiter's tracking_rad {tracking}: the controller would hold where the arm "
                f"was measured, while the arbiter goes on from its own set-point; give it {tracking} or more"
            )


def _pose_findings(cell: Cell) -> Iterator[str]:
    try:
        kinematics = Kinematics(cell)
    except KinematicsError as error:
        yield str(error)
        return
    home = kinematics.home()
    condition = kinematics.condition_numbers(home)
    tcp = ForwardKinematics(cell).poses(home[None], np.zeros_like(home)[None]).tcp[0]
    away_m = np.linalg.norm(tcp - kinematics.forward(home)[0], axis=-1)
    for index, arm in enumerate(cell.arms):
        if not condition[index] < cell.safety.singularity.stop:
            yield f"arm '{arm.name}': home is nearly singular (condition number {condition[index]:.0f}); change home or posture"
        if not away_m[index] < AGREEMENT_M:
            yield f"arm '{arm.name}': auditor and arbiter see the tool {away_m[index]:.4f} m apart; check tool and urdf"
        inside = np.logical_and(np.greater_equal(tcp[index], cell.workspace.lower), np.less_equal(tcp[index], cell.workspace.upper))
        if not inside.all():
            axis = "xyz"[int((~inside).argmax())]
            yield f"arm '{arm.name}': home is outside the workspace in {axis} ({tcp[index][int((~inside).argmax())]:.3f} m)"


def _solid_findings(cell: Cell) -> Iterator[str]:
    try:
        Body(cell, Kinematics(cell))
    except (FileNotFoundError, ValueError) as error:  # KinematicsError is one
        yield str(error)


def _camera_findings(cell: Cell) -> Iterator[str]:
    names = {camera.name for camera in cell.cameras}
    for name in ("scene", *(f"wrist_{arm}" for arm in cell.arm_names)):
        if name not in names:
            yield f"there is no camera '{name}', which the models look through; cameras are {sorted(names)}"
    serials = [camera.serial for camera in cell.cameras if camera.serial]
    for serial in sorted({serial for serial in serials if serials.count(serial) > 1}):
        yield f"two cameras have the serial number {serial}"


def serial_findings(cell: Cell) -> Iterator[str]:
    """Cameras that cannot be told apart on a real robot; profiles that ship have no serial numbers, since nobody else has those cameras."""
    for camera in cell.cameras:
        if not camera.serial:
            yield f"camera '{camera.name}' has no serial number; read it with `harmowam cameras` and write it to the profile"


def _gripper_findings(cell: Cell) -> Iterator[str]:
    gripper = cell.gripper
    if gripper.interface == "franka" and not np.isclose(abs(gripper.open - gripper.closed), cell.finger_travel):
        yield f"gripper.open and gripper.closed are {abs(gripper.open - gripper.closed)} m apart, finger_travel is {cell.finger_travel}"
    if gripper.interface != "trajectory" and len(cell.arms) > 1 and not any("{" in text for text in (gripper.action, gripper.joint_states)):
        yield f"gripper.action {gripper.action} is one for {len(cell.arms)} arms; write {{arm}} where they differ"
