"""How fast and where elbow, hand and tool move."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harmowam_bringup.auditor.forward_kinematics import ForwardKinematics
from harmowam_bringup.auditor.limits import ToolLimits
from harmowam_bringup.auditor.rules.check import Check, Motion, exceeding
from harmowam_bringup.auditor.verdict import Finding, Rule
from harmowam_core.cell import Cell

EVERY_S = 0.02
"""Samples are at most so far apart: kinematics cost more than splines, and a tool at its limit moves 14 mm in this time."""
PLACES = (Rule.WORKSPACE, Rule.TABLE, Rule.TOOL_TILT)


class ArmInSpace(Check):
    """Speeds; and that TCP, hand, elbow and tool axis stay where they may be.

    What begins outside may come back, but not go further out; where the next trajectories begin, that only shrinks.
    """

    def __init__(self, cell: Cell, limits: ToolLimits) -> None:
        self._kinematics = ForwardKinematics(cell)
        self._arms = cell.arm_names
        self._lower, self._upper = np.array(cell.workspace.lower), np.array(cell.workspace.upper)
        self._limits = limits
        self._inside = np.array([0.0, 0.0, limits.tool_tilt_rad])[:, None]  # (places, 1)
        self._slack = np.array([limits.workspace_slack_m, 0.0, 0.0])[:, None]
        self._begun = self._inside

    def check(self, motion: Motion) -> Iterator[Finding]:
        """Blame the worst arm for each."""
        poses = self._kinematics.poses(*motion.curve.moments(EVERY_S))
        yield from exceeding(Rule.TCP_SPEED, self._arms, poses.tcp_speed, self._limits.tcp_speed_m_s)
        yield from exceeding(Rule.ELBOW_SPEED, self._arms, poses.elbow_speed, self._limits.elbow_speed_m_s)
        outside = np.maximum(self._lower - poses.tcp, poses.tcp - self._upper).max(axis=-1)  # (M, A), m
        tilt = np.arccos(np.clip(poses.tool_down, -1, 1))
        measured = np.stack([outside, self._limits.table_height_m - poses.lowest_z, tilt])  # (places, M, A)
        start = measured[:, 0]  # (places, A)
        self._begun = np.maximum(self._inside, start if motion.before is None else np.minimum(start, self._begun))
        for rule, values, limit in zip(PLACES, measured, self._begun + self._slack, strict=True):
            yield from exceeding(rule, self._arms, values, limit)
