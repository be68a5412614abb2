"""Judges the trajectories of a cell's controllers in the order of their arrival."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harmowam_bringup.auditor.curve import SHORTEST_JOIN_NS, Curve, Points
from harmowam_bringup.auditor.limits import REST_WITHIN_S, AxisLimits, arm_limits, gripper_limits
from harmowam_bringup.auditor.rules import ArmInSpace, Check, Continuity, JointLimits, Motion, Rest, Unfollowable, begins_anew, read
from harmowam_bringup.auditor.verdict import Finding, Rule, Verdict, Violation
from harmowam_core.cell import Cell

Measured = Callable[[int], Mapping[str, float] | None]
"""Joint positions by name that were measured last at a time, ns of the ROS clock; None where that is not known."""


class Auditor:
    """One controller's trajectories."""

    def __init__(self, limits: AxisLimits, checks: Sequence[Check] = (), rest_within_s: float = REST_WITHIN_S) -> None:
        """``checks``: beyond what every joint must keep to."""
        joints = limits.joints
        self._limits = limits
        self._checks = (Rest(joints, rest_within_s), JointLimits(limits), Continuity(joints), *checks)
        self._followed: Curve | None = None

    def check(self, message: Any, received_ns: int, measured: Measured = lambda _: None, waited_ns: int = 0) -> list[Finding]:
        """What a trajectory_msgs/JointTrajectory, received at that time of the ROS clock ``waited_ns`` after it was published, breaks."""
        try:
            points = read(message, received_ns, self._limits.joints)
        except Unfollowable as fault:
            return [fault.finding]
        motion = self._motion(points, received_ns, measured, waited_ns)
        findings = [finding for check in self._checks for finding in check.check(motion)]
        # The driver refuses an end that moves; all else it follows, so the next one has to go on from there.
        if Rule.MOVING_END not in {finding.rule for finding in findings}:
            self._followed = motion.curve
        return findings

    def forget(self) -> None:
        """The next trajectory is as the first one."""
        self._followed = None

    def _motion(self, points: Points, received_ns: int, measured: Measured, waited_ns: int) -> Motion:
        before = None if begins_anew(points, self._followed, self._limits, lambda: measured(received_ns)) else self._followed
        joins = before is not None and points.times_ns[0] - received_ns >= SHORTEST_JOIN_NS
        followed = points.after(before.at(received_ns), received_ns) if before is not None and joins else points
        return Motion(points, Curve(followed), received_ns, received_ns - waited_ns, before)


class CellAuditor:
    """All controllers of a cell, and the verdict on them."""

    def __init__(self, cell: Cell, rest_within_s: float = REST_WITHIN_S) -> None:
        self.sources = {cell.controllers.arm_topic: "arm", cell.controllers.gripper_topic: "gripper"}
        self._auditors = {
            "arm": Auditor(arm_limits(cell), [ArmInSpace(cell)], rest_within_s),
            "gripper": Auditor(gripper_limits(cell), rest_within_s=rest_within_s),
        }
        self._counts = dict.fromkeys(self._auditors, 0)
        self.verdict = Verdict()

    def check(self, topic: str, message: Any, received_ns: int, measured: Measured = lambda _: None, waited_ns: int = 0) -> list[Violation]:
        """Judge a trajectory on one of the command topics (``sources``); ``waited_ns``: how long before ``received_ns`` it was published,
        0 where that is not known.
        """
        source = self.sources[topic]
        found = self._auditors[source].check(message, received_ns, measured, waited_ns)
        violations = [Violation(source, self._counts[source], finding) for finding in found]
        self._counts[source] += 1
        self.verdict.trajectories += 1
        self.verdict.add(violations)
        return violations

    def blame(self, topic: str, finding: Finding) -> Violation:
        """Count what was found of a command topic apart from its trajectories."""
        violation = Violation(self.sources[topic], self._counts[self.sources[topic]], finding)
        self.verdict.add([violation])
        return violation

    def forget(self) -> None:
        """Trajectories may have been missed: the next ones are as the first ones. The verdict stays."""
        for auditor in self._auditors.values():
            auditor.forget()


def audit(cell: Cell, published: Iterable[tuple[str, int, Any]], measured: Measured = lambda _: None) -> Verdict:
    """Judge (topic, published_ns, message) of a recorded run, in order; where it is not known when one was published, when it arrived."""
    auditor = CellAuditor(cell)
    for topic, published_ns, message in published:
        auditor.check(topic, message, published_ns, measured)
    return auditor.verdict
