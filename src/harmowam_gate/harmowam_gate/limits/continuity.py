"""The motion begins where the last published one has the arm: position, velocity and acceleration."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Context, Limit, Motion, Verdict

TOLERANCE = 1e-6  # rad, rad/s, rad/s^2: rounding


class ContinuityLimit(Limit):
    """For what is about to be published."""

    for_plans = False

    def __init__(self, _: Context) -> None:
        """Nothing to know."""

    def check(self, motion: Motion) -> Verdict:
        """Refuse a step in the set-point."""
        if motion.before is None:
            return Verdict()
        here, there = motion.before.motion(motion.spline.start_ns), motion.spline.motion(motion.spline.start_ns)
        for name in ("positions", "velocities", "accelerations"):
            steps = np.abs(getattr(here, name) - getattr(there, name))
            if not (steps <= TOLERANCE).all():
                joint = int(np.argmax(steps))
                text = f"the {name} of {motion.names[joint]} would step by {steps[joint]:.2g}"
                return Verdict.refused(Reason.JUMP, float(steps[joint]), TOLERANCE, text)
        return Verdict()
