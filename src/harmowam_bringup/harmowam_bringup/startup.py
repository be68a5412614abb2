"""Steps of bringing a robot up, each a process that a launch file can wait for: ``harmowam wait``, ``harmowam activate``."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Annotated

import typer
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rich.text import Text
from sensor_msgs.msg import Image, JointState

from harmowam_bringup.cli import Json, _console, _reported
from harmowam_bringup.session import GraphClient, GraphError
from harmowam_core import topics
from harmowam_core.cell import Cell, load_cell
from harmowam_core.qos import SENSOR
from harmowam_core.results import write_json

MODELS = ("/world_model", "/predictive_expert", "/reactive_expert")
CONFIGURE_S = 120.0
"""How long a node may take to load what it needs."""


class Part(str, enum.Enum):
    """What can be waited for."""

    SENSORS = "sensors"
    MODELS = "models"
    ARBITER = "arbiter"


class _Sensors:
    """Which cameras and joints of a cell were heard since it was made."""

    def __init__(self, graph: GraphClient, cell: Cell) -> None:
        self.cell, self.cameras, self.joints = cell, set[str](), set[str]()
        for camera in cell.cameras:
            graph.node.create_subscription(Image, topics.camera_image(camera.name), self._on_image(camera.name), SENSOR)
        graph.node.create_subscription(JointState, topics.JOINT_STATES, self._on_joints, SENSOR)

    def _on_image(self, camera: str) -> Callable[[Image], None]:
        return lambda _: self.cameras.add(camera)

    def _on_joints(self, message: JointState) -> None:
        self.joints = {*message.name}  # all must come in one message: that is what the arbiter takes

    def missing(self) -> list[str]:
        """A sentence for each thing that was not heard."""
        said = [
            f"no image from camera '{camera.name}' on {topics.camera_image(camera.name)}: is the camera"
            + (f" with serial number {camera.serial}" if camera.serial else "")
            + " plugged into a USB 3 port, and does its node run?"
            for camera in self.cell.cameras
            if camera.name not in self.cameras
        ]
        for arm in self.cell.arms:
            if not set(arm.named(self.cell.joints)) <= self.joints:
                address = self.cell.driver.addresses[arm.name]
                said.append(
                    f"no joint states of arm '{arm.name}' on {topics.JOINT_STATES}: is its controller at {address} switched on, unlocked, "
                    "released for control from outside, and reachable (ping)?"
                )
            elif f"{arm.prefix}{self.cell.finger_joint}" not in self.joints:
                said.append(
                    f"no finger joint of arm '{arm.name}' in {topics.JOINT_STATES}: are the gripper's driver and gripper_node running?"
                )
        return said


def wait(
    part: Annotated[Part, typer.Argument(help="Cameras and joint states; world model and experts; the arbiter, ready for tasks.")],
    cell: Annotated[str, typer.Option(help="Cell profile by name, or path of a profile.")] = "franka_dual",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds.")] = 30.0,
    cameras: Annotated[bool, typer.Option(help="Sensors: the cameras too.")] = True,
    json: Json = "",
) -> None:
    """Wait until a part of the graph is alive; exit 3 and say what is missing if it does not come."""
    console, started_s = _console(json), time.monotonic()
    with _reported(console):
        profile = load_cell(cell)
        with GraphClient() as graph:
            if part is Part.SENSORS:
                heard = profile if cameras else profile.model_copy(update={"cameras": ()})
                _wait_for(graph, _Sensors(graph, heard).missing, timeout)
            elif part is Part.MODELS:
                wait_for_models(graph, timeout)
            else:
                graph.wait_for_arbiter(timeout)
    took_s = time.monotonic() - started_s
    console.print(Text(f"{part.value}: alive after {took_s:.1f} s"))
    write_json(json, {"part": part.value, "seconds": took_s})


def wait_for_models(graph: GraphClient, timeout_s: float) -> None:
    """Until world model and experts are active; GraphError names who is not."""
    _wait_for(graph, lambda: _inactive(graph), timeout_s)


def _inactive(graph: GraphClient) -> list[str]:
    said = []
    for name in MODELS:
        status = graph.nodes.get(name)
        if status is None:
            said.append(f"{name} says nothing on {topics.DIAGNOSTICS}: does it run?")
        elif status.state != "active":
            said.append(f"{name} is {status.state}: {status.message}")
    return said


def _wait_for(graph: GraphClient, missing: Callable[[], list[str]], timeout_s: float) -> None:
    try:
        graph.spin(lambda: not missing(), timeout_s, "it")
    except GraphError as error:
        raise GraphError(f"after {timeout_s:.0f} s still missing:\n" + "\n".join(f"  {sentence}" for sentence in missing())) from error


def activate(
    node: Annotated[str, typer.Argument(help="A lifecycle node, such as arbiter.")],
    json: Json = "",
) -> None:
    """Configure and activate a node that does not bring itself up."""
    console, name = _console(json), "/" + node.lstrip("/")
    with _reported(console), GraphClient() as graph:
        state = graph.call(GetState, f"{name}/get_state", GetState.Request()).current_state.label
        steps = {
            "unconfigured": [Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE],
            "inactive": [Transition.TRANSITION_ACTIVATE],
        }
        if state not in (*steps, "active"):
            raise GraphError(f"{name} is {state}: it can be activated from unconfigured and inactive alone")
        for step in steps.get(state, []):
            request = ChangeState.Request(transition=Transition(id=step))
            if not graph.call(ChangeState, f"{name}/change_state", request, CONFIGURE_S).success:
                raise GraphError(
                    f"{name} could not be {'configured' if step == Transition.TRANSITION_CONFIGURE else 'activated'}; its log says why"
                )
    console.print(Text(f"{name}: active"))
    write_json(json, {"node": name, "state": "active"})
