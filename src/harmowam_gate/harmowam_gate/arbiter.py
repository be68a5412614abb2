"""The arbiter: chooses between the experts and turns their chunks into motions that the arms can follow.

Plain Python and no clock: every call is told the time, ns, of the clock that stamps the observations. The node and
lock-step evaluation use the same object. Not thread-safe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import ActionChunk, Expert, JointState, JointTrajectory, Phase, StageError
from harmowam_core.status import GateState as GateReport
from harmowam_core.status import Outcome, Reason, Status
from harmowam_gate.chunk_schedule import ChunkSchedule
from harmowam_gate.decision import Condition, Decision, decide
from harmowam_gate.gate_state import GateState
from harmowam_gate.gripper import Grippers
from harmowam_gate.limits import Verdict
from harmowam_gate.mover import Mover
from harmowam_gate.pose_path import PosePath, mean_path
from harmowam_gate.settings import ArbiterSettings
from harmowam_gate.task_progress import TaskProgress

__all__ = ["Arbiter", "ArbiterOutput", "ArbiterSettings", "TaskRefused"]

Float64 = NDArray[np.float64]
RESTING_RAD_S = 0.05
RESYNC_RAD = 0.02  # further than this from its last set-point, a resting arm was moved by someone else


class TaskRefused(ValueError):
    """A task cannot be started; the message says why."""


@dataclass(frozen=True)
class ArbiterOutput:
    """What to publish on this tick. A trajectory is None while the arm should go on with what it has.

    outcome, why: set on the tick that ends a task.
    """

    arm_trajectory: JointTrajectory | None
    gripper_trajectory: JointTrajectory | None
    state: GateReport
    outcome: Outcome | None = None
    why: str = ""


@dataclass(frozen=True)
class _Choice:
    """Whose path to follow (None: the mean of both), which chunks made it, and the path."""

    expert: Expert | None
    chunks: tuple[tuple[Expert, int, int], ...]
    path: PosePath


class Arbiter:
    """One cell's arbiter; starts without a task."""

    def __init__(self, cell: Cell, kinematics: Kinematics, settings: ArbiterSettings | None = None) -> None:
        self.settings = settings or ArbiterSettings()
        self._cell = cell
        self._joints = len(cell.arm_joint_names)
        self._schedule = ChunkSchedule(cell, self.settings)
        self._mover = Mover(cell, kinematics, self.settings)
        self._grippers = Grippers(cell, self.settings)
        self._gate = self._new_gate()
        self._progress = TaskProgress(self.settings.done_transit_s)
        self._score, self._score_ns = math.nan, 0
        self._state: JointState | None = None
        self._latched: Decision | None = None
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
        self._schedule.clear(now_ns)
        self._grippers.forget()
        return self._task_id

    def stop_task(self) -> None:
        """End the task: the arm brakes to rest."""
        self._task_id, self._instruction = 0, ""

    def hold(self, why: str) -> None:
        """Brake to rest and stay there until ``reset``; a running task ends with the next tick."""
        self._latched = Decision(Status.LATCHED, Reason.OPERATOR, f"held: {why}")

    def reset(self) -> None:
        """Leave the hold; the next task begins from where the arm is measured to be."""
        self._latched = None
        self._mover.forget()

    def on_joint_state(self, state: JointState) -> None:
        """Measured joints of all arms and fingers. StageError for missing joints, and the arm holds until a good one comes."""
        self._state = None
        names = self._cell.arm_joint_names + self._cell.finger_joint_names
        if state.names != names:
            missing = [name for name in names if name not in state.names]
            if missing:
                raise StageError(f"joint state lacks {missing}; it has {list(state.names)}")
            order = [state.names.index(name) for name in names]
            state = JointState(state.stamp_ns, names, state.positions[order], state.velocities[order])
        self._state = state

    def on_gate_score(self, score: float, stamp_ns: int) -> None:
        """The gate's score of the observation at ``stamp_ns``; one that isn't in [0, 1] or comes late is refused."""
        if stamp_ns <= self._score_ns or stamp_ns < self._started_ns:
            return
        try:
            self._gate.update(score, stamp_ns)
        except ValueError as error:
            self._refusal = Verdict.refused(Reason.NOT_FINITE, score, 1.0, str(error))
            return
        self._score, self._score_ns = score, stamp_ns

    def on_chunk(self, chunk: ActionChunk, now_ns: int) -> Verdict:
        """An expert's chunk; the verdict says whether it was taken."""
        return self._note(self._schedule.accept(chunk, now_ns))

    def on_bad_input(self, reason: Reason, text: str) -> None:
        """Something came that cannot be decoded; it stands in the state until something else is refused."""
        self._note(Verdict.refused(reason, math.nan, math.nan, text))

    def on_bad_joint_state(self, reason: Reason, text: str) -> None:
        """Joint states came that cannot be used: the arm holds until a good one comes."""
        self._state = None
        self.on_bad_input(reason, text)

    # ---- what goes out -------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int) -> ArbiterOutput:
        """Decide, move, report; call it at a steady rate, faster than the look-ahead."""
        self._synchronise()
        outcome, why = self._ended(now_ns)
        if outcome is not None:
            self.stop_task()
        choice = self._choose(now_ns)
        decision = decide(self._task_id != 0, self._latched, self._conditions(now_ns, choice))
        arm = gripper = None
        if decision.status is Status.EXECUTING and choice is not None:
            verdict = self._mover.take(choice.path, choice.chunks, choice.expert, now_ns)
            if verdict is not None:
                self._note(verdict)
            arm, verdict = self._mover.advance(now_ns)
            decision = self._moved(decision, verdict)
            gripper = self._grip(choice, now_ns)
        else:
            arm = self._mover.stop(now_ns)
        self._trajectories += arm is not None
        return ArbiterOutput(arm, gripper, self._report(now_ns, decision, choice), outcome, why)

    def paths(self, now_ns: int) -> dict[Expert, PosePath]:
        """What is left of each expert's path, for display."""
        paths = {expert: self._schedule.path(expert, now_ns) for expert in Expert}
        return {expert: path for expert, path in paths.items() if path is not None}

    # ---- inside --------------------------------------------------------------------------------------------------------

    def _new_gate(self) -> GateState:
        return GateState(self.settings.gate_threshold, self.settings.gate_hysteresis, self.settings.gate_dwell_s)

    def _note(self, verdict: Verdict) -> Verdict:
        if not verdict.ok:
            self._refusal = verdict
        return verdict

    def _synchronise(self) -> None:
        """Take the measured joints for the set-point where none was sent, or where an arm without a task isn't at it any more."""
        if self._state is None or not (np.abs(self._state.velocities[: self._joints]) <= RESTING_RAD_S).all():
            return
        measured = self._state.positions[: self._joints]
        set_point = self._mover.set_point(self._state.stamp_ns)
        moved = set_point is not None and set_point.at_rest and not np.abs(set_point.positions - measured).max() <= RESYNC_RAD
        if set_point is None or (moved and not self._task_id):
            self._mover.begin_at(measured, self._state.stamp_ns)

    def _ended(self, now_ns: int) -> tuple[Outcome | None, str]:
        if not self._task_id:
            return None, ""
        if self._latched is not None:
            return Outcome.FAULT if self._latched.reason is not Reason.OPERATOR else Outcome.CANCELLED, self._latched.text
        if self._state is not None and self._progress.update(
            now_ns, self._grippers.commanded, self._openings(self._state), self._gate.phase
        ):
            return Outcome.SUCCEEDED, "something was held and released, and the hand has left"
        if now_ns >= self._deadline_ns:
            return (
                Outcome.TIME_LIMIT,
                f"out of time after {(now_ns - self._started_ns) * 1e-9:.1f} s, in sub-stage '{self._progress.sub_stage}'",
            )
        return None, ""

    def _openings(self, state: JointState) -> Float64:
        return np.clip(state.positions[self._joints :] / self._cell.finger_travel, 0.0, 1.0)

    def _wanted(self) -> Expert | None:
        """Whose chunks to follow; None: the mean of both."""
        match self.settings.selector:
            case "predictive":
                return Expert.PREDICTIVE
            case "reactive":
                return Expert.REACTIVE
            case "average":
                return None
            case "keyframe_average":
                return Expert.REACTIVE if self._gate.phase is Phase.TRANSIT else None
        return Expert.REACTIVE if self._gate.phase is Phase.TRANSIT else Expert.PREDICTIVE

    def _choose(self, now_ns: int) -> _Choice | None:
        wanted = self._wanted()
        experts = tuple(Expert) if wanted is None else (wanted,)
        chunks = [self._schedule.newest(expert) for expert in experts]
        paths = [self._schedule.path(expert, now_ns) for expert in experts]
        if any(path is None for path in paths):
            return None
        path = paths[0] if wanted is not None else mean_path(*(path for path in paths if path is not None))
        ids = tuple((chunk.source, chunk.chunk_id, chunk.stamp_ns) for chunk in chunks if chunk is not None)
        return None if path is None else _Choice(wanted, ids, path)

    def _conditions(self, now_ns: int, choice: _Choice | None) -> tuple[Condition, ...]:
        settings = self.settings
        wanted = self._wanted()
        experts = tuple(Expert) if wanted is None else (wanted,)
        conditions = [
            Condition(Reason.JOINT_STATES_LOST, "joint states", self._age_s(now_ns, self._state), settings.joint_state_max_age_s),
            Condition(Reason.TRACKING_ERROR, "distance from the set-point", self._tracking_rad(), settings.tracking_rad),
        ]
        if settings.selector in ("gate", "keyframe_average"):
            age_s = (now_ns - self._score_ns) * 1e-9 if self._score_ns else math.inf
            conditions.append(Condition(Reason.OBSERVATION_STALE, "gate score", age_s, settings.gate_max_age_s))
        for expert in experts:
            age_s = self._age_s(now_ns, self._schedule.newest(expert))
            conditions.append(Condition(Reason.CHUNK_STALE, f"{expert.value} chunk", age_s, settings.chunk_max_age_s))
        conditions.append(Condition(Reason.CHUNK_STALE, "common stretch of both chunks", math.inf if choice is None else 0.0, 0.0))
        return tuple(conditions)

    @staticmethod
    def _age_s(now_ns: int, stage: JointState | ActionChunk | None) -> float:
        return math.inf if stage is None else (now_ns - stage.stamp_ns) * 1e-9

    def _tracking_rad(self) -> float:
        set_point = None if self._state is None else self._mover.set_point(self._state.stamp_ns)
        if self._state is None or set_point is None:
            return math.inf
        return float(np.abs(set_point.positions - self._state.positions[: self._joints]).max())

    def _moved(self, decision: Decision, verdict: Verdict) -> Decision:
        """What the mover made of it."""
        if not verdict.ok:
            self._note(verdict)
            return Decision(Status.HOLDING, verdict.reason, f"holding: {verdict.text}", verdict.measured, verdict.limit)
        if self._mover.slow_down > 1:
            return replace(decision, status=Status.SLOWED, text=f"executing {self._mover.slow_down:.2f} times slower")
        return decision

    def _grip(self, choice: _Choice, now_ns: int) -> JointTrajectory | None:
        latched = (
            self.settings.latch_gripper and self.settings.selector in ("gate", "keyframe_average") and choice.expert is Expert.REACTIVE
        )
        if not latched:
            self._grippers.want(choice.path.opening(now_ns))
        assert self._state is not None  # a condition of executing
        motion = self._grippers.advance(now_ns, self._openings(self._state))
        return None if motion is None else motion.trajectory(self._cell.finger_joint_names)

    def _report(self, now_ns: int, decision: Decision, choice: _Choice | None) -> GateReport:
        predictive, reactive = (self._schedule.newest(expert) for expert in (Expert.PREDICTIVE, Expert.REACTIVE))
        chunks = [chunk for chunk in (predictive, reactive) if chunk is not None]
        newest_ns = max([chunk.stamp_ns for chunk in chunks] + ([self._score_ns] if self._score_ns else []), default=0)
        imagination = max(chunks, key=lambda chunk: chunk.stamp_ns, default=None)
        executing = decision.status in (Status.EXECUTING, Status.SLOWED)
        # While all goes well, the reason is that of the last refusal; else of what holds the arm. The text tells of both:
        # what was refused is often why nothing fresh is there.
        told = self._refusal if decision.reason is Reason.NONE else decision
        refused = decision.status is not Status.IDLE and not self._refusal.ok and self._refusal.text not in decision.text
        text = f"{decision.text}; last refused: {self._refusal.text}" if refused else decision.text
        return GateReport(
            stamp_ns=newest_ns or now_ns,
            status=decision.status,
            text=text,
            task_id=self._task_id,
            instruction=self._instruction,
            score=self._score,
            phase=self._gate.phase,
            expert=choice.expert if executing and choice is not None else None,
            reason=told.reason,
            measured=told.measured,
            limit=told.limit,
            sub_stage=self._progress.sub_stage if self._task_id else "",
            observation_age_s=(now_ns - newest_ns) * 1e-9 if newest_ns else math.nan,
            imagination_age_s=_finite_age(self._age_s(now_ns, imagination)),
            predictive_chunk_age_s=_finite_age(self._age_s(now_ns, predictive)),
            reactive_chunk_age_s=_finite_age(self._age_s(now_ns, reactive)),
            imagination_id=0 if imagination is None else imagination.chunk_id,
            predictive_chunk_id=0 if predictive is None else predictive.chunk_id,
            reactive_chunk_id=0 if reactive is None else reactive.chunk_id,
            trajectory_id=self._trajectories,
        )


def _finite_age(age_s: float) -> float:
    return age_s if math.isfinite(age_s) else math.nan
