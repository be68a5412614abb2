"""Talks to a graph: who is active, what the gate does, give it a task; and runs a graph of its own from start to end."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rclpy
from ament_index_python.packages import get_package_share_directory
from diagnostic_msgs.msg import DiagnosticArray
from harmowam_msgs.action import ExecuteTask, MoveTo
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Trigger

from harmowam_bringup.launch_yaml import Launch
from harmowam_bringup.supervisor import Line, Supervisor
from harmowam_core import topics
from harmowam_core.health import Level
from harmowam_core.qos import COMMAND
from harmowam_core.status import Outcome

TAIL_LINES = 15
ANSWER_S = 10.0
"""How long a node may take to answer a request."""
MOVE_S = 60.0
"""How long a planned move may take, planning included."""
REST_S = 0.5
"""How long a latched arm is given to come to rest before it is reset."""


class GraphError(RuntimeError):
    """The graph does not run as it should; the message names the node and quotes what it said last."""


@dataclass(frozen=True)
class TaskResult:
    """How a task ended, as the arbiter sees it."""

    outcome: Outcome
    why: str
    duration_s: float


@dataclass(frozen=True)
class NodeStatus:
    """What a node last said of itself on /diagnostics; ``state`` is its lifecycle state."""

    state: str
    level: Level
    message: str
    values: dict[str, str]


def free_domain() -> int:
    """A ROS domain in which nobody on this machine takes part, of those that are safe on Linux (1-101)."""
    for domain in random.sample(range(1, 102), 101):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("", 7410 + 250 * domain))  # where the domain's first participant would listen
            return domain
    raise GraphError("all ROS domains 1-101 are in use on this machine; end some graphs")


def isolated_environment(domain_id: int) -> dict[str, str]:
    """Environment of a graph that only this machine sees, and whose nodes may be killed (config/fastdds_one_host.xml)."""
    profiles = Path(get_package_share_directory("harmowam_bringup")) / "config" / "fastdds_one_host.xml"
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain_id),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "FASTRTPS_DEFAULT_PROFILES_FILE": str(profiles.resolve(strict=True)),
    }


class GraphClient:
    """``with GraphClient() as graph: graph.execute("put the banana on the plate", 60.0)``; by default in the domain of the environment."""

    def __init__(self, domain_id: int | None = None) -> None:
        self.domain_id = domain_id
        self.nodes: dict[str, NodeStatus] = {}

    def __enter__(self) -> Self:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=self.domain_id)
        self.node = Node(f"harmowam_{os.getpid()}", context=self._context, enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, COMMAND)
        self._client = ActionClient(self.node, ExecuteTask, topics.EXECUTE_TASK)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._client.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {item.key: item.value for item in status.values}
            level = int.from_bytes(status.level, "little")
            self.nodes[status.name] = NodeStatus(values.pop("state", "unknown"), Level(min(level, Level.ERROR)), status.message, values)

    def check(self) -> None:
        """Called while waiting; raises GraphError if there is nothing left to wait for."""

    def spin(self, until: Callable[[], object], timeout_s: float, what: str, on_wait: Callable[[], None] = lambda: None) -> None:
        """Let callbacks run until the condition holds; GraphError names ``what`` was waited for in vain."""
        end = time.monotonic() + timeout_s
        while not until():
            if time.monotonic() > end:
                raise GraphError(f"waited {timeout_s:.0f} s for {what}")
            self._executor.spin_once(timeout_sec=0.1)
            self.check()
            on_wait()

    def spin_once(self, timeout_s: float) -> None:
        """Let one callback run, if there is one in time."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def spin_for(self, duration_s: float) -> None:
        """Let callbacks run for a while."""
        end = time.monotonic() + duration_s
        self.spin(lambda: time.monotonic() >= end, duration_s + ANSWER_S, "time to pass")

    def wait_for_arbiter(self, timeout_s: float) -> None:
        """Until the arbiter takes tasks."""
        self.spin(self._client.server_is_ready, timeout_s, f"an arbiter that takes tasks ({topics.EXECUTE_TASK})")

    def call(self, kind: Any, service: str, request: Any, timeout_s: float = ANSWER_S) -> Any:
        """A service's answer."""
        client = self.node.create_client(kind, service)
        try:
            self.spin(client.service_is_ready, ANSWER_S, f"the service {service}; does its node run?")
            answer = client.call_async(request)
            self.spin(answer.done, timeout_s, f"{service} to answer")
            return answer.result()
        finally:
            self.node.destroy_client(client)

    def execute(
        self,
        instruction: str,
        time_limit_s: float,
        on_feedback: Callable[[Any], None] = lambda feedback: None,
        on_wait: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> TaskResult:
        """Give the task and wait for its end; it is cancelled when ``stop`` says so, and when the wait is interrupted."""
        goal = ExecuteTask.Goal(instruction=instruction, time_limit_s=time_limit_s)
        return self._pursue(self._client, goal, time_limit_s, "the arbiter", on_feedback, on_wait, stop)

    def keep_executing(self, instruction: str, on_wait: Callable[[], None], stop: Callable[[], bool], time_limit_s: float) -> int:
        """Give the task again whenever it ends, until ``stop`` says so, resetting the arbiter after faults: how many there were."""
        faults = 0
        while not stop():
            result = self.execute(instruction, time_limit_s, on_wait=on_wait, stop=stop)
            if result.outcome in (Outcome.FAULT, Outcome.REFUSED):  # a starved machine makes the arbiter latch
                faults += 1
                while not self.call(Trigger, topics.RESET, Trigger.Request()).success and not stop():
                    self.spin_for(REST_S)
        return faults

    def move_to(self, target: str, on_feedback: Callable[[Any], None] = lambda feedback: None) -> TaskResult:
        """Go to a named pose of the cell by a planned way; cancelled when the wait is interrupted."""
        client = ActionClient(self.node, MoveTo, topics.MOVE_TO)
        try:
            self.spin(client.server_is_ready, ANSWER_S, f"a planner that moves the arms ({topics.MOVE_TO})")
            return self._pursue(client, MoveTo.Goal(target=target), MOVE_S, "the planner", on_feedback)
        finally:
            client.destroy()

    def _pursue(
        self,
        client: ActionClient,
        goal: Any,
        time_limit_s: float,
        server: str,
        on_feedback: Callable[[Any], None],
        on_wait: Callable[[], None] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> TaskResult:
        sent = client.send_goal_async(goal, feedback_callback=lambda message: on_feedback(message.feedback))
        self.spin(sent.done, ANSWER_S, f"{server} to answer")
        handle = sent.result()
        if not handle.accepted:
            return TaskResult(Outcome.REFUSED, f"{server} refused; its log and /diagnostics say why", 0.0)
        result = handle.get_result_async()
        try:
            self.spin(lambda: result.done() or stop(), time_limit_s + ANSWER_S, f"{server} to finish", on_wait)
        finally:
            if not result.done():
                handle.cancel_goal_async()
                self.spin(result.done, ANSWER_S, f"{server} to cancel", on_wait)
        ended = result.result().result
        return TaskResult(Outcome(ended.outcome), ended.why, ended.duration_s)


class GraphSession(GraphClient):
    """Runs a launch file: ``with GraphSession(launch, log, domain_id=d) as session: session.wait_active(60); session.execute(…)``

    ``log`` gets every line the nodes print; ``on_line`` those meant for the screen.
    """

    def __init__(self, launch: Launch, log: Path, domain_id: int, on_line: Callable[[Line], None] = lambda line: None) -> None:
        super().__init__(domain_id)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # for this process' own node
        self.expected = [f"/{process.node}" for process in launch.processes if process.node is not None]
        self._log = log.open("w", buffering=1)
        self._tails = {process.name: deque[str](maxlen=TAIL_LINES) for process in launch.processes}
        self._on_line = on_line
        self._was_active = False
        self.supervisor = Supervisor(launch.processes, self._note)

    def _note(self, line: Line) -> None:
        self._log.write(f"[{line.process}] {line.text}\n")
        self._tails[line.process].append(line.text)
        if line.on_screen:
            self._on_line(line)

    def __enter__(self) -> Self:
        self.supervisor.__enter__()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.supervisor.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)
        self._log.close()

    def check(self) -> None:
        """GraphError when a process ended that will not come back, or at the start, or for the third time."""
        for ended in self.supervisor.poll():
            deaths = sum(item.process == ended.process for item in self.supervisor.exits)
            if not ended.respawns or not self._was_active or deaths >= 3:
                time.sleep(0.1)  # its last words may still be on their way
                said = "\n".join(f"  {text}" for text in self._tails[ended.process])
                raise GraphError(f"{ended.process} ended with code {ended.code}; it said last:\n{said}")

    @property
    def inactive(self) -> dict[str, str]:
        """Nodes of the launch file that are not active: what they say of themselves."""
        return {
            name: f"{status.state}: {status.message}" if (status := self.nodes.get(name)) else "silent"
            for name in self.expected
            if name not in self.nodes or self.nodes[name].state != "active"
        }

    def wait_active(self, timeout_s: float, on_wait: Callable[[], None] = lambda: None) -> None:
        """Until every node of the launch file reports that it is active and the arbiter takes tasks; GraphError names who is missing."""
        try:
            self.spin(lambda: not self.inactive, timeout_s, "all nodes to become active", on_wait)
        except GraphError as error:
            missing = "\n".join(f"  {name} ({said})" for name, said in self.inactive.items())
            raise GraphError(f"{error}\nnot active:\n{missing}" if missing else str(error)) from error
        self.wait_for_arbiter(ANSWER_S)
        self._was_active = True
