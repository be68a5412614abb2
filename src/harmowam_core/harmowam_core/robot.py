"""What a cell profile says of the robot's make: tool, controllers, arm driver, gripper (lengths m, angles rad, times s)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Vector3 = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
Quaternion = Annotated[tuple[float, ...], Field(min_length=4, max_length=4)]


class Strict(BaseModel):
    """Unknown fields are errors; nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tool(Strict):
    """The hand: where its centre point (TCP) lies in the frame of the arm's link ``flange``; z points out, the fingers move along y.

    palm_behind_tcp: from the TCP back to the hand's body, which reaches ``palm_half_width`` to each side along y.
    """

    flange: str
    position: Vector3
    orientation: Quaternion
    palm_behind_tcp: float = Field(ge=0)
    palm_half_width: float = Field(ge=0)


class Gains(Strict):
    """A PID controller for each joint of one arm: ``p`` Nm/rad, ``i`` Nm/(rad s), ``d`` Nm s/rad, ``i_clamp`` Nm."""

    p: tuple[Annotated[float, Field(gt=0)], ...]
    i: tuple[Annotated[float, Field(ge=0)], ...]
    d: tuple[Annotated[float, Field(ge=0)], ...]
    i_clamp: tuple[Annotated[float, Field(ge=0)], ...]


class Controllers(Strict):
    """Topics the arm driver listens to, what its joint_trajectory_controller commands, and what it tolerates.

    command_interface: what the driver is sent, set-points or torques; ``gains`` turn errors into torques, and go with ``effort`` alone.
    In ros2_control a tolerance or time-out of 0 means *off*; here each is given, and positive.
    """

    arm_topic: str
    gripper_topic: str
    command_interface: Literal["position", "effort"]
    gains: Gains | None = None
    update_rate: int = Field(gt=0, description="of the controller manager, Hz")
    joint_state_rate: int = Field(ge=50, description="Hz")
    command_timeout: float = Field(gt=0, description="hold position when no trajectory came for so long")
    goal_time: float = Field(gt=0, description="how late the last point may be reached")
    stopped_velocity: float = Field(gt=0, description="rad/s, below which a joint counts as stopped")
    path_tolerance: float = Field(gt=0, description="rad, between a joint and its set-point")
    goal_tolerance: float = Field(gt=0, description="rad, at the last point")
    finger_tolerance: float = Field(gt=0, description="m, of a finger that follows trajectories")

    @model_validator(mode="after")
    def _timeout_counts(self) -> Controllers:
        if not self.command_timeout > self.goal_time:
            raise ValueError(
                f"command_timeout {self.command_timeout} must exceed goal_time {self.goal_time}: the controller ignores it else"
            )
        return self

    @model_validator(mode="after")
    def _gains_go_with_effort(self) -> Controllers:
        if (self.command_interface == "effort") != (self.gains is not None):
            raise ValueError(
                f"controllers.gains: command_interface '{self.command_interface}' "
                + ("needs p, i, d and i_clamp of each joint" if self.gains is None else "has no use for them")
            )
        return self


class _Section(Strict):
    """A section with mappings, which a generated hash could not take."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class Macro(_Section):
    """A xacro macro of the vendor's that declares a ros2_control system; called once an arm.

    Arguments may hold {arm}, {prefix} and {address}.
    """

    include: str
    name: str
    arguments: dict[str, str]


class DriverNode(_Section):
    """A node of the vendor's, one an arm; texts may hold {arm}, {prefix} and {address}."""

    package: str
    executable: str
    name: str
    namespace: str
    parameters: dict[str, Any] = {}


class Driver(_Section):
    """How ros2_control reaches the arms: their addresses, by name, and the vendor's hardware interface."""

    packages: tuple[str, ...]
    addresses: dict[str, str]
    macros: tuple[Macro, ...]


class Gripper(_Section):
    """How the grippers are moved and measured.

    interface: ``trajectory`` (a joint_trajectory_controller moves the finger joints), ``gripper_command``
    (control_msgs/action/GripperCommand) or ``franka`` (franka_msgs/action/Move and Grasp, below ``action``).
    joint: what is measured, on the topic ``joint_states``; its position is ``open`` at opening 1 and ``closed`` at 0.
    force: N, when closing. speed: m/s between the fingers. timeout: longest that a motion may take.
    controllers: further ros2_control controllers that the gripper needs, name to parameters with ``type``.
    action, joint and the like may hold {arm} and {prefix}.
    """

    interface: Literal["trajectory", "gripper_command", "franka"]
    action: str = ""
    joint: str
    joint_states: str
    open: float
    closed: float
    force: float = Field(gt=0)
    speed: float = Field(gt=0)
    timeout: float = Field(gt=0)
    packages: tuple[str, ...] = ()
    node: DriverNode | None = None
    controllers: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _complete(self) -> Gripper:
        if self.open == self.closed:
            raise ValueError(f"gripper.open and gripper.closed are both {self.open}")
        if (self.interface == "trajectory") == bool(self.action):
            raise ValueError(
                f"gripper.action is '{self.action}': interface '{self.interface}' {'has none' if self.action else 'needs one'}"
            )
        return self


def filled(text: Any, **words: str) -> Any:
    """Texts with {name} replaced by the word of that name, also inside lists and dicts; other braces stay."""
    if isinstance(text, str):
        for name, word in words.items():
            text = text.replace(f"{{{name}}}", word)
        return text
    if isinstance(text, dict):
        return {key: filled(value, **words) for key, value in text.items()}
    if isinstance(text, list | tuple):
        return [filled(value, **words) for value in text]
    return text
