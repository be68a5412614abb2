"""What every trajectory must keep to, one file each; ``CellAuditor`` chooses those of each controller."""

from harmowam_bringup.auditor.rules.arm_in_space import ArmInSpace
from harmowam_bringup.auditor.rules.check import Check, Motion
from harmowam_bringup.auditor.rules.continuity import Continuity, begins_anew
from harmowam_bringup.auditor.rules.joints import JointLimits
from harmowam_bringup.auditor.rules.rest import Rest
from harmowam_bringup.auditor.rules.structure import Unfollowable, read

__all__ = ["ArmInSpace", "Check", "Continuity", "JointLimits", "Motion", "Rest", "Unfollowable", "begins_anew", "read"]
