"""harmowam wait, activate, hold, reset, home and do --from-home, against nodes of this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from harmowam_msgs.action import ExecuteTask, MoveTo
from rclpy.action import ActionServer, GoalResponse
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from std_srvs.srv import Trigger

from harmowam_bringup import session
from harmowam_bringup.cli import main
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.lifecycle import ManagedNode
from harmowam_core.qos import SENSOR
from harmowam_core.status import Outcome
from harmowam_core.testing import spinning

CELL = load_cell()
JOINTS = [*CELL.arm_joint_names, *CELL.finger_joint_names]


class Arbiter(ManagedNode):
    """Configured and activated by hand; takes a task only when active, and moves home unless told not to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.move_ends = Outcome.SUCCEEDED
        self.faulty = False
        super().__init__("arbiter")

    def configure(self) -> None:
        if self.faulty:
            raise RuntimeError("no weights")
        for name in (topics.HOLD, topics.RESET):
            self.create_service(Trigger, name, lambda request, response, name=name: self.answer(name, response))
        ActionServer(self, MoveTo, topics.MOVE_TO, self.move, goal_callback=self.judge)

    def activate(self) -> None:
        ActionServer(self, ExecuteTask, topics.EXECUTE_TASK, self.execute)

    def answer(self, name: str, response: Trigger.Response) -> Trigger.Response:
        self.calls.append(name)
        response.success, response.message = name == topics.HOLD, f"{name} was called"
        return response

    def judge(self, goal: MoveTo.Goal) -> GoalResponse:
        return GoalResponse.REJECT if self.move_ends is Outcome.REFUSED else GoalResponse.ACCEPT

    def move(self, handle: Any) -> MoveTo.Result:
        self.calls.append(f"move to {handle.request.target}")
        handle.publish_feedback(MoveTo.Feedback(stage="planning"))
        handle.succeed()
        return MoveTo.Result(outcome=self.move_ends, why="there" if self.move_ends is Outcome.SUCCEEDED else "something is in the way")

    def execute(self, handle: Any) -> ExecuteTask.Result:
        self.calls.append(handle.request.instruction)
        handle.succeed()
        return ExecuteTask.Result(outcome=Outcome.SUCCEEDED, why="done", duration_s=1.0)


@pytest.fixture
def arbiter(domain_id: int) -> Iterator[Arbiter]:
    rclpy.init(domain_id=domain_id, args=["--ros-args", "-p", "autostart:=false"])
    node = Arbiter()
    with spinning(node, SingleThreadedExecutor()):
        yield node
    if node.active:
        node.trigger_deactivate()
    node.destroy_node()
    rclpy.try_shutdown()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and everything said."""
    with pytest.raises(SystemExit) as ended:
        main([*words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out + said.err


def test_activate_walks_a_node_up_and_is_content_with_an_active_one(arbiter: Arbiter, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "activate", "arbiter") == (0, "/arbiter: active\n") and arbiter.active
    assert call(capsys, "activate", "/arbiter")[0] == 0
    assert call(capsys, "wait", "arbiter", "--timeout", "5")[0] == 0


def test_a_node_that_cannot_be_configured_is_named(arbiter: Arbiter, capsys: pytest.CaptureFixture[str]) -> None:
    arbiter.faulty = True
    code, said = call(capsys, "activate", "arbiter")
    assert code == 3 and "/arbiter could not be configured; its log says why" in said


def test_hold_and_reset_are_asked_for_and_answered(arbiter: Arbiter, capsys: pytest.CaptureFixture[str]) -> None:
    arbiter.trigger_configure()
    assert call(capsys, "hold") == (0, "/harmowam/hold was called\n")
    code, said = call(capsys, "reset", "--json")
    assert code == 1 and json.loads(said[said.index("{") : said.index("}") + 1]) == {
        "success": False,
        "message": "/harmowam/reset was called",
    }
    assert arbiter.calls == [topics.HOLD, topics.RESET]


def test_home_and_a_task_from_home(arbiter: Arbiter, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "activate", "arbiter")
    code, said = call(capsys, "home")
    assert code == 0 and said.endswith("succeeded: there\n"), said
    assert call(capsys, "do", "lift it", "--from-home")[0] == 0
    assert arbiter.calls == ["move to home", "move to home", "lift it"]


@pytest.mark.parametrize(("ends", "why"), [(Outcome.FAULT, "something is in the way"), (Outcome.REFUSED, "the planner refused")])
def test_no_task_starts_where_the_way_home_failed(arbiter: Arbiter, capsys: pytest.CaptureFixture[str], ends: Outcome, why: str) -> None:
    call(capsys, "activate", "arbiter")
    arbiter.move_ends = ends
    code, said = call(capsys, "do", "lift it", "--from-home")
    assert code == 1 and f"{ends.name.lower()}: on the way home: {why}" in said
    assert "lift it" not in arbiter.calls


def test_what_does_not_run_is_named(domain_id: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_S", 0.3)
    assert call(capsys, "wait", "models", "--timeout", "0.3") == (
        3,
        "after 0 s still missing:\n"
        + "".join(
            f"  {name} says nothing on /diagnostics: does it run?\n" for name in ("/world_model", "/predictive_expert", "/reactive_expert")
        ),
    )
    for words in (["hold"], ["home"], ["activate", "arbiter"], ["wait", "arbiter", "--timeout", "0.3"]):
        assert call(capsys, *words)[0] == 3


def test_sensors_that_are_missing_are_named_until_all_are_there(arbiter: Arbiter, capsys: pytest.CaptureFixture[str]) -> None:
    images = {camera.name: arbiter.create_publisher(Image, topics.camera_image(camera.name), SENSOR) for camera in CELL.cameras}
    joints = arbiter.create_publisher(JointState, topics.JOINT_STATES, SENSOR)
    present, names = ["scene", "wrist_left"], list(JOINTS[:7])

    def publish() -> None:
        for camera in present:
            images[camera].publish(Image())
        joints.publish(JointState(name=names, position=np.zeros(len(names)), velocity=np.zeros(len(names))))

    arbiter.create_timer(0.05, publish)
    code, said = call(capsys, "wait", "sensors", "--timeout", "1.5")
    assert code == 3 and said.count("\n  ") == 3
    assert "no image from camera 'wrist_right' on /camera/wrist_right/color/image_raw" in said
    assert "no joint states of arm 'right' on /joint_states: is its controller at 172.16.0.3 switched on" in said
    assert "no finger joint of arm 'left'" in said
    names.extend(JOINTS[7:])
    assert call(capsys, "wait", "sensors", "--no-cameras", "--timeout", "10")[0] == 0
    present.append("wrist_right")
    assert call(capsys, "wait", "sensors", "--timeout", "10")[0] == 0
