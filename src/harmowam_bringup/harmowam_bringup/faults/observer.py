"""Watches a graph from a process of its own, and notes when everything came: no other work of the tests delays its time stamps."""

from __future__ import annotations

import json
import math
import multiprocessing
import signal
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import numpy as np
import rclpy
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import GateState as GateStateMsg
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import String

from harmowam_bringup.faults.stand_in_node import EVERY_INJECTION, INJECTED
from harmowam_bringup.session import GraphError
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.lifecycle import take_place
from harmowam_core.qos import LATCHED, SENSOR
from harmowam_core.stages import Expert
from harmowam_core.status import Reason, Status

EVERY_MESSAGE = QoSProfile(depth=50)
KEPT = 3000
"""Of each kind: half a minute at the highest rate."""
ANSWER_S = 10.0
REAL_TIME = 10
"""After the arbiter's 30 and the arms' 20, where that is permitted: what waits here for a processor is not the arbiter's delay."""


@dataclass(frozen=True)
class StateSeen:
    """A gate state. at_ns: steady clock at its arrival; age_s: ROS time of the arrival since ``stamp_ns``, its newest observation."""

    at_ns: int
    stamp_ns: int
    age_s: float
    status: Status
    reason: Reason
    expert: int
    phase: int
    task_id: int
    text: str
    predictive_age_s: float
    reactive_age_s: float

    @property
    def moving(self) -> bool:
        """Whether the arm follows an expert."""
        return self.status in (Status.EXECUTING, Status.SLOWED)

    @property
    def followed_age_s(self) -> float:
        """Of the newest chunk of the expert that is followed; infinite where there is none."""
        ages_s = {GateStateMsg.EXPERT_PREDICTIVE: self.predictive_age_s, GateStateMsg.EXPERT_REACTIVE: self.reactive_age_s}
        return ages_s.get(self.expert, math.inf)

    @property
    def safe(self) -> bool:
        """Whether the arm is braked."""
        return self.status in (Status.HOLDING, Status.LATCHED)


@dataclass(frozen=True)
class JointsSeen:
    """Measured joints. sent_ns: steady clock when they were stamped; speed: of the fastest arm joint, rad/s; sound: all finite."""

    at_ns: int
    sent_ns: int
    speed: float
    sound: bool
    fastest: str


@dataclass(frozen=True)
class ChunkSeen:
    """An expert's chunk. sent_ns: steady clock when its observation was made; expert: as ActionChunk.source."""

    at_ns: int
    sent_ns: int
    expert: int


@dataclass(frozen=True)
class InjectedSeen:
    """A message that a stand-in sent wrongly, and when, by the steady clock that all processes of a host share."""

    at_ns: int
    node: str
    how: str
    count: int


class Observer:
    """``with Observer(domain_id) as observer: observer.states(since_ns)``"""

    def __init__(self, domain_id: int) -> None:
        self._connection, self._theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_observe, args=(self._theirs, domain_id), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()  # so that its end is noticed
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()  # which ends it
        self._process.join(timeout=3.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    @property
    def pid(self) -> int:
        """Of the observing process."""
        assert self._process.pid is not None
        return self._process.pid

    def states(self, since_ns: int) -> list[StateSeen]:
        """Gate states that came after a moment of the steady clock, in order; likewise the others."""
        return self._ask("states", since_ns)

    def joints(self, since_ns: int) -> list[JointsSeen]:
        """Measured joints."""
        return self._ask("joints", since_ns)

    def chunks(self, since_ns: int) -> list[ChunkSeen]:
        """What the experts sent, sound or not."""
        return self._ask("chunks", since_ns)

    def injected(self, since_ns: int) -> list[InjectedSeen]:
        """What stand-ins sent wrongly."""
        return self._ask("injected", since_ns)

    def verdict(self) -> dict[str, Any]:
        """The auditor's last word; empty before that."""
        return self._ask("verdict", 0)

    def _ask(self, what: str, since_ns: int) -> Any:
        self._connection.send((what, since_ns))
        if not self._connection.poll(ANSWER_S):
            raise GraphError(f"the observer did not answer within {ANSWER_S:.0f} s")
        return self._connection.recv()


class _Watch(Node):
    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("fault_observer", context=context, enable_rosout=False, start_parameter_services=False)
        self._arm_joints = set(load_cell().arm_joint_names)
        self.seen: dict[str, deque[Any]] = {name: deque(maxlen=KEPT) for name in ("states", "joints", "chunks", "injected")}
        self.verdict: dict[str, Any] = {}
        self.create_subscription(GateStateMsg, topics.GATE_STATE, self._on_state, EVERY_MESSAGE)
        self.create_subscription(JointStateMsg, topics.JOINT_STATES, self._on_joints, SENSOR)
        for expert in Expert:
            self.create_subscription(ActionChunkMsg, topics.chunk(expert), self._on_chunk, EVERY_MESSAGE)
        self.create_subscription(String, INJECTED, self._on_injection, EVERY_INJECTION)
        self.create_subscription(String, topics.AUDITOR_VERDICT, self._on_verdict, LATCHED)

    def _on_state(self, message: GateStateMsg) -> None:
        at_ns, wall_ns = time.monotonic_ns(), time.time_ns()
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        self.seen["states"].append(
            StateSeen(
                at_ns,
                stamp_ns,
                (wall_ns - stamp_ns) * 1e-9,
                Status(message.status),
                Reason(message.reason),
                message.expert,
                message.phase,
                message.task_id,
                message.text,
                message.predictive_chunk_age_s,
                message.reactive_chunk_age_s,
            )
        )

    def _on_joints(self, message: JointStateMsg) -> None:
        at_ns = time.monotonic_ns()
        sent_ns = _steady_ns(message, at_ns)
        speeds = {name: abs(speed) for name, speed in zip(message.name, message.velocity, strict=False) if name in self._arm_joints}
        sound = bool(np.isfinite(message.position).all() and np.isfinite(message.velocity).all())
        fastest = max(speeds, key=lambda name: speeds[name], default="")
        self.seen["joints"].append(JointsSeen(at_ns, sent_ns, speeds.get(fastest, float("nan")), sound, fastest))

    def _on_chunk(self, message: ActionChunkMsg) -> None:
        at_ns = time.monotonic_ns()
        self.seen["chunks"].append(ChunkSeen(at_ns, _steady_ns(message, at_ns), message.source))

    def _on_injection(self, message: String) -> None:
        self.seen["injected"].append(InjectedSeen(**json.loads(message.data)))

    def _on_verdict(self, message: String) -> None:
        self.verdict = json.loads(message.data)

    def answer(self, what: str, since_ns: int) -> Any:
        """What a question is answered with."""
        if what == "verdict":
            return self.verdict
        return [seen for seen in self.seen[what] if seen.at_ns > since_ns]


def _steady_ns(message: Any, at_ns: int) -> int:
    """A header's stamp by the steady clock that shows ``at_ns`` now."""
    return at_ns - (time.time_ns() - message.header.stamp.sec * 10**9 - message.header.stamp.nanosec)


def _observe(connection: Connection, domain_id: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks; the closed connection ends this
    context = rclpy.Context()
    take_place(nice=0, real_time=REAL_TIME)
    rclpy.init(context=context, domain_id=domain_id)
    node, executor = _Watch(context), SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        while True:
            executor.spin_once(timeout_sec=0.01)
            while connection.poll():
                connection.send(node.answer(*connection.recv()))
    except (EOFError, OSError):  # the one who asks is gone
        pass
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
