"""What the auditor finds, and the verdict on a whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

QUOTED = 10
"""So many violations of a run are kept in words; the rest are counted, so that memory stays flat over hours."""


class Rule(str, Enum):
    """What a trajectory must keep to; the values are stable, other programs read them."""

    JOINT_NAMES = "joint_names"
    NO_POINTS = "no_points"
    POSITION_COUNT = "position_count"
    VELOCITY_COUNT = "velocity_count"
    ACCELERATION_COUNT = "acceleration_count"
    NOT_FINITE = "not_finite"
    TIME_ORDER = "time_order"
    FUTURE_STAMP = "future_stamp"
    MOVING_END = "moving_end"
    ACCELERATING_END = "accelerating_end"
    LATE_REST = "late_rest"
    POSITION_LIMIT = "position_limit"
    VELOCITY_LIMIT = "velocity_limit"
    ACCELERATION_LIMIT = "acceleration_limit"
    JERK_LIMIT = "jerk_limit"
    POSITION_JUMP = "position_jump"
    VELOCITY_JUMP = "velocity_jump"
    ACCELERATION_JUMP = "acceleration_jump"
    TCP_SPEED = "tcp_speed"
    ELBOW_SPEED = "elbow_speed"
    WORKSPACE = "workspace"
    KEEP_OUT = "keep_out"
    TOOL_TILT = "tool_tilt"
    SECOND_PUBLISHER = "second_publisher"


@dataclass(frozen=True)
class Finding:
    """A broken rule. part: the joint, arm or topic; ``measured`` and ``limit`` in the rule's SI unit (m, rad, s)."""

    rule: Rule
    part: str
    measured: float
    limit: float


@dataclass(frozen=True)
class Violation:
    """A finding and where: ``source`` ("arm", "gripper") and the number of its trajectory, from 0."""

    source: str
    index: int
    finding: Finding

    @property
    def rule(self) -> Rule:
        """The rule that was broken."""
        return self.finding.rule

    def __str__(self) -> str:
        found = self.finding
        return f"{self.source} #{self.index} {found.rule.value} {found.part}: {found.measured:.4g}, limit {found.limit:.4g}"


class Verdict:
    """Counts of one run, and its first violations in words."""

    def __init__(self) -> None:
        self.trajectories = 0
        self.by_rule: Counter[Rule] = Counter()
        self.first: list[str] = []

    def add(self, violations: Iterable[Violation]) -> None:
        """Count violations."""
        for violation in violations:
            self.by_rule[violation.rule] += 1
            if len(self.first) < QUOTED:
                self.first.append(str(violation))

    def to_json(self) -> dict[str, Any]:
        """{"trajectories", "violations", "by_rule", "first"}."""
        return {
            "trajectories": self.trajectories,
            "violations": self.by_rule.total(),
            "by_rule": {rule.value: count for rule, count in self.by_rule.items()},
            "first": list(self.first),
        }
