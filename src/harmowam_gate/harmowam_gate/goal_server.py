"""What the arbiter's actions have in common: goals queue up, one runs at a time, and all of it happens in the arbiter's own tick."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle

from harmowam_core.lifecycle import ManagedNode
from harmowam_core.status import Outcome
from harmowam_gate.arbiter import Arbiter, ArbiterOutput

PATIENCE_NS = 2_000_000_000


@dataclass
class _Goal:
    """A caller's goal and when it started, ns."""

    handle: ServerGoalHandle
    started_ns: int


class GoalServer(ABC):
    """Serves one action; ``attend`` and ``report`` are called from the arbiter's tick, with its steady time, ns.

    A goal's ``execute`` is called once its outcome is known: an executor polls coroutines that wait, for as long as they do.

    action: the action's type; what: one goal in a word, for the log; refusal: what ``_start`` raises for a goal that cannot run.
    """

    action: Any
    what: str
    refusal: type[Exception]

    def __init__(self, node: ManagedNode, arbiter: Arbiter, topic: str) -> None:
        self._node, self._arbiter = node, arbiter
        self._running: _Goal | None = None
        self._queue: deque[ServerGoalHandle] = deque()
        self._waits_since_ns: int | None = None
        ActionServer(
            node,
            self.action,
            topic,
            lambda _: None,
            handle_accepted_callback=self._queue.append,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )

    @abstractmethod
    def _start(self, request: Any, now_ns: int) -> str:
        """Have the arbiter begin; what it does now, in words."""

    @abstractmethod
    def _halt(self) -> None:
        """Have the arbiter brake to rest."""

    @abstractmethod
    def _feedback(self, output: ArbiterOutput, now_ns: int) -> Any:
        """The action's feedback."""

    @abstractmethod
    def _ended(self) -> None:
        """The running goal is over: tell whoever else has to know."""

    def attend(self, now_ns: int) -> None:
        """Cancel the goal if its caller wants that, and start the next one."""
        if self._running is not None and self._running.handle.is_cancel_requested:
            self.stop(Outcome.CANCELLED, "cancelled by the caller", now_ns)
        while self._queue and not self._waits(now_ns):
            handle, self._waits_since_ns = self._queue.popleft(), None
            try:
                text = self._start(handle.request, now_ns)
            except Exception as error:  # whatever a goal holds must not end the arbiter
                why = str(error) if isinstance(error, self.refusal) else f"{type(error).__name__}: {error}"
                self._node.get_logger().warning(f"{self.what} refused: {why}")
                self._answer(handle, Outcome.REFUSED, why, 0.0)
                continue
            self._node.get_logger().info(text)
            self._running = _Goal(handle, now_ns)

    def _waits(self, now_ns: int) -> bool:
        """Whether the next goal has a moment for the arm to settle; one that never does gets the arbiter's refusal."""
        if not self._arbiter.settles(now_ns):
            return False
        self._waits_since_ns = self._waits_since_ns or now_ns
        return now_ns - self._waits_since_ns < PATIENCE_NS

    def report(self, output: ArbiterOutput, now_ns: int) -> None:
        """Tell the caller how it goes, or how it ended."""
        if output.outcome is not None:
            self._end(output.outcome, output.why, now_ns)
        elif self._running is not None:
            self._running.handle.publish_feedback(self._feedback(output, now_ns))

    def stop(self, outcome: Outcome, why: str, now_ns: int) -> None:
        """End the running goal, if any."""
        self._halt()
        self._end(outcome, why, now_ns)

    def _end(self, outcome: Outcome, why: str, now_ns: int) -> None:
        if self._running is None:
            return
        duration_s = (now_ns - self._running.started_ns) * 1e-9
        self._node.get_logger().info(f"{self.what} ended after {duration_s:.1f} s: {outcome.name}: {why}")
        self._answer(self._running.handle, outcome, why, duration_s)
        self._running = None
        self._ended()

    def _answer(self, handle: ServerGoalHandle, outcome: Outcome, why: str, duration_s: float) -> None:
        def conclude(_: ServerGoalHandle) -> Any:
            if outcome is Outcome.SUCCEEDED:
                handle.succeed()
            elif handle.is_cancel_requested:
                handle.canceled()
            else:
                handle.abort()
            return self.action.Result(outcome=int(outcome), why=why, duration_s=duration_s)

        handle.execute(conclude)
