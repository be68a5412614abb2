"""Whether one publisher alone commands a controller."""

from __future__ import annotations

from collections.abc import Sequence

from harmowam_bringup.auditor.verdict import Finding, Rule

GHOST_S = 25.0
"""A killed publisher is still listed until the middleware gives it up (20 s); its successor bears the same name."""
NAMING_S = 2.0
"""A publisher is discovered a moment before the name of its node is."""
UNKNOWN = "_NODE_NAME_UNKNOWN_"


class Authority:
    """Told from time to time who publishes on ``topic``."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._count = 1
        self._since_s = 0.0  # when the last of them came
        self._told = False

    def update(self, publishers: Sequence[str], now_s: float) -> Finding | None:
        """Full names of the publishing nodes, steady time. The finding comes once, until only one is left."""
        if len(publishers) > self._count:
            self._since_s = now_s
        self._count = len(publishers)
        if self._count <= 1:
            self._told = False
            return None
        since_s = now_s - self._since_s
        ghost = len(set(publishers)) == 1 and since_s <= GHOST_S
        unnamed = any(name.endswith(UNKNOWN) for name in publishers) and since_s <= NAMING_S
        if self._told or ghost or unnamed:
            return None
        self._told = True
        return Finding(Rule.SECOND_PUBLISHER, f"{self._topic} ({', '.join(sorted(publishers))})", len(publishers), 1)
