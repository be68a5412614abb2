"""What an operator sees in rviz: both experts' paths, the followed one bright, the workspace, and the gate in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from harmowam_core.cell import Cell
from harmowam_core.messages import stamp_to_message
from harmowam_core.stages import Expert
from harmowam_core.status import GateState
from harmowam_gate.pose_path import PosePath

COLOURS = {Expert.PREDICTIVE: (1.0, 0.45, 0.1), Expert.REACTIVE: (0.1, 0.6, 1.0)}
BRIGHT, FAINT = 1.0, 0.25
SHOWN_S = 1


def gate_markers(cell: Cell, paths: Mapping[Expert, PosePath], state: GateState, now_ns: int) -> MarkerArray:
    """All markers of one moment; ``state.expert`` None means that both experts' mean is followed, or nobody."""
    markers = [_workspace(cell), _words(cell, state)]
    for expert, path in paths.items():
        for arm, name in enumerate(cell.arm_names):
            marker = _line(f"{expert.value} {name}", Marker.LINE_STRIP, 0.006, path.positions[:, arm])
            alpha = BRIGHT if state.expert in (expert, None) else FAINT
            marker.color = ColorRGBA(r=COLOURS[expert][0], g=COLOURS[expert][1], b=COLOURS[expert][2], a=alpha)
            markers.append(marker)
    for marker in markers:
        marker.header.frame_id, marker.header.stamp = cell.base_frame, stamp_to_message(now_ns)
        marker.lifetime.sec = SHOWN_S
    return MarkerArray(markers=markers)


def _line(namespace: str, kind: int, width_m: float, points: NDArray[np.float64]) -> Marker:
    marker = Marker(ns=namespace, type=kind, action=Marker.ADD, points=[Point(x=x, y=y, z=z) for x, y, z in points.tolist()])
    marker.pose.orientation.w = 1.0
    marker.scale.x = width_m
    return marker


def _workspace(cell: Cell) -> Marker:
    """The twelve edges of the box."""
    corners = np.array([cell.workspace.lower, cell.workspace.upper])
    indices = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    edges = [(a, b) for a in indices for b in indices if tuple(a) < tuple(b) and np.abs(a - b).sum() == 1]
    points = np.array([corners[corner, (0, 1, 2)] for edge in edges for corner in edge])  # (24, 3)
    marker = _line("workspace", Marker.LINE_LIST, 0.003, points)
    marker.color = ColorRGBA(r=0.6, g=0.6, b=0.6, a=0.5)
    return marker


def _words(cell: Cell, state: GateState) -> Marker:
    marker = Marker(ns="gate", type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
    marker.text = f"{state.status.name.lower()} | {state.phase.value} {state.score:.2f} | {state.text}"
    marker.pose.position.x, marker.pose.position.z = (
        float(np.mean((cell.workspace.lower[0], cell.workspace.upper[0]))),
        cell.workspace.upper[2],
    )
    marker.pose.orientation.w = 1.0
    marker.scale.z = 0.04
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
    return marker
