"""An independent check of what is commanded: every joint trajectory on the wire, against the cell profile.

It shares nothing with the arbiter but messages and profile: its own curve, its own kinematics, its own limits; messages are read
as they came, nothing is decoded or repaired before it is checked. One rule a file in ``rules``; ``CellAuditor`` asks them all.
"""

from harmowam_bringup.auditor.audit import CellAuditor, audit
from harmowam_bringup.auditor.verdict import Finding, Rule, Verdict, Violation

__all__ = ["CellAuditor", "Finding", "Rule", "Verdict", "Violation", "audit"]
