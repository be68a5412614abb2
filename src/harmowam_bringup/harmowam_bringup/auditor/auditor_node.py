"""Auditor node: judges what is commanded while it is commanded. It only listens; stopping the arm is others' work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.auditor.audit import CellAuditor
from harmowam_bringup.auditor.authority import Authority
from harmowam_bringup.auditor.limits import REST_WITHIN_S
from harmowam_bringup.auditor.verdict import Rule, Violation
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.health import Level
from harmowam_core.inbox import ears_of, take_waiting
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.qos import LATCHED, SENSOR
from harmowam_core.stamp_clock import published_ns

VERDICT_PERIOD_S = 0.25
PUBLISHERS_PERIOD_S = 1.0
CLOCK_JUMP_S = 0.02
"""The ROS clock parts by less from the steady one between two trajectories, unless somebody sets it."""
CLOCK_JUMP_SEEN_S = 0.1
"""So long after that there may come trajectories that were stamped before."""
TAKE_PERIOD_S = 0.02
EVERY_MESSAGE = QoSProfile(depth=200)
"""A trajectory missed by a late auditor would look like a jump of the next one."""


class AuditorNode(ManagedNode):
    """Each broken rule is a fault on /diagnostics from then on; the counts are on topics.AUDITOR_VERDICT.

    It takes what came from a node of its own that no executor spins: DDS says when each trajectory was published, and no joint state
    wakes the process.
    """

    def __init__(self) -> None:
        super().__init__("auditor")

    def declare(self) -> None:
        """The cell and what the profile does not say."""
        self.parameter("cell", "franka_dual", "Cell profile by name, or path of a profile.", read_only=True)
        self.parameter(
            "rest_within_s", REST_WITHIN_S, "Latest end of a trajectory after it arrived.", lower=0.01, upper=10.0, read_only=True
        )

    def configure(self) -> None:
        """Read the cell; the verdict begins here."""
        cell = load_cell(self._value("cell"))
        self.auditor = CellAuditor(cell, self._value("rest_within_s"))
        self._told: set[Rule] = set()
        self._authorities = {topic: Authority(topic) for topic in self.auditor.sources}
        self._verdicts = self.create_lifecycle_publisher(String, topics.AUDITOR_VERDICT, LATCHED)

    def activate(self) -> None:
        """Start to listen."""
        self.auditor.forget()
        self._apart_s: float | None = None  # of the ROS clock, which stamps, from the steady one
        self._jump_s = self._uncertain_until_s = 0.0
        self._joint_state = b""
        self._ears = ears_of(self)
        self._commands = {
            topic: self._ears.create_subscription(JointTrajectory, topic, lambda _: None, EVERY_MESSAGE) for topic in self.auditor.sources
        }
        # Serialized: one in hundreds is looked at.
        self._joint_states = self._ears.create_subscription(JointState, topics.JOINT_STATES, lambda _: None, SENSOR, raw=True)
        self.create_timer(TAKE_PERIOD_S, self._take)
        self.create_timer(VERDICT_PERIOD_S, self._publish)
        self.create_timer(PUBLISHERS_PERIOD_S, self._count_publishers)

    def deactivate(self) -> None:
        """Listen no longer."""
        self._ears.destroy_node()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _take(self) -> None:
        for data, _ in take_waiting(self._joint_states):
            self._joint_state = data
            self.health.event("joint states")
        for topic, commands in self._commands.items():
            for message, info in take_waiting(commands):
                self._judge(topic, message, info["source_timestamp"])

    def _measured(self, _: int) -> Mapping[str, float] | None:
        if not self._joint_state:
            return None
        state = deserialize_message(self._joint_state, JointState)
        return dict(zip(state.name, state.position, strict=False))

    def _judge(self, topic: str, message: JointTrajectory, sent_ns: int) -> None:
        started_s, received_ns = time.monotonic(), self.now_ns()
        # That it is taken late is not the publisher's fault.
        taken_ns = time.time_ns()
        waited_ns = taken_ns - published_ns(sent_ns, taken_ns)
        apart_s = received_ns * 1e-9 - started_s
        if self._apart_s is not None and abs(apart_s - self._apart_s) > CLOCK_JUMP_S:
            self._jump_s, self._uncertain_until_s = apart_s - self._apart_s, started_s + CLOCK_JUMP_SEEN_S
            self.get_logger().warning(f"the clock was set by {self._jump_s:.3f} s; trajectories of before and after are not compared")
        if started_s < self._uncertain_until_s:
            self.auditor.forget()
            stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec  # by the clock of before, or of after
            received_ns = min((received_ns, received_ns - round(self._jump_s * 1e9)), key=lambda by_ns: abs(by_ns - stamp_ns))
        self._apart_s = apart_s
        self._report(self.auditor.check(topic, message, received_ns, self._measured, waited_ns))
        self.health.event(f"{self.auditor.sources[topic]} trajectory")
        self.health.latency("judgement", time.monotonic() - started_s)

    def _count_publishers(self) -> None:
        for topic, authority in self._authorities.items():
            infos = self.get_publishers_info_by_topic(topic)
            names = [f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos]
            found = authority.update(names, time.monotonic())
            if found is not None:
                self._report([self.auditor.blame(topic, found)])
            if names:
                self.health.clear(topic)
            else:
                self.health.fault(topic, "nobody publishes it", Level.WARN)

    def _report(self, violations: Iterable[Violation]) -> None:
        for violation in violations:
            rule = violation.rule
            if rule not in self._told:
                self._told.add(rule)
                self.get_logger().error(str(violation))
            self.health.fault(rule.value, f"{self.auditor.verdict.by_rule[rule]} times, last {violation}")

    def _publish(self) -> None:
        self._verdicts.publish(String(data=json.dumps(self.auditor.verdict.to_json())))


def main() -> None:
    """Run the node."""
    run(AuditorNode)


if __name__ == "__main__":
    main()
