"""The graph that faults are injected into: starts it, breaks it, heals it, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ament_index_python.packages import get_package_share_directory
from harmowam_msgs.action import ExecuteTask
from harmowam_msgs.srv import SetFault
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from harmowam_bringup.faults.observer import JointsSeen, Observer, StateSeen
from harmowam_bringup.faults.stand_in_node import misbehave_service
from harmowam_bringup.launch_yaml import Launch, read_launch
from harmowam_bringup.session import GraphError, GraphSession, free_domain, isolated_environment
from harmowam_bringup.supervisor import Line
from harmowam_core import topics
from harmowam_core.status import Reason, Status

READY_S = 60.0
"""How long a graph may take to be at work again after a fault; nodes that were killed import and configure anew."""
STEADY_S = 0.6
"""It counts as at work once it has been for so long without a break."""
MOVING_RAD_S = 0.02
"""Slower than this, an arm rests."""
TASK_S = 3600.0
STAND_INS = ("world_model", "predictive_expert", "reactive_expert")


def launch_faults(domain_id: int, environment: Mapping[str, str] | None = None) -> Launch:
    """faults.launch.yaml in a ROS domain of its own, with these additions to the environment."""
    path = Path(get_package_share_directory("harmowam_bringup")) / "launch" / "faults.launch.yaml"
    # One thread a library: nodes that oversubscribe the processors would be a fault that nobody injected.
    threads = {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    return read_launch(path, {}, {**isolated_environment(domain_id), **threads, **(environment or {})})


def settable_clock(folder: Path, offset_file: Path) -> dict[str, str]:
    """Environment of processes whose wall clock is off by what the file says, int64 ns; GraphError without a C compiler."""
    source = Path(get_package_share_directory("harmowam_bringup")) / "config" / "wall_clock.c"
    library = folder.resolve() / "wall_clock.so"
    try:
        built = subprocess.run(
            ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl", "-lpthread"], capture_output=True, text=True
        )
    except FileNotFoundError:
        raise GraphError("cc is missing, with which clocks are made settable; sudo apt-get install build-essential") from None
    if built.returncode:
        raise GraphError(f"{source} does not compile: {built.stderr}")
    return {"LD_PRELOAD": str(library), "HARMOWAM_CLOCK_OFFSET": str(offset_file.resolve())}


class FaultGraph(GraphSession):
    """``with FaultGraph(folder) as graph: graph.ready(); graph.signal("reactive_expert", signal.SIGKILL); graph.ready()``

    The log of all nodes is in ``folder``. ``ready`` brings the graph back to work, whatever was done to it.
    """

    def __init__(self, folder: Path, fake_clock: bool = False, change: Callable[[Launch], Launch] = lambda launch: launch) -> None:
        domain_id = free_domain()
        self._clock_file = folder / "clock_offset"
        if fake_clock:
            self._clock_file.write_bytes(bytes(8))
        self.launch = change(launch_faults(domain_id, settable_clock(folder, self._clock_file) if fake_clock else None))
        super().__init__(self.launch, folder / "nodes.log", domain_id)
        self.observer = Observer(domain_id)
        self._process_of = {process.node: process.name for process in self.launch.processes if process.node is not None}
        self._goal: Any = None
        self._lines: deque[tuple[int, int, str, str]] = deque(maxlen=2000)
        self._clients: dict[str, Any] = {}
        self._stopped: set[int] = set()
        self._broken: set[str] = set()

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.observer.__enter__()
        except BaseException:
            super().__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for pid in self._stopped:  # a stopped process cannot end in order
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        try:
            self.observer.__exit__(kind, error, trace)
        finally:
            super().__exit__(kind, error, trace)

    def _note(self, line: Line) -> None:
        self._lines.append((time.monotonic_ns(), time.time_ns(), line.process, line.text))
        super()._note(line)

    def check(self) -> None:
        """Start dead nodes again; here they are killed on purpose, so only one that has no second life is an error."""
        for ended in self.supervisor.poll():
            if not ended.respawns:
                said = "\n".join(f"  {text}" for text in self._tails[ended.process])
                raise GraphError(f"{ended.process} ended with code {ended.code}; it said last:\n{said}")

    # ---- break ------------------------------------------------------------------------------------------------------------

    def pid(self, node: str) -> int:
        """Process id of a node by its name; GraphError while it is dead."""
        pids = self.node_pids
        if node not in pids:
            raise GraphError(f"{node} is not running")
        return pids[node]

    @property
    def node_pids(self) -> dict[str, int]:
        """Process ids of the running nodes by name."""
        pids = self.supervisor.pids
        return {node: pids[process] for node, process in self._process_of.items() if process in pids}

    def signal(self, node: str, number: signal.Signals) -> int:
        """Send a signal to a node's process; returns the steady time just before, ns."""
        pid = self.pid(node)
        if number == signal.SIGSTOP:
            self._stopped.add(pid)
        elif number == signal.SIGCONT:
            self._stopped.discard(pid)
        elif number == signal.SIGKILL:
            self.nodes.pop(f"/{node}", None)  # what it said of itself is no longer true
        at_ns = time.monotonic_ns()
        os.kill(pid, number)
        return at_ns

    def relay(self, topic: str, mode: str, value: float = 0.0) -> int:
        """Set a fault of the relay; returns the steady time just before, ns. ValueError with its words if it refuses."""
        if topic != "all":
            self._broken.add(topic)
        return self._order(topics.SET_FAULT, topic, mode, value)

    def misbehave(self, node: str, how: str, messages: int = 0) -> int:
        """Have a stand-in go wrong, for so many messages or until told; returns the steady time just before, ns."""
        self._broken.add(node)
        return self._order(misbehave_service(node), "", how, messages)

    def set_clock(self, offset_s: int) -> int:
        """Set the wall clock of all nodes off by so much, in a graph with a settable one; returns the steady time just before, ns."""
        at_ns = time.monotonic_ns()
        with self._clock_file.open("r+b") as file:
            file.write(struct.pack("=q", offset_s * 10**9))
        return at_ns

    def _order(self, service: str, topic: str, mode: str, value: float) -> int:
        at_ns = time.monotonic_ns()
        answer = self.call(SetFault, service, SetFault.Request(topic=topic, mode=mode, value=float(value)))
        if not answer.success:
            raise ValueError(answer.message)
        return at_ns

    def trigger(self, service: str) -> str:
        """Call a std_srvs/Trigger; its message. GraphError if it fails."""
        answer = self.call(Trigger, service, Trigger.Request())
        if not answer.success:
            raise GraphError(f"{service}: {answer.message}")
        return str(answer.message)

    def set_parameter(self, node: str, name: str, value: Any) -> tuple[bool, str]:
        """Whether the node took it, and what it said."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        [result] = self.call(SetParameters, f"/{node}/set_parameters", request).results
        return bool(result.successful), str(result.reason)

    def call(self, kind: Any, service: str, request: Any, timeout_s: float = 10.0) -> Any:
        """The answer of a service; GraphError names one that does not answer."""
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        client = self._clients[service]
        self.spin(client.service_is_ready, timeout_s, f"the service {service}")
        answer = client.call_async(request)
        self.spin(answer.done, timeout_s, f"{service} to answer")
        return answer.result()

    # ---- watch ------------------------------------------------------------------------------------------------------------

    def first_state(self, since_ns: int, wanted: Callable[[StateSeen], bool], timeout_s: float) -> StateSeen | None:
        """The first gate state after a moment that is as wanted; None if there is none in time."""
        end_s = time.monotonic() + timeout_s
        while True:
            late = time.monotonic() > end_s
            for state in self.observer.states(since_ns):
                if wanted(state):
                    return state
            if late:
                return None
            self.rest(0.03)

    def first_joints(self, since_ns: int, wanted: Callable[[JointsSeen], bool], timeout_s: float) -> JointsSeen | None:
        """Likewise of the measured joints."""
        end_s = time.monotonic() + timeout_s
        while True:
            late = time.monotonic() > end_s
            for joints in self.observer.joints(since_ns):
                if wanted(joints):
                    return joints
            if late:
                return None
            self.rest(0.03)

    def rests_since_ns(self, since_ns: int) -> int | None:
        """When the arm's last motion ended, as measured (steady time, ns); None while it moves. ``since_ns`` if it rested all along."""
        joints = self.observer.joints(since_ns)
        if not joints or not joints[-1].speed <= MOVING_RAD_S:
            return None
        return max((seen.sent_ns for seen in joints if not seen.speed <= MOVING_RAD_S), default=since_ns)

    def said(self, node: str, words: str, since_ns: int) -> int:
        """When a node first logged these words after a moment (steady time, ns, of its own stamp); GraphError if it did not."""
        process = self._process_of[node]
        for at_ns, wall_ns, name, text in list(self._lines):
            stamp = re.search(r"\[(\d+\.\d{6,9})\]", text)
            if name == process and words in text and at_ns > since_ns and stamp is not None:
                return at_ns - (wall_ns - round(float(stamp[1]) * 1e9))
        raise GraphError(f"{node} has not said '{words}'")

    def violations(self) -> dict[str, int]:
        """The auditor's count by rule, so far."""
        return dict(self.observer.verdict().get("by_rule", {}))

    def rest(self, seconds: float) -> None:
        """Let time pass; nodes that died are started again."""
        time.sleep(seconds)
        self.check()

    # ---- heal -------------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Let stopped processes go on, topics pass and stand-ins behave."""
        for pid in list(self._stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._stopped.discard(pid)
        for name in list(self._broken):
            if name in STAND_INS:
                self.misbehave(name, "sound")
            else:
                self.relay(name, "pass")
        self._broken.clear()

    def ready(self) -> None:
        """Heal, reset and give the task again until the arm moves as it should; GraphError says what it hangs on."""
        self.heal()
        end_s, state = time.monotonic() + READY_S, None
        while True:
            self.spin(lambda: not self.inactive, max(end_s - time.monotonic(), 0.1), f"the nodes to be active ({self.inactive})")
            now_ns = time.monotonic_ns()
            recent = self.observer.states(now_ns - round(STEADY_S * 1e9))
            state = recent[-1] if recent else state
            if len(recent) > STEADY_S * 8 and all(seen.moving for seen in recent):
                if recent[-1].reason is not Reason.NONE:  # what was refused before stands there until the next task
                    self._cancel()
                elif self.rests_since_ns(now_ns - round(STEADY_S * 1e9)) is None:
                    return
            if state is not None and state.status is Status.LATCHED:
                with contextlib.suppress(GraphError):  # refused while the arm still brakes
                    self.trigger(topics.RESET)
            elif state is not None and not state.task_id:
                self._start()
            if time.monotonic() > end_s:
                raise GraphError(f"the graph is not at work after {READY_S:.0f} s; last state: {state}; {self._complaints()}")
            self.spin_for(0.1)

    def _complaints(self) -> str:
        """What the nodes say is wrong, and what has not happened for a second."""
        said = []
        for name, status in self.nodes.items():
            old = [f"{key} {value}" for key, value in status.values.items() if key.endswith("age (s)") and float(value) > 1.0]
            if status.level or old:
                said.append(f"{name}: {status.message} ({', '.join(old)})")
        return "; ".join(said)

    def _cancel(self) -> None:
        if self._goal is not None and self._goal.accepted:
            self._goal.cancel_goal_async()
            self.spin_for(0.2)

    def _start(self) -> None:
        """Ask for a task that no stand-in ever ends."""
        self.spin(self._client.server_is_ready, READY_S, "an arbiter that takes tasks")
        sent = self._client.send_goal_async(ExecuteTask.Goal(instruction="go round in circles", time_limit_s=TASK_S))
        with contextlib.suppress(GraphError):  # an arbiter may die on the way; the next round asks the next one
            self.spin(sent.done, 5.0, "the arbiter to answer the task")
            self._goal = sent.result()
            self.spin_for(0.1)
