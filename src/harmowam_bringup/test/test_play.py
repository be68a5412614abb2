"""harmowam play: what a recording sends into a graph, as a stand-in for the graph hears it over DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from bag_writers import by_mcap
from demonstration import CONTRACT, START_NS, WORDS, demonstration
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harmowam_msgs.action import ExecuteTask
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.message_types import MalformedError, definition_of
from harmowam_bringup.cli import main
from harmowam_bringup.replay import play
from harmowam_bringup.startup import MODELS
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.messages import image_from_message, stamp_from_message, task_to_message
from harmowam_core.status import Outcome, Task
from harmowam_core.testing import spinning

SCENE, WRIST, OTHER_WRIST = (source.topic for source in CONTRACT.observation.images.values())
JOINTS, TASK, COMMANDS = CONTRACT.observation.joints.topic, CONTRACT.observation.instruction.topic, CONTRACT.action.openings.topic
SECONDS, ENDS_S = 2.5, 2.2
PATIENT = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)


def recorded(*, offset_s: float = 0.0, compressed: bool = False) -> list[tuple[str, int, Any]]:
    """Two and a half seconds; ``offset_s``: the recorder's clock from that of the stamps."""
    import cv2

    items = [item for item in demonstration(camera_hz=10.0) if item[1] < START_NS + SECONDS * 1e9]
    items.append((TASK, START_NS + round(ENDS_S * 1e9), task_to_message(Task(START_NS, 0, ""))))
    if compressed:
        for index, (name, time_ns, message) in enumerate(items):
            if name == SCENE:
                packed = cv2.imencode(".png", cv2.cvtColor(image_from_message(message), cv2.COLOR_RGB2BGR))[1].tobytes()
                items[index] = (f"{name}/compressed", time_ns, CompressedImage(header=message.header, format="png", data=packed))
    return sorted(((name, time_ns + round(offset_s * 1e9), message) for name, time_ns, message in items), key=lambda item: item[1])


class Graph(Node):
    """Says that the models are active, takes tasks, and notes what it hears, and when DDS received it, however busy its process is."""

    def __init__(self) -> None:
        super().__init__("arbiter")
        self.clock, self.heard, self.goals, self.cancelled = [], [], [], 0
        self.create_subscription(Clock, "/clock", self._tick, PATIENT)
        kinds = {
            SCENE: Image,
            WRIST: Image,
            OTHER_WRIST: Image,
            JOINTS: JointState,
            COMMANDS: JointTrajectory,
            play.RECORDED + COMMANDS: JointTrajectory,
        }
        for name, kind in kinds.items():
            self.create_subscription(
                kind, name, lambda m, info, name=name: self.heard.append((name, info["received_timestamp"], m)), PATIENT
            )
        self.diagnostics = self.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 4)
        self.create_timer(0.1, self._say_active)
        group = ReentrantCallbackGroup()
        ActionServer(
            self, ExecuteTask, topics.EXECUTE_TASK, self._execute, cancel_callback=lambda _: CancelResponse.ACCEPT, callback_group=group
        )

    def _tick(self, message: Clock, info: dict[str, int]) -> None:
        self.clock.append((info["received_timestamp"], stamp_from_message(message.clock)))

    def _say_active(self) -> None:
        active = [DiagnosticStatus(name=name, values=[KeyValue(key="state", value="active")]) for name in MODELS]
        self.diagnostics.publish(DiagnosticArray(status=active))

    def _execute(self, handle: Any) -> ExecuteTask.Result:
        self.goals.append(handle.request.instruction)
        end_s = time.monotonic() + 10
        while not handle.is_cancel_requested and time.monotonic() < end_s:
            time.sleep(0.01)
        self.cancelled += handle.is_cancel_requested
        handle.canceled()
        return ExecuteTask.Result(outcome=Outcome.CANCELLED, why="cancelled by the caller")

    def of(self, topic: str) -> list[tuple[int, Any]]:
        """What came on a topic: the clock then (0 before its first tick), and the message."""
        clock = [(0, 0), *sorted(self.clock)]
        return [(clock[bisect(clock, (at_ns,)) - 1][1], message) for name, at_ns, message in self.heard if name == topic]


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process' environment stays as it is."""
    monkeypatch.setattr(play, "expect_large_images", lambda: None)


@pytest.fixture
def graph(domain_id: int) -> Iterator[Graph]:
    rclpy.init(domain_id=domain_id)
    node = Graph()
    with spinning(node, MultiThreadedExecutor(4)):
        yield node
    node.destroy_node()
    rclpy.shutdown()


def median_late_s(heard: list[tuple[int, Any]]) -> float:
    """From stamps to the clock when they came."""
    return median((now_ns - stamp_from_message(message.header.stamp)) * 1e-9 for now_ns, message in heard)


