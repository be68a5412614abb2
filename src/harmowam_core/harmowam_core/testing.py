"""A private ROS graph for tests of nodes: a cell that publishes what cameras and arms would, and an ear on every topic of interest."""

from __future__ import annotations

import random
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.timer import Timer
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMsg

from harmowam_core import topics
from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_to_message, joint_state_to_message, optical_frame, task_to_message, trajectory_from_message
from harmowam_core.qos import COMMAND, LATCHED, SENSOR
from harmowam_core.stages import JointState
from harmowam_core.status import Task


class FakeCell(Node):
    """Publishes images of one grey value and home joint states when told; ``heard[topic]`` lists what came in on ``listen``."""

    def __init__(self, cell: Cell | None = None, context: Context | None = None) -> None:
        super().__init__("fake_cell", context=context)
        self.cell = cell or load_cell()
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self._measures = False
        self._names = self.cell.arm_joint_names + self.cell.finger_joint_names
        self._home = np.concatenate([Kinematics(self.cell).home(), np.full(len(self.cell.arms), self.cell.finger_travel)])
        self._images = {c.name: self.create_publisher(Image, topics.camera_image(c.name), SENSOR) for c in self.cell.cameras}
        self._joints = self.create_publisher(JointStateMsg, topics.JOINT_STATES, SENSOR)
        self._task = self.create_publisher(type(task_to_message(Task(0, 0, ""))), topics.TASK, LATCHED)
        self.listen(DiagnosticArray, topics.DIAGNOSTICS, COMMAND)

    def listen(self, message_type: Any, topic: str, qos: QoSProfile) -> None:
        """Record what comes in on a topic."""
        self.create_subscription(message_type, topic, self.heard[topic].append, qos)

    def set_task(self, task_id: int, instruction: str) -> None:
        """Publish a task; id 0 without words ends it."""
        self._task.publish(task_to_message(Task(self.get_clock().now().nanoseconds, task_id, instruction)))

    def sense(
        self, grey: int = 128, *, cameras: tuple[str, ...] | None = None, joint_offset: float = 0.0, height: int | None = None
    ) -> int:
        """Publish joint states and images (all cameras' unless named) of one stamp, which is returned."""
        stamp_ns = self.get_clock().now().nanoseconds
        if joint_offset or not self._measures:
            self._publish_home(stamp_ns, joint_offset)
        for camera in self.cell.cameras:
            if cameras is None or camera.name in cameras:
                image = np.full((height or camera.height, camera.width, 3), grey, np.uint8)
                if self._measures:  # no two pictures of arms that move are the same
                    image[0, 0] = stamp_ns // 1_000_000 % 251
                self._images[camera.name].publish(image_to_message(image, stamp_ns, optical_frame(camera.name)))
        return stamp_ns

    def _publish_home(self, stamp_ns: int, joint_offset: float) -> None:
        state = JointState(stamp_ns, self._names, self._home, np.zeros(len(self._names)))
        message = joint_state_to_message(state)
        message.position[0] += joint_offset
        self._joints.publish(message)

    def keep_measuring(self, period_s: float = 0.01) -> Timer:
        """Publish joint states all the time, as arm drivers do, of arms that follow their trajectories; cancel the timer to lose them."""
        self.listen(JointTrajectoryMsg, self.cell.controllers.arm_topic, COMMAND)
        self._measures = True
        return self.create_timer(period_s, self._measure)

    def _measure(self) -> None:
        stamp_ns = self.get_clock().now().nanoseconds
        home, still = self._home, np.zeros(len(self._names))
        state = JointState(stamp_ns, self._names, home, still)
        if commands := self.heard[self.cell.controllers.arm_topic]:
            command = trajectory_from_message(commands[-1])
            time_s, arms = (stamp_ns - command.stamp_ns) * 1e-9, len(command.names)
            q, v = (
                np.array([np.interp(time_s, command.times_s, column) for column in rows.T])
                for rows in (command.positions, command.velocities)
            )
            state = JointState(stamp_ns, self._names, np.concatenate([q, home[arms:]]), np.concatenate([v, still[arms:]]))
        self._joints.publish(joint_state_to_message(state))

    def diagnosis(self, node: str) -> tuple[int, str, dict[str, str]]:
        """Level, message and values that a node last reported on /diagnostics; level -1 before that."""
        for array in reversed(self.heard[topics.DIAGNOSTICS]):
            for status in array.status:
                if status.name == f"/{node}":
                    return status.level[0], status.message, {v.key: v.value for v in status.values}
        return -1, "", {}


@contextmanager
def spinning(node: Node, executor: Executor) -> Iterator[None]:
    """The node's callbacks run in a thread of their own."""
    executor.add_node(node)
    thread = Thread(target=executor.spin, daemon=True)
    thread.start()
    yield
    executor.shutdown(timeout_sec=1.0)
    thread.join(timeout=5.0)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 15.0, meanwhile: Callable[[], Any] | None = None) -> Any:
    """Poll until ``condition`` is true and return its value; calls ``meanwhile`` every 50 ms. AssertionError names ``what``."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end_s, f"no {what} within {timeout_s} s"
        if meanwhile is not None:
            meanwhile()
        time.sleep(0.05)
    return value


def spin_once(executor: Executor) -> None:
    """Let the executor work for up to 0.1 s.

    rclpy trips over an entity that another thread, such as the test's, destroys between listing and waiting; the next round is sound
    again. What a callback raises is passed on.
    """
    try:
        executor.spin_once(timeout_sec=0.1)
    except InvalidHandle:
        pass
    except AttributeError as error:
        frames = traceback.extract_tb(error.__traceback__)
        if Path(frames[-1].filename).parent != Path(rclpy.__file__).parent:
            raise


def _spin(executor: Executor, ended: Event) -> None:
    while not ended.is_set():
        spin_once(executor)


@contextmanager
def graph(*make_nodes: Callable[[], Node], parameters: Mapping[str, float] | None = None) -> Iterator[tuple[FakeCell, list[Any]]]:
    """A fake cell and the nodes under test, spinning in threads, in a DDS domain of their own; all are torn down at the end.

    The cell is a participant of its own, as a process would be: Fast DDS does not renew liveliness within one participant.
    """
    domain_id = random.randint(1, 100)
    outside = Context()
    given = [word for name, value in (parameters or {}).items() for word in ("-p", f"{name}:={value}")]
    rclpy.init(args=["--ros-args", *given] if given else [], domain_id=domain_id)
    rclpy.init(args=[], domain_id=domain_id, context=outside)
    executors: list[Executor] = [SingleThreadedExecutor(context=outside), SingleThreadedExecutor()]
    nodes: list[Any] = []
    try:
        cell = FakeCell(context=outside)
        nodes = [make() for make in make_nodes]
        executors[0].add_node(cell)
        for node in nodes:
            executors[1].add_node(node)
        ended = Event()
        spinners = [Thread(target=_spin, args=(executor, ended), daemon=True) for executor in executors]
        for spinner in spinners:
            spinner.start()
        try:
            yield cell, nodes
        finally:
            ended.set()
            for executor, spinner in zip(executors, spinners, strict=True):
                executor.shutdown(timeout_sec=5.0)
                spinner.join(timeout=5.0)
            for node in (*nodes, cell):
                node.destroy_node()
    finally:
        rclpy.try_shutdown(context=outside)
        rclpy.try_shutdown()
