"""The action /harmowam/execute_task and the topic /harmowam/task: one task at a time, told to everybody."""

from __future__ import annotations

from typing import Any

from harmowam_msgs.action import ExecuteTask
from rclpy.publisher import Publisher

from harmowam_core import topics
from harmowam_core.lifecycle import ManagedNode
from harmowam_core.messages import EXPERT_CODES, PHASE_CODES, task_to_message
from harmowam_core.status import Task
from harmowam_gate.arbiter import Arbiter, ArbiterOutput, TaskRefused
from harmowam_gate.goal_server import GoalServer


class TaskServer(GoalServer):
    """Starts and ends the arbiter's tasks."""

    action, what, refusal = ExecuteTask, "task", TaskRefused

    def __init__(self, node: ManagedNode, arbiter: Arbiter, publisher: Publisher) -> None:
        super().__init__(node, arbiter, topics.EXECUTE_TASK)
        self._publisher = publisher
        self._announce(0, "")

    def _start(self, request: Any, now_ns: int) -> str:
        task_id = self._arbiter.start_task(request.instruction, now_ns, request.time_limit_s)
        self._announce(task_id, request.instruction)
        return f"task {task_id} starts: '{request.instruction}'"

    def _halt(self) -> None:
        self._arbiter.stop_task()

    def _ended(self) -> None:
        self._announce(0, "")

    def _feedback(self, output: ArbiterOutput, now_ns: int) -> ExecuteTask.Feedback:
        state = output.state
        return ExecuteTask.Feedback(
            phase=PHASE_CODES[state.phase],
            score=state.score,
            expert=EXPERT_CODES[state.expert],
            sub_stage=state.sub_stage,
            text=state.text,
        )

    def _announce(self, task_id: int, instruction: str) -> None:
        self._publisher.publish(task_to_message(Task(self._node.now_ns(), task_id, instruction)))
