"""The arbiter: chooses between the experts and turns their chunks into motions that the arms can follow.

Plain Python and no clock: every call is told the time, ns, of one steady clock to which all stamps were mapped. The node
and lock-step evaluation use the same object. Not thread-safe.
"""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import ActionChunk, Drift, Expert, JointState, JointTrajectory, NotFiniteError, StageError
from harmowam_core.status import GateState as GateReport
from harmowam_core.status import Outcome, Reason, Status
from harmowam_gate.decision import Condition, Decision, decide, why_not_reset
from harmowam_gate.gate_state import GateState
from harmowam_gate.gripper import Grippers
from harmowam_gate.limits import Verdict
from harmowam_gate.mover import Mover
from harmowam_gate.path_follower import PathFollower, PathRefused
from harmowam_gate.pose_path import PosePath
from harmowam_gate.report import report
from harmowam_gate.selection import Choice, Selection
from harmowam_gate.settings import ArbiterSettings
from harmowam_gate.task_progress import TaskProgress
from harmowam_gate.watch import Watch

__all__ = ["Arbiter", "ArbiterOutput", "ArbiterSettings", "ResetRefused", "TaskRefused"]

Float64 = NDArray[np.float64]
LATE_S = 0.005
"""A plan can still be sent by a tick that comes so late."""
RESYNC_RAD = 0.02  # further than this from its last set-point, a resting arm was moved by someone else


class TaskRefused(ValueError):
    """A task cannot be started; the message says why."""


class ResetRefused(ValueError):
    """A latched arm stays latched; the message says why."""


@dataclass(frozen=True)
class ArbiterOutput:
    """What to publish on this tick. A trajectory is None while the arm should go on with what it has.

    outcome, why: set on the tick that ends a task or a path.
    """

    arm_trajectory: JointTrajectory | None
    gripper_trajectory: JointTrajectory | None
    state: GateReport
    outcome: Outcome | None = None
    why: str = ""


