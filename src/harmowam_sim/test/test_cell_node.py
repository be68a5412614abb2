"""The cell's node looks to the graph like cameras and an arm driver."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from harmowam_core import messages, topics
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.qos import COMMAND, LATEST, SENSOR
from harmowam_core.stages import JointTrajectory as Trajectory
from harmowam_sim.state_log import StateLog

CELL = load_cell()
SEED = 1_000_001


class Listener(Node):
    """Keeps what arrives, with the time."""

    def __init__(self, context) -> None:
        super().__init__("listener", context=context)
        self.got = defaultdict(list)
        for camera in CELL.cameras:
            self.listen(Image, topics.camera_image(camera.name), SENSOR)
            self.listen(CameraInfo, topics.camera_info(camera.name), SENSOR)
        self.listen(JointState, topics.JOINT_STATES, SENSOR)
        self.listen(String, "/sim/score", LATEST)
        self.listen(DiagnosticArray, topics.DIAGNOSTICS, COMMAND)
        self.arm = self.create_publisher(JointTrajectory, CELL.controllers.arm_topic, COMMAND)
        self.reset = self.create_client(Trigger, "/sim/reset")

    def listen(self, kind, topic, qos) -> None:
        self.create_subscription(kind, topic, lambda message: self.got[topic].append((time.monotonic(), message)), qos)


class Graph:
    """A listener and how to let it listen."""

    def __init__(self, context) -> None:
        self.node = Listener(context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)

    def until(self, condition, timeout_s: float = 40.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"timed out; got { {topic: len(m) for topic, m in self.node.got.items()} }"
            self.executor.spin_once(timeout_sec=0.05)

    def listen_for(self, duration_s: float) -> dict:
        self.node.got.clear()
        end = time.monotonic() + duration_s
        self.until(lambda: time.monotonic() >= end)
        return dict(self.node.got)

    def positions(self) -> np.ndarray:
        state = messages.joint_state_from_message(self.node.got[topics.JOINT_STATES][-1][1], CELL.arm_joint_names)
        return state.positions


@pytest.fixture(scope="module")
def domain():
    number = random.randint(1, 100)
    os.environ["ROS_DOMAIN_ID"], os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = str(number), "LOCALHOST"
    return number


@pytest.fixture(scope="module")
def running(domain, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "states.npz"
    parameters = {"task": "pick_fruit", "environment": "position", "seed": SEED, "state_log": str(log)}
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    process = subprocess.Popen([sys.executable, "-m", "harmowam_sim.cell_node", "--ros-args", *arguments])
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    graph = Graph(context)
    try:
        graph.until(lambda: graph.node.got[topics.camera_image("scene")])
        yield graph, process, log
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        graph.executor.shutdown()
        graph.node.destroy_node()
        rclpy.shutdown(context=context)


def test_publishes_at_the_rates_of_the_real_thing(running):
    graph, _, _ = running
    for _ in range(8):  # a machine busy with other work may starve it for a while
        got = graph.listen_for(2.0)
        joints_hz, images_hz, scores_hz = (
            len(got.get(topic, ())) / 2.0 for topic in (topics.JOINT_STATES, topics.camera_image("scene"), "/sim/score")
        )
        if joints_hz >= 50 and images_hz >= 8 and scores_hz >= 3:
            break
    assert joints_hz >= 50 and 8 <= images_hz <= 12 and 3 <= scores_hz <= 7
    stamps = {}
    for camera in CELL.cameras:
        frames = got[topics.camera_image(camera.name)]
        image = messages.image_from_message(frames[-1][1])
        assert image.shape == (camera.height, camera.width, 3) and image.std() > 5
        info = got[topics.camera_info(camera.name)][-1][1]
        assert (info.k[0], info.k[2], info.k[5]) == pytest.approx(
            (camera.intrinsics[0, 0], (camera.width - 1) / 2, (camera.height - 1) / 2)
        )  # from the first pixel's centre
        stamps[camera.name] = [messages.stamp_from_message(m.header.stamp) for _, m in frames]
    assert all(set(s) & set(stamps["scene"]) for s in stamps.values())  # one moment, one stamp
    ages = [time.time_ns() - stamps["scene"][-1]]
    assert 0 < ages[0] < 1e9
    state = messages.joint_state_from_message(got[topics.JOINT_STATES][-1][1])
    assert state.names == CELL.arm_joint_names + CELL.finger_joint_names
    score = json.loads(got["/sim/score"][-1][1].data)
    assert score["environment"] == "position" and score["score"] == 0.0


def test_follows_trajectories_and_refuses_malformed_ones(running):
    graph, _, _ = running
    graph.until(lambda: graph.node.got[topics.JOINT_STATES])
    start = graph.positions()
    target = start + np.tile([0.1, -0.05, 0.0, 0.1, 0.0, 0.0, 0.2], 2)
    zeros = np.zeros((1, 14))
    stage = Trajectory(0, CELL.arm_joint_names, np.array([0.5]), target[None], zeros, zeros)
    graph.node.arm.publish(messages.trajectory_to_message(stage))
    graph.listen_for(1.0)
    assert graph.positions() == pytest.approx(target, abs=3e-3)

    malformed = messages.trajectory_to_message(stage)
    malformed.points[0].positions[3] = float("nan")
    graph.node.arm.publish(malformed)
    graph.node.arm.publish(JointTrajectory(joint_names=["elbow"]))
    got = graph.listen_for(1.5)
    assert graph.positions() == pytest.approx(target, abs=3e-3)
    texts = [status.message for _, m in got[topics.DIAGNOSTICS] for status in m.status if status.name == "/cell"]
    assert any("refused" in text and "elbow" in text for text in texts)
    assert any("real-time factor" in text for text in texts)


def test_resets_to_the_start(running):
    graph, _, _ = running
    future = graph.node.reset.call_async(Trigger.Request())
    graph.until(future.done)
    assert future.result().success and future.result().message
    graph.listen_for(0.5)
    home = Kinematics(CELL).forward(Kinematics(CELL).home())[0]
    assert np.abs(Kinematics(CELL).forward(graph.positions())[0] - home).max() < 0.025


def test_ends_cleanly_and_leaves_its_log(running):
    graph, process, log = running
    graph.listen_for(1.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == 0
    loaded = StateLog.load(log)
    assert (loaded.task, loaded.environment, loaded.seed) == ("pick_fruit", "position", SEED)
    assert len(loaded.qpos) >= 4 and (np.diff(loaded.stamps_ns) > 0).all()


def test_an_impossible_episode_is_explained(domain):
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "harmowam_sim.cell_node",
            "--ros-args",
            "-p",
            "environment:=position",
            "-p",
            "seed:=3",
            "-p",
            "autostart_attempts:=1",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "seeds from 1000000" in result.stderr