def play_beside(domain_id: int, *words: str | Path) -> str:
    """The command in a process of its own, as beside a graph; what it says."""
    command = [sys.executable, "-c", "from harmowam_bringup.cli import main; main()", "play", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "ROS_DOMAIN_ID": str(domain_id)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(*words: str | Path) -> int:
    """The command's exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["play", *map(str, words)])
    return int(ended.value.code or 0)


def test_sensors_play_in_time_and_nothing_is_commanded(graph: Graph, domain_id: int, tmp_path: Path) -> None:
    items = recorded()
    bag, figures = by_mcap(tmp_path / "run.mcap", items), tmp_path / "played.json"
    output = play_beside(domain_id, bag, "--json", figures)
    for name in (SCENE, WRIST, JOINTS):
        sent = [message for topic, _, message in items if topic == name]
        heard = graph.of(name)
        assert len(heard) > 0.5 * len(sent), f"{name}: best effort in one busy process; what was sent is counted below"
        assert all(message in sent for _, message in heard[:5])
        assert -0.02 < median_late_s(heard) < 0.1, "the clock of that day"
    assert not graph.of(COMMANDS) and len(graph.of(play.RECORDED + COMMANDS)) > 30
    assert graph.goals == [WORDS] and graph.cancelled == 1
    assert "task ended: CANCELLED" in output
    said = json.loads(figures.read_text())
    assert said["played"][SCENE] == sum(topic == SCENE for topic, _, _ in items) and COMMANDS not in said["played"]
    assert SECONDS - 0.1 < said["seconds"] < SECONDS + 0.5


def test_compressed_images_another_clock_and_a_task_that_runs_already(graph: Graph, domain_id: int, tmp_path: Path) -> None:
    bag = by_mcap(tmp_path / "run.mcap", recorded(offset_s=1000.0, compressed=True))
    assert "stamps are -1000.0 s from when they were recorded" in play_beside(domain_id, bag, "--start", "1.5")
    _, image = graph.of(SCENE)[-1]
    assert image.encoding == "rgb8" and (image.height, image.width) == (128, 160)
    assert -0.02 < median_late_s(graph.of(SCENE)) < 0.1
    assert min(stamp_from_message(m.header.stamp) for _, m in graph.of(JOINTS)) > START_NS + 1.4e9
    assert graph.goals == [WORDS]


def test_what_must_be_read_is_decoded_by_the_bags_definitions(tmp_path: Path) -> None:
    image = SCENE + "/compressed"
    swapped = "string format\nstd_msgs/Header header\nuint8[] data\n" + definition_of("sensor_msgs/msg/CompressedImage").split("data\n")[1]
    bag = by_mcap(tmp_path / "run.mcap", recorded(compressed=True), definitions={"sensor_msgs/msg/CompressedImage": swapped})
    with Bag(bag) as recording:
        playlist = play.Playlist.of(recording, CONTRACT, load_cell())
        assert set(playlist.decoders) == {image, TASK}
        with pytest.raises(MalformedError):  # written in the order of the installed definition
            playlist.decoders[image](next(recording.raw([image])).data)
    bag = by_mcap(tmp_path / "other.mcap", [(n, t, String() if n == TASK else m) for n, t, m in recorded()])
    with Bag(bag) as recording:
        playlist = play.Playlist.of(recording, CONTRACT, load_cell())
        assert [problem.topic for problem in recording.problems] == [TASK]
        with pytest.raises(ValueError, match="no task"):
            playlist.require(recording, "")


def test_a_late_player_spins_all_the_same() -> None:
    spun: list[float] = []
    player: Any = SimpleNamespace(_now_ns=lambda: 10, _graph=SimpleNamespace(spin_once=spun.append))
    play.Player._wait_until(player, 5)
    assert spun == [0.0]


@pytest.mark.parametrize(
    ("left_out", "options", "why"),
    [
        ((JOINTS,), (), f"no messages on {JOINTS}; it has"),
        ((TASK,), (), f"no task on {TASK}; say what was done with --instruction"),
        ((), ("--start", "9"), "so there is nothing after 9 s"),
        ((), ("--contract", "none_such"), "no contract 'none_such'"),
    ],
)
def test_what_cannot_be_played_is_said(
    left_out: tuple[str, ...], options: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = by_mcap(tmp_path / "run.mcap", [item for item in recorded() if item[0] not in left_out])
    assert run(bag, *options) == 2
    assert why in capsys.readouterr().out.replace("\n", " ")


def test_no_bag_and_no_graph_are_said(
    tmp_path: Path, domain_id: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path / "none") == 2
    assert "there is no" in capsys.readouterr().out
    monkeypatch.setattr(play, "CONFIGURE_S", 1.0)
    assert run(by_mcap(tmp_path / "run.mcap", recorded())) == 3
    assert "/world_model says nothing" in capsys.readouterr().out
