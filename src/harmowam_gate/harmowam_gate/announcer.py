"""Tells the log and the diagnostics what the arbiter does: the log on a change alone."""

from __future__ import annotations

from harmowam_core.health import Level
from harmowam_core.lifecycle import ManagedNode
from harmowam_core.status import GateState, Reason, Status


class Announcer:
    """One node's voice."""

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        self._told: tuple[Status, Reason, bool] | None = None

    def tell(self, state: GateState) -> None:
        """Of this tick's state."""
        degraded = "degraded" in state.text
        level = Level.ERROR if state.status is Status.LATCHED else Level.WARN
        if degraded or state.status in (Status.SLOWED, Status.HOLDING, Status.LATCHED):
            self._node.health.fault("arbiter", f"{state.reason.name}: {state.text}", level)
        else:
            self._node.health.clear("arbiter")
        now = (state.status, state.reason, degraded)
        if now == self._told:
            return
        self._told = now
        logger, line = self._node.get_logger(), f"{state.status.name} ({state.reason.name}): {state.text}"
        if state.status is Status.LATCHED:
            logger.error(line)
        elif state.status is Status.HOLDING or degraded:
            logger.warning(line)
        else:
            logger.info(line)
