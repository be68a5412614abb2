"""The action /harmowam/execute_task and the topic /harmowam/task: one task at a time, told to everybody."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from harmowam_msgs.action import ExecuteTask
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.publisher import Publisher
from rclpy.task import Future

from harmowam_core import topics
from harmowam_core.lifecycle import ManagedNode
from harmowam_core.messages import EXPERT_CODES, PHASE_CODES, task_to_message
from harmowam_core.status import GateState, Outcome, Task
from harmowam_gate.arbiter import Arbiter, ArbiterOutput, TaskRefused


@dataclass
class _Goal:
    """A caller's goal and where its outcome goes: (outcome, why, duration_s)."""

    handle: ServerGoalHandle
    done: Future
    started_ns: int = 0


class TaskServer:
    """Starts and ends the arbiter's tasks. Goals only queue up; ``attend`` and ``report`` are called from the arbiter's own tick, with its
    steady time, ns.
    """

    def __init__(self, node: ManagedNode, arbiter: Arbiter, publisher: Publisher) -> None:
        self._node, self._arbiter, self._publisher = node, arbiter, publisher
        self._running: _Goal | None = None
        self._queue: deque[_Goal] = deque()
        ActionServer(node, ExecuteTask, topics.EXECUTE_TASK, self._execute, cancel_callback=lambda _: CancelResponse.ACCEPT)
        self._announce(0, "")

    def attend(self, now_ns: int) -> None:
        """Cancel the task if its caller wants that, and start the next one."""
        if self._running is not None and self._running.handle.is_cancel_requested:
            self.stop(Outcome.CANCELLED, "cancelled by the caller", now_ns)
        while self._queue:
            goal = self._queue.popleft()
            request = goal.handle.request
            try:
                task_id = self._arbiter.start_task(request.instruction, now_ns, request.time_limit_s)
            except TaskRefused as error:
                self._node.get_logger().warning(f"task refused: {error}")
                goal.done.set_result((Outcome.REFUSED, str(error), 0.0))
                continue
            self._node.get_logger().info(f"task {task_id} starts: '{request.instruction}'")
            goal.started_ns, self._running = now_ns, goal
            self._announce(task_id, request.instruction)

    def report(self, output: ArbiterOutput, now_ns: int) -> None:
        """Tell the caller how it goes, or how it ended."""
        if output.outcome is not None:
            self._end(output.outcome, output.why, now_ns)
        elif self._running is not None:
            self._running.handle.publish_feedback(_feedback(output.state))

    def stop(self, outcome: Outcome, why: str, now_ns: int) -> None:
        """End the running task, if any."""
        self._arbiter.stop_task()
        self._end(outcome, why, now_ns)

    def _end(self, outcome: Outcome, why: str, now_ns: int) -> None:
        if self._running is None:
            return
        duration_s = (now_ns - self._running.started_ns) * 1e-9
        self._node.get_logger().info(f"task ended after {duration_s:.1f} s: {outcome.name}: {why}")
        self._running.done.set_result((outcome, why, duration_s))
        self._running = None
        self._announce(0, "")

    async def _execute(self, handle: ServerGoalHandle) -> ExecuteTask.Result:
        goal = _Goal(handle, Future())
        self._queue.append(goal)
        outcome, why, duration_s = await goal.done
        if outcome is Outcome.SUCCEEDED:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return ExecuteTask.Result(outcome=int(outcome), why=why, duration_s=duration_s)

    def _announce(self, task_id: int, instruction: str) -> None:
        self._publisher.publish(task_to_message(Task(self._node.now_ns(), task_id, instruction)))


def _feedback(state: GateState) -> ExecuteTask.Feedback:
    return ExecuteTask.Feedback(
        phase=PHASE_CODES[state.phase],
        score=state.score,
        expert=EXPERT_CODES[state.expert],
        sub_stage=state.sub_stage,
        text=state.text,
    )
