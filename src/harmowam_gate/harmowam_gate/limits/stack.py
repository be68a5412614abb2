"""The limits by name, stacked in the order of the robot's profile."""

from __future__ import annotations

from collections.abc import Callable

from harmowam_gate.limits.acceleration import AccelerationLimit
from harmowam_gate.limits.clearance import ClearanceLimit
from harmowam_gate.limits.continuity import ContinuityLimit
from harmowam_gate.limits.elbow_speed import ElbowSpeedLimit
from harmowam_gate.limits.finite import FiniteLimit
from harmowam_gate.limits.freshness import FreshnessLimit
from harmowam_gate.limits.jerk import JerkLimit
from harmowam_gate.limits.keep_out import KeepOutLimit
from harmowam_gate.limits.limit import Context, Limit
from harmowam_gate.limits.motion_filter import MotionFilter
from harmowam_gate.limits.position import PositionLimit
from harmowam_gate.limits.singularity import SingularityLimit
from harmowam_gate.limits.stoppable import StoppableLimit
from harmowam_gate.limits.structure import StructureLimit
from harmowam_gate.limits.tcp_speed import TcpSpeedLimit
from harmowam_gate.limits.tool_tilt import ToolTiltLimit
from harmowam_gate.limits.tracking import TrackingLimit
from harmowam_gate.limits.velocity import VelocityLimit
from harmowam_gate.limits.workspace import WorkspaceLimit

LIMITS: dict[str, Callable[[Context], Limit]] = {
    "finite": FiniteLimit,
    "structure": StructureLimit,
    "freshness": FreshnessLimit,
    "continuity": ContinuityLimit,
    "tracking": TrackingLimit,
    "position": PositionLimit,
    "velocity": VelocityLimit,
    "acceleration": AccelerationLimit,
    "jerk": JerkLimit,
    "tcp_speed": TcpSpeedLimit,
    "elbow_speed": ElbowSpeedLimit,
    "workspace": WorkspaceLimit,
    "keep_out": KeepOutLimit,
    "tool_tilt": ToolTiltLimit,
    "singularity": SingularityLimit,
    "clearance": ClearanceLimit,
    "stoppable": StoppableLimit,
}


def stack(context: Context, without: tuple[str, ...] = ()) -> tuple[MotionFilter, MotionFilter]:
    """For plans, and for what is published, leaving some out.

    ValueError where the profile's list is not each of the known names once, finite first.
    """
    names = context.cell.safety.limits
    where = f"cell '{context.cell.name}': safety.limits"
    if unknown := [name for name in names if name not in LIMITS]:
        raise ValueError(f"{where} names {unknown}; known: {', '.join(LIMITS)}")
    if missing := [name for name in LIMITS if name not in names]:
        raise ValueError(f"{where} lacks {missing}; every limit has to be there, the list says in which order")
    if len(set(names)) != len(names):
        raise ValueError(f"{where} names a limit twice: {list(names)}")
    if names[0] != "finite":
        raise ValueError(f"{where} begins with '{names[0]}'; 'finite' comes first, the others compare numbers")
    limits = [LIMITS[name](context) for name in names if name not in without]
    return MotionFilter([limit for limit in limits if limit.for_plans]), MotionFilter(limits)