class Arbiter:
    """One cell's arbiter; starts without a task. ``tick_period_s``: at which ticks are due, None where they cannot be late."""

    def __init__(
        self, cell: Cell, kinematics: Kinematics, settings: ArbiterSettings | None = None, tick_period_s: float | None = None
    ) -> None:
        self.settings = settings or ArbiterSettings()
        # Where ticks have a deadline, one that plans leaves the sending to the next.
        self._sends_ns = 0 if tick_period_s is None else round((tick_period_s + LATE_S) * 1e9)
        self._cell = cell
        self._joints = len(cell.arm_joint_names)
        self._selection = Selection(cell, self.settings)
        self._mover = Mover(cell, kinematics, self.settings)
        self.follower = PathFollower(cell, self._mover)
        self._grippers = Grippers(cell, self.settings)
        self.watch = Watch(cell, kinematics, self.settings, tick_period_s)
        self._gate = self._new_gate()
        self._progress = TaskProgress(self.settings.done_transit_s)
        self._score, self._score_ns = math.nan, 0
        self._latched: Decision | None = None
        self._last: tuple[Decision, Choice | None] = (decide(False, None, ()), None)
        self._refusal = Verdict()
        self._task_id, self._instruction = 0, ""
        self._started_ns, self._deadline_ns = 0, 0
        self._task_count = 0
        self._trajectories = 0

    # ---- what comes in -------------------------------------------------------------------------------------------------

    @property
    def task_id(self) -> int:
        """The running task's id; 0 without one."""
        return self._task_id

    def start_task(self, instruction: str, now_ns: int, time_limit_s: float | None = None) -> int:
        """Follow the experts from now on, until the task is done or out of time; returns its id. TaskRefused says why not."""
        limit_s = self.settings.time_limit_s if time_limit_s is None else time_limit_s
        if self._latched is not None:
            raise TaskRefused(f"the arm is held ({self._latched.text}); call /harmowam/reset first")
        if self._task_id:
            raise TaskRefused(f"task {self._task_id} ('{self._instruction}') is still running; cancel it first")
        if self.follower.running:
            raise TaskRefused("the arms follow a path; wait for its end or cancel it first")
        if not instruction.strip():
            raise TaskRefused("the instruction is empty; say what to do")
        if not 0 < limit_s < math.inf:
            raise TaskRefused(f"time_limit_s is {limit_s}, expected a number > 0")
        self._task_count += 1
        self._task_id, self._instruction = self._task_count, instruction
        self._started_ns, self._deadline_ns = now_ns, now_ns + round(limit_s * 1e9)
        self._gate, self._score, self._score_ns = self._new_gate(), math.nan, 0
        self._progress = TaskProgress(self.settings.done_transit_s)
        self._refusal = Verdict()
        self._selection.clear(now_ns)
        self.watch.new_task()
        self._grippers.forget(now_ns)
        return self._task_id

    def stop_task(self) -> None:
        """End the task: the arm brakes to rest."""
        self._task_id, self._instruction = 0, ""

    def start_path(self, waypoints: Float64, speed_scale: float, now_ns: int) -> float:
        """Lead the arms through way-points (P, A*J); returns how long it will take, s. PathRefused says why not."""
        if self._latched is not None:
            raise PathRefused(f"the arm is held ({self._latched.text}); call /harmowam/reset first")
        if self._task_id or self.follower.running:
            raise PathRefused(f"{'a task' if self._task_id else 'another path'} is still running; cancel it first")
        self._refusal = Verdict()
        return self.follower.start(waypoints, speed_scale, now_ns)

    def settles(self, now_ns: int) -> bool:
        """Whether nothing drives or holds the arm and it still ends a motion, or has not been seen at rest yet: a matter of a second."""
        driven = self._task_id or self.follower.running or self._latched is not None
        at_rest = self._mover.set_point(now_ns) is not None and not self._mover.moves(now_ns)
        return not driven and not at_rest

    def stop_path(self) -> None:
        """End the path: the arm brakes to rest."""
        self.follower.stop()

    @property
    def latched(self) -> str:
        """What holds the arm until ``reset``, "" if nothing does."""
        return "" if self._latched is None else self._latched.text

    def hold(self, why: str) -> None:
        """Brake to rest and stay there until ``reset``; a running task or path ends with the next tick."""
        self._latched = self._latched or Decision(Status.LATCHED, Reason.OPERATOR, f"held: {why}")

    def keep_latch(self, before: Arbiter) -> None:
        """Stay held by what held the arbiter before this one."""
        self._latched = before._latched

    def reset(self, now_ns: int) -> None:
        """Leave the hold: the set-point is where the resting arm is measured to be. ResetRefused says why not yet."""
        if self._latched is None:
            return
        if self._mover.moves(now_ns):
            raise ResetRefused("the arm still brakes")
        if why_not := why_not_reset(self.watch.before_reset(now_ns)):
            raise ResetRefused(why_not)
        assert self.watch.joint_state is not None  # or its age would be infinite
        self._latched, self._refusal = None, Verdict()
        self.watch.forget_faults()
        self._mover.begin_at(self.watch.joint_state.positions[: self._joints], now_ns)

    def on_joint_state(self, state: JointState) -> None:
        """Measured joints of all arms and fingers; StageError for missing joints."""
        self.watch.on_joint_state(state)

    def loses_arm(self, now_ns: int) -> bool:
        """Whether a moving arm's joint states are too old, and no tick has said so yet."""
        old = not self.watch.joint_state_age_s(now_ns) <= self.settings.joint_state_max_age_s
        return old and self._latched is None and self._mover.engaged(now_ns)

    def on_bad_joint_state(self, error: StageError) -> None:
        """Joint states came that cannot be used."""
        self.watch.on_bad_joint_state(self._note(_refusal(error)))

    def on_gate_score(self, score: float, stamp_ns: int) -> None:
        """The gate's score of the observation at ``stamp_ns``; one that isn't in [0, 1] or comes late is refused."""
        if stamp_ns <= self._score_ns or stamp_ns < self._started_ns:
            return
        try:
            self._gate.update(score, stamp_ns)
        except ValueError as error:
            verdict = Verdict.refused(Reason.NOT_FINITE, score, 1.0, str(error))
        else:
            self._score, self._score_ns, verdict = score, stamp_ns, Verdict()
        self.watch.judged("gate's scores", self._note(verdict))

    def on_chunk(self, chunk: ActionChunk, now_ns: int) -> Verdict:
        """An expert's chunk; the verdict says whether it was taken."""
        verdict = self._selection.accept(chunk, now_ns)
        self.watch.judged(f"{chunk.source.value} chunks", verdict)
        return self._note(verdict)

    def on_bad_chunk(self, expert: Expert, error: StageError) -> None:
        """An expert's chunk that cannot be decoded."""
        verdict = _refusal(error)
        self.watch.judged(f"{expert.value} chunks", verdict)
        self._note(verdict)

    def on_expert_lost(self, expert: Expert, why: str) -> None:
        """An expert's process stopped, or its model failed: what it said last is not followed any more."""
        self._selection.lose(expert, why)
        self._mover.abandon(expert)

    def on_expert_back(self, expert: Expert) -> None:
        """An expert's process answers again: its last chunk counts, if it is young enough."""
        self._selection.regain(expert)

    def on_drift(self, drift: Drift) -> None:
        """How far the world is from what was imagined."""
        self.watch.on_drift(drift)

    # ---- what goes out -------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> ArbiterOutput:
        """Decide, move, report; call it at a steady rate, faster than the look-ahead. Never raises: what is raised latches the arm."""
        try:
            return self._tick(now_ns)
        except Exception as error:  # whatever went wrong, the arm has to come to rest
            return self.fail(now_ns, error)

    def checked(self, output: ArbiterOutput, started_ns: int, now_ns: int) -> ArbiterOutput:
        """What to publish of a tick that took until now: a trajectory that leaves the last one at a moment that is past would be a jump."""
        sends = output.arm_trajectory is not None or output.gripper_trajectory is not None
        if not sends or now_ns < self._mover.next_ns(started_ns):
            return output
        self.not_sent(started_ns)
        took_s, lead_s = (now_ns - started_ns) * 1e-9, self.settings.lead_s
        state = output.state
        if state.status is not Status.LATCHED:
            text = f"holding: this tick took {took_s:.3f} s, limit {lead_s:.3f} s; what was sent before ends at rest"
            state = replace(state, status=Status.HOLDING, reason=Reason.DEADLINE_MISSED, text=text, measured=took_s, limit=lead_s)
        return replace(output, arm_trajectory=None, gripper_trajectory=None, state=state)

    def not_sent(self, now_ns: int) -> None:
        """The trajectories of this tick, if there were any, did not leave."""
        self._mover.recall(now_ns)
        self._grippers.recall(now_ns)

    def fail(self, now_ns: int, error: Exception) -> ArbiterOutput:
        """Something is wrong with the arbiter itself, and nothing of this tick was sent: the arm brakes and stays."""
        self.not_sent(now_ns)
        why = f"held: internal error in {_described(error)}"
        self._latched = Decision(Status.LATCHED, Reason.INTERNAL_ERROR, why)
        outcome = Outcome.FAULT if self._task_id or self.follower.running else None
        state = GateReport(now_ns, Status.LATCHED, why, self._task_id, self._instruction, reason=Reason.INTERNAL_ERROR)
        self.stop_task()
        self.stop_path()
        try:
            arm = self._mover.stop(now_ns)
        except Exception as another:  # what was sent last ends at rest by itself
            arm, why = None, f"{why}; and while braking in {_described(another)}"
            self._latched, state = replace(self._latched, text=why), replace(state, text=why)
        return ArbiterOutput(arm, None, state, outcome, why)

    def _tick(self, now_ns: int) -> ArbiterOutput:
        if self.watch.tick(now_ns):
            self._selection.clear(now_ns)  # what waited while nothing ticked is of another time
        self._synchronise()
        if self.follower.running:
            return self._follow(now_ns)
        outcome, why = self._ended(now_ns)
        if outcome is not None:
            self.stop_task()
        drifts = self.watch.drifts(now_ns)
        send_ns = now_ns + self._sends_ns  # what is too old to be sent by then is not followed now
        choice = self._selection.choose(self._gate.phase, send_ns, self.settings.drift_execute_s if drifts else math.inf)
        decision = decide(self._task_id != 0, self._latched, self._conditions(now_ns, send_ns, choice))
        if decision.status is Status.LATCHED and self._latched is None:
            self._latched = decision
            if self._task_id:
                outcome, why = Outcome.FAULT, decision.text
                self.stop_task()
        arm = gripper = None
        if decision.status in (Status.EXECUTING, Status.SLOWED) and choice is not None:
            pace = self.settings.slowed_pace if decision.reason is Reason.DEADLINE_MISSED else 1.0
            verdict = self._mover.take(choice.path, (choice.chunks, pace, drifts), choice.expert, choice.observed_ns, now_ns, pace, send_ns)
            if verdict is not None:
                self._note(verdict)
            moved = Verdict()
            if verdict is None or not self._sends_ns or not self._mover.follows(send_ns):
                arm, moved = self._mover.advance(now_ns, self.watch.off_rad(self._mover.set_point))
            decision = self._moved(decision, moved)
            if moved.ok:
                gripper = self._grip(now_ns)
        else:
            arm = self._mover.stop(now_ns)
        self._trajectories += arm is not None
        return ArbiterOutput(arm, gripper, self._report(now_ns, decision, choice), outcome, why)

    def _follow(self, now_ns: int) -> ArbiterOutput:
        """A tick while a path is followed; whatever would latch the arm ends it."""
        decision = decide(True, self._latched, self.watch.latching(now_ns, self._mover.set_point))
        if decision.status is Status.EXECUTING:
            decision = replace(decision, text="following a path")
            done = self.follower.advance(now_ns, self.watch.joint_state, self.watch.off_rad(self._mover.set_point))
            arm, outcome, why = done.trajectory, done.outcome, done.why
        else:
            self.follower.stop()
            arm, why = self._mover.stop(now_ns), decision.text
            outcome = Outcome.CANCELLED if decision.reason is Reason.OPERATOR else Outcome.FAULT
            self._latched = decision if decision.status is Status.LATCHED else None
        self._trajectories += arm is not None
        return ArbiterOutput(arm, None, self._report(now_ns, decision, None), outcome, why)

    def state(self, now_ns: int) -> GateReport:
        """What the last tick decided, and what was refused since."""
        return self._report(now_ns, *self._last)

    def paths(self, now_ns: int) -> dict[Expert, PosePath]:
        """What is left of each expert's path, for display."""
        return self._selection.paths(now_ns)

    # ---- inside --------------------------------------------------------------------------------------------------------

    def _new_gate(self) -> GateState:
        return GateState(self.settings.gate_threshold, self.settings.gate_hysteresis, self.settings.gate_dwell_s)

    def _note(self, verdict: Verdict) -> Verdict:
        if not verdict.ok and verdict.reason is not Reason.NO_TASK:
            self._refusal = verdict
        return verdict

    def _synchronise(self) -> None:
        """Take the measured joints for the set-point where none was sent, or where an arm without a task isn't at it any more."""
        state = self.watch.joint_state
        if state is None or not self.watch.resting or self._latched is not None:
            return
        measured = state.positions[: self._joints]
        set_point = self._mover.set_point(state.stamp_ns)
        resting = set_point is not None and set_point.at_rest
        idle = resting and not self._task_id and not self.follower.running
        moved = set_point is not None and not np.abs(set_point.positions - measured).max() <= RESYNC_RAD
        if set_point is None or (idle and (moved or self.watch.take_restart())):
            self._mover.begin_at(measured, state.stamp_ns)

    def _ended(self, now_ns: int) -> tuple[Outcome | None, str]:
        if not self._task_id:
            return None, ""
        if self._latched is not None:
            return Outcome.FAULT if self._latched.reason is not Reason.OPERATOR else Outcome.CANCELLED, self._latched.text
        state = self.watch.joint_state
        if state is not None and self._progress.update(now_ns, self._grippers.commanded, self._openings(state), self._gate.phase):
            return Outcome.SUCCEEDED, "something was held and released, and the hand has left"
        if now_ns >= self._deadline_ns:
            return (
                Outcome.TIME_LIMIT,
                f"out of time after {(now_ns - self._started_ns) * 1e-9:.1f} s, in sub-stage '{self._progress.sub_stage}'",
            )
        return None, ""

    def _openings(self, state: JointState) -> Float64:
        return np.clip(state.positions[self._joints :] / self._cell.finger_travel, 0.0, 1.0)

    def _conditions(self, now_ns: int, send_ns: int, choice: Choice | None) -> tuple[Condition, ...]:
        """In the order of what explains more: the arm, the cameras, then what is made of them."""
        busy = self._task_id != 0
        engaged = self._mover.engaged(now_ns)
        conditions = self.watch.latching(now_ns, self._mover.set_point) if engaged else self.watch.latching_at_rest()
        if not busy:
            return conditions
        if not engaged:
            conditions += self.watch.before_motion(now_ns)
        if self._mover.unsaid:  # a wrong measurement must not be where motion begins
            what, off_rad = "distance of the resting arm from where it was seen to rest", self.watch.off_rad(self._mover.set_point)
            conditions += (Condition(Reason.TRACKING_ERROR, what, off_rad, RESYNC_RAD),)
        conditions += self.watch.holding(now_ns)
        if self.settings.selector in ("gate", "keyframe_average"):
            age_s = (now_ns - self._score_ns) * 1e-9 if self._score_ns else math.inf
            conditions += (Condition(Reason.OBSERVATION_STALE, "gate score", age_s, self.settings.gate_max_age_s),)
        return conditions + self._selection.conditions(self._gate.phase, send_ns, choice)

    def _moved(self, decision: Decision, verdict: Verdict) -> Decision:
        """What the mover made of it."""
        if not verdict.ok:
            self._note(verdict)
            return Decision(Status.HOLDING, verdict.reason, f"holding: {verdict.text}", verdict.measured, verdict.limit)
        if self._mover.slow_down > 1 and decision.status is Status.EXECUTING:
            return replace(decision, status=Status.SLOWED, text=f"executing {self._mover.slow_down:.2f} times slower")
        return decision

    def _grip(self, now_ns: int) -> JointTrajectory | None:
        """What the path that the arms follow wants of the grippers, not a chunk that was refused."""
        path = self._mover.path
        assert path is not None and self.watch.joint_state is not None  # conditions of executing
        latched = self.settings.latch_gripper and self.settings.selector in ("gate", "keyframe_average")
        if not (latched and self._mover.expert is Expert.REACTIVE):
            self._grippers.want(path.opening(now_ns))
        motion = self._grippers.advance(now_ns, self._openings(self.watch.joint_state))
        return None if motion is None else motion.trajectory(self._cell.finger_joint_names)

    def _report(self, now_ns: int, decision: Decision, choice: Choice | None) -> GateReport:
        self._last = decision, choice
        chunks = {expert: chunk for expert in Expert if (chunk := self._selection.newest(expert)) is not None}
        return report(
            now_ns,
            decision,
            refusal=self._refusal,
            degraded=choice.degraded if choice is not None and self._task_id else "",
            expert=None if choice is None else self._mover.expert,
            chunks=chunks,
            score=self._score,
            score_ns=self._score_ns,
            phase=self._gate.phase,
            task_id=self._task_id,
            instruction=self._instruction,
            sub_stage=self._progress.sub_stage if self._task_id else "",
            trajectories=self._trajectories,
        )


def _described(error: Exception) -> str:
    """Where it was raised, and what it says."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(where.filename).name}:{where.lineno}: {type(error).__name__}: {error}"


def _refusal(error: StageError) -> Verdict:
    reason = Reason.NOT_FINITE if isinstance(error, NotFiniteError) else Reason.MALFORMED
    return Verdict.refused(reason, math.nan, math.nan, str(error))
