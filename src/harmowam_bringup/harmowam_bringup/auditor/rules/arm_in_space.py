"""How fast and where elbow, hand and tool move."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harmowam_bringup.auditor.forward_kinematics import ForwardKinematics
from harmowam_bringup.auditor.rules.check import Check, Motion, Place, exceeding
from harmowam_bringup.auditor.verdict import Finding, Rule
from harmowam_core.cell import Cell

EVERY_S = 0.02
"""Samples are at most so far apart: kinematics cost more than splines, and a tool at its limit moves 12 mm in this time."""
SPEED_SLACK = 1.02
WORKSPACE_SLACK_M, KEEP_OUT_SLACK_M, TILT_SLACK_RAD = 0.005, 0.001, 0.002
"""Beyond the profile, for who looks at other samples of the same motion; the workspace's also for paths that cut corners."""


class ArmInSpace(Check):
    """The profile's speeds of TCP and elbow; and that TCP, hand, elbow and tool axis stay in its places.

    The planes keep out the points of elbow, wrist, flange and palm; the fingers are the workspace's.
    """

    def __init__(self, cell: Cell) -> None:
        self._kinematics = ForwardKinematics(cell)
        self._arms, self._safety = cell.arm_names, cell.safety
        self._lower, self._upper = np.array(cell.workspace.lower), np.array(cell.workspace.upper)
        self._workspace, self._tilt = Place(), Place()
        self._planes = [(plane, Place()) for plane in cell.safety.keep_out]

    def check(self, motion: Motion) -> Iterator[Finding]:
        """Blame the worst arm for each."""
        anew = motion.before is None
        poses = self._kinematics.poses(*motion.curve.moments(EVERY_S))
        yield from exceeding(Rule.TCP_SPEED, self._arms, poses.tcp_speed, SPEED_SLACK * self._safety.tcp_speed)
        yield from exceeding(Rule.ELBOW_SPEED, self._arms, poses.elbow_speed, SPEED_SLACK * self._safety.elbow_speed)
        outside = np.maximum(self._lower - poses.tcp, poses.tcp - self._upper).max(axis=-1)  # (M, A), m
        yield from exceeding(Rule.WORKSPACE, self._arms, outside, self._workspace.allowed(outside, anew) + WORKSPACE_SLACK_M)
        for plane, place in self._planes:
            behind = plane.offset - (poses.kept @ np.array(plane.normal)).min(axis=-1)  # (M, A), m
            parts = [f"{arm} behind {plane.name}" for arm in self._arms]
            yield from exceeding(Rule.KEEP_OUT, parts, behind, place.allowed(behind, anew) + KEEP_OUT_SLACK_M)
        tilt = np.arccos(np.clip(poses.tool_down, -1, 1))
        allowed = self._safety.tool_tilt + self._tilt.allowed(tilt - self._safety.tool_tilt, anew)
        yield from exceeding(Rule.TOOL_TILT, self._arms, tilt, allowed + TILT_SLACK_RAD)
