"""What a gripper's action server is asked for, as plain values; messages are imported where they are installed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from typing import Any

from harmowam_core.robot import Gripper

FULL_WIDTH_M = 1.0  # wider than any object: a grasp has succeeded whatever is between the fingers


class GripperError(RuntimeError):
    """The gripper cannot be driven as the profile says; the message names what is missing."""


@dataclass(frozen=True)
class Command:
    """A goal of the action ``kind`` in ``package``, for the server at the profile's action name + ``suffix``; fields by dotted path."""

    package: str
    kind: str
    suffix: str
    fields: dict[str, float]


def command_for(gripper: Gripper, opening: float) -> Command:
    """How to bring a gripper to ``opening`` in [0, 1]; ValueError for an interface without actions."""
    if not 0 <= opening <= 1:  # also refuses NaN
        raise ValueError(f"opening is {opening}, expected a number in [0, 1]")
    position = joint_position(gripper, opening)
    if gripper.interface == "gripper_command":
        return Command("control_msgs", "GripperCommand", "", {"command.position": position, "command.max_effort": gripper.force})
    if gripper.interface == "franka":
        width = 2 * position  # the profile tells of one finger
        if opening >= 0.5:
            return Command("franka_msgs", "Move", "/move", {"width": width, "speed": gripper.speed})
        grasp = {
            "width": width,
            "epsilon.inner": FULL_WIDTH_M,
            "epsilon.outer": FULL_WIDTH_M,
            "speed": gripper.speed,
            "force": gripper.force,
        }
        return Command("franka_msgs", "Grasp", "/grasp", grasp)
    raise ValueError(f"a gripper with interface '{gripper.interface}' follows trajectories by itself and takes no commands")


def joint_position(gripper: Gripper, opening: float) -> float:
    """Of the driver's joint at ``opening``."""
    return gripper.closed + opening * (gripper.open - gripper.closed)


def opening_of(gripper: Gripper, position: float) -> float:
    """Of the driver's joint position; slightly outside [0, 1] where the joint is beyond its stops."""
    return (position - gripper.closed) / (gripper.open - gripper.closed)


def action_type(package: str, kind: str) -> Any:
    """The generated action; GripperError says how to get it."""
    try:
        return getattr(import_module(f"{package}.action"), kind)
    except (ImportError, AttributeError) as error:
        remedy = "apt install ros-jazzy-control-msgs" if package == "control_msgs" else f"build {package} from source in this workspace"
        raise GripperError(f"the gripper is driven by {package}/action/{kind}, which is not installed: {remedy}") from error


def goal_of(action: Any, fields: dict[str, float]) -> Any:
    """A goal message with these fields set."""
    goal = action.Goal()
    for path, value in fields.items():
        *parents, last = path.split(".")
        owner = reduce(getattr, parents, goal)
        if not hasattr(owner, last):
            raise GripperError(f"{action.__name__}.Goal has no field '{path}'; is another version of its package installed?")
        setattr(owner, last, value)
    return goal


def succeeded(result: Any) -> bool:
    """What an action's result says of itself: franka_msgs has ``success``; GripperCommand ends at the goal or on an object."""
    if hasattr(result, "success"):
        return bool(result.success)
    return bool(result.reached_goal or result.stalled)
