"""What every commanded motion must keep to, one file each; ``stack`` puts them in the order of the robot's profile."""

from harmowam_gate.limits.limit import Context, Limit, Motion, Source, Verdict
from harmowam_gate.limits.motion_filter import MotionFilter
from harmowam_gate.limits.stack import LIMITS, stack

__all__ = ["LIMITS", "Context", "Limit", "Motion", "MotionFilter", "Source", "Verdict", "stack"]
