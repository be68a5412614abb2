"""The tools' speed."""

from __future__ import annotations

import numpy as np

from harmowam_core.status import Reason
from harmowam_gate.limits.limit import Limit, Motion, Verdict


class TcpSpeedLimit(Limit):
    """Fastest that a tool centre point may move, m/s."""

    def __init__(self, arm_names: tuple[str, ...], fastest_m_s: float) -> None:
        self._arms = arm_names
        self._limit = fastest_m_s

    def check(self, motion: Motion) -> Verdict:
        """Ask for more time where a tool would be faster."""
        if len(motion.tool_times_s) < 2:
            return Verdict()
        speeds = np.linalg.norm(np.diff(motion.tools, axis=0), axis=-1) / np.diff(motion.tool_times_s)[:, None]  # (S - 1, A)
        if (speeds <= self._limit).all():
            return Verdict()
        arm, fastest = int(speeds.max(axis=0).argmax()), float(speeds.max())
        text = f"the tool of arm '{self._arms[arm]}' would move at {fastest:.2f} m/s, limit {self._limit:.2f}"
        return Verdict.too_fast(Reason.TCP_SPEED, fastest, self._limit, 1, text)
