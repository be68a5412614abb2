"""What ros2_control is told of a cell: its controllers' parameters, and the hardware in the robot description."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.robot import Gains, filled

ARM_CONTROLLER, GRIPPER_CONTROLLER, BROADCASTER = "arm_controller", "gripper_controller", "joint_state_broadcaster"
TRAJECTORY_TYPE = "joint_trajectory_controller/JointTrajectoryController"
BROADCASTER_STATES = f"/{BROADCASTER}/joint_states"
"""Where the arms' joint states are when the gripper node joins the fingers' to them and publishes both on /joint_states."""
XACRO = "http://www.ros.org/wiki/xacro"


def words(cell: Cell) -> Iterator[dict[str, str]]:
    """What {arm}, {prefix} and {address} mean for each arm."""
    for arm in cell.arms:
        yield {"arm": arm.name, "prefix": arm.prefix, "address": cell.driver.addresses[arm.name]}


def follows_trajectories(cell: Cell, fake: bool) -> bool:
    """Whether a joint_trajectory_controller moves the fingers; otherwise the gripper node does."""
    return fake or cell.gripper.interface == "trajectory"


def controllers(cell: Cell, fake: bool) -> dict[str, Any]:
    """Parameters of the controller manager and its controllers; ``fake``: of mock hardware, whose fingers follow trajectories."""
    tolerated = cell.controllers
    types: dict[str, Any] = {ARM_CONTROLLER: {"type": TRAJECTORY_TYPE}}
    parameters: dict[str, Any] = {
        ARM_CONTROLLER: _trajectory(cell, cell.arm_joint_names, tolerated.path_tolerance, tolerated.goal_tolerance),
        BROADCASTER: {"update_rate": tolerated.joint_state_rate},
    }
    if tolerated.gains is not None and not fake:  # mock components turn no torque into motion: theirs are positions
        parameters[ARM_CONTROLLER] |= {"command_interfaces": [tolerated.command_interface], "gains": _gains(cell, tolerated.gains)}
    if follows_trajectories(cell, fake):
        types[GRIPPER_CONTROLLER] = {"type": TRAJECTORY_TYPE}
        parameters[GRIPPER_CONTROLLER] = _trajectory(cell, cell.finger_joint_names, tolerated.finger_tolerance, tolerated.finger_tolerance)
    else:
        first = next(words(cell))
        for name, given in cell.gripper.controllers.items():
            types[name] = {"type": given["type"]}
            parameters[name] = filled({key: value for key, value in given.items() if key != "type"}, **first)
        parameters[BROADCASTER]["use_local_topics"] = True
    types[BROADCASTER] = {"type": "joint_state_broadcaster/JointStateBroadcaster"}
    manager = {"update_rate": tolerated.update_rate, **types}
    return {name: {"ros__parameters": values} for name, values in {"controller_manager": manager, **parameters}.items()}


def _trajectory(cell: Cell, joints: tuple[str, ...], path_tolerance: float, goal_tolerance: float) -> dict[str, Any]:
    tolerated = cell.controllers
    return {
        "joints": list(joints),
        "command_interfaces": ["position"],
        "state_interfaces": ["position", "velocity"],
        "interpolation_method": "splines",
        "allow_partial_joints_goal": False,
        "allow_nonzero_velocity_at_trajectory_end": False,
        "cmd_timeout": tolerated.command_timeout,
        "constraints": {
            "goal_time": tolerated.goal_time,
            "stopped_velocity_tolerance": tolerated.stopped_velocity,
            **{joint: {"trajectory": path_tolerance, "goal": goal_tolerance} for joint in joints},
        },
    }


def _gains(cell: Cell, gains: Gains) -> dict[str, dict[str, float]]:
    one_arm = [{name: values[joint] for name, values in gains} for joint in range(len(cell.joints))]
    return dict(zip(cell.arm_joint_names, one_arm * len(cell.arms), strict=True))


def with_hardware(description: str, cell: Cell, fake: bool) -> str:
    """The description (URDF) with ros2_control's part: mock components, or (as xacro) the macros of the arm's maker."""
    ElementTree.register_namespace("xacro", XACRO)
    robot = ElementTree.fromstring(description)
    if fake:
        _add_mock_system(robot, cell)
    else:
        _add_gripper_joints(robot, cell)
        for include in dict.fromkeys(macro.include for macro in cell.driver.macros):
            ElementTree.SubElement(robot, f"{{{XACRO}}}include", filename=include)
        for macro in cell.driver.macros:
            for replaced in words(cell):
                ElementTree.SubElement(robot, f"{{{XACRO}}}{macro.name}", filled(macro.arguments, **replaced))
    ElementTree.indent(robot)
    return ElementTree.tostring(robot, encoding="unicode")


def gripper_systems(description: str, cell: Cell) -> list[str]:
    """Names of the ros2_control systems in an expanded description that drive grippers and no arm."""
    arms, grippers = set(cell.arm_joint_names), {filled(cell.gripper.joint, **replaced) for replaced in words(cell)}
    systems = {
        system.attrib["name"]: {joint.get("name") for joint in system.findall("joint")}
        for system in ElementTree.fromstring(description.encode()).findall("ros2_control")
    }
    return [name for name, joints in systems.items() if joints & grippers and not joints & arms]


def _add_mock_system(robot: ElementTree.Element, cell: Cell) -> None:
    system = ElementTree.SubElement(robot, "ros2_control", name="mock", type="system")
    hardware = ElementTree.SubElement(system, "hardware")
    ElementTree.SubElement(hardware, "plugin").text = "mock_components/GenericSystem"
    # Without it only positions are mirrored: velocities would stay 0, and the arbiter take a moving arm for a blocked one.
    ElementTree.SubElement(hardware, "param", name="calculate_dynamics").text = "true"
    home = [float(angle) for angle in Kinematics(cell).home()]
    for name, start in zip(cell.arm_joint_names + cell.finger_joint_names, home + [cell.finger_travel] * len(cell.arms), strict=True):
        joint = ElementTree.SubElement(system, "joint", name=name)
        ElementTree.SubElement(joint, "command_interface", name="position")
        position = ElementTree.SubElement(joint, "state_interface", name="position")
        ElementTree.SubElement(position, "param", name="initial_value").text = repr(start)
        ElementTree.SubElement(joint, "state_interface", name="velocity")


def _add_gripper_joints(robot: ElementTree.Element, cell: Cell) -> None:
    """A joint that only the gripper's driver knows: ros2_control wants to find it in the description."""
    known = {joint.get("name") for joint in robot.findall("joint")}
    for arm, replaced in zip(cell.arms, words(cell), strict=True):
        name = filled(cell.gripper.joint, **replaced)
        if name in known:
            continue
        lower, upper = sorted((cell.gripper.open, cell.gripper.closed))
        ElementTree.SubElement(robot, "link", name=f"{arm.name}_gripper")
        joint = ElementTree.SubElement(robot, "joint", name=name, type="revolute")
        ElementTree.SubElement(joint, "parent", link=f"{arm.name}_hand")
        ElementTree.SubElement(joint, "child", link=f"{arm.name}_gripper")
        ElementTree.SubElement(joint, "axis", xyz="1 0 0")
        ElementTree.SubElement(joint, "limit", lower=str(lower), upper=str(upper), effort=str(cell.gripper.force), velocity="1")
