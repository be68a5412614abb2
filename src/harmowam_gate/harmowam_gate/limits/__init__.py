"""What every commanded motion must keep to, one file each; ``MotionFilter`` asks them all."""

from harmowam_gate.limits.acceleration import AccelerationLimit
from harmowam_gate.limits.continuity import ContinuityLimit
from harmowam_gate.limits.finite import FiniteLimit
from harmowam_gate.limits.jerk import JerkLimit
from harmowam_gate.limits.limit import Limit, Motion, Verdict
from harmowam_gate.limits.motion_filter import MotionFilter
from harmowam_gate.limits.position import PositionLimit
from harmowam_gate.limits.structure import StructureLimit
from harmowam_gate.limits.tcp_speed import TcpSpeedLimit
from harmowam_gate.limits.velocity import VelocityLimit
from harmowam_gate.limits.workspace import WorkspaceLimit

__all__ = [
    "AccelerationLimit",
    "ContinuityLimit",
    "FiniteLimit",
    "JerkLimit",
    "Limit",
    "Motion",
    "MotionFilter",
    "PositionLimit",
    "StructureLimit",
    "TcpSpeedLimit",
    "VelocityLimit",
    "Verdict",
    "WorkspaceLimit",
]
