"""What the arbiter watches besides the experts: the arm, its driver, who else commands it, the cameras, drift, its own deadlines.

Plain Python; times ns of one steady clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import Drift, JointState, StageError
from harmowam_core.status import Reason, Status
from harmowam_gate.deadlines import Deadlines
from harmowam_gate.decision import Condition
from harmowam_gate.image_watch import ImageWatch
from harmowam_gate.joint_spline import JointMotion
from harmowam_gate.limits import Verdict
from harmowam_gate.settings import ArbiterSettings

RESTING_RAD_S = 0.05
BLOCKED_RAD_S, BLOCKED_SHARE = 0.2, 0.2
"""A joint is blocked whose set-point is faster than this, where it has less than this share of that speed."""
JUMP_RAD = 0.05  # beyond what the joint's velocity limit allows between two joint states
NOT_FINITE_IN_A_ROW = 3
FINGER_SLACK_M = 0.005  # beyond its travel, a finger is not measured but made up


class Watch:
    """Collects what was seen, and says which conditions hold. ``tick_period_s`` None: whoever calls is never late (lock-step)."""

    def __init__(self, cell: Cell, kinematics: Kinematics, settings: ArbiterSettings, tick_period_s: float | None) -> None:
        self._cell, self._kinematics, self._settings = cell, kinematics, settings
        self._joints = len(cell.arm_joint_names)
        self._velocity = np.tile(cell.limits.velocity, len(cell.arms))
        self.images = ImageWatch(cell)
        self.deadlines = None if tick_period_s is None else Deadlines(tick_period_s)
        self.joint_state: JointState | None = None
        self._resumed_ns = 0
        self._bad_joints: Verdict | None = None
        self._not_finite_joints: Verdict | None = None
        """Until a tick has seen it and a good one has come."""
        self._spoilt: Verdict | None = None
        """The same, as this tick sees it."""
        self._restarts = 0
        self._publishers = 1
        self._not_finite: dict[str, int] = {}
        self._drift: Drift | None = None

    # ---- what comes in -------------------------------------------------------------------------------------------------

    def on_joint_state(self, state: JointState) -> None:
        """Measured joints of all arms and fingers, in any order; StageError for missing joints, and for fingers that are nowhere."""
        names = self._cell.arm_joint_names + self._cell.finger_joint_names
        if state.names != names:
            missing = [name for name in names if name not in state.names]
            if missing:
                raise StageError(f"joint state lacks {missing}; it has {list(state.names)}")
            order = [state.names.index(name) for name in names]
            state = JointState(state.stamp_ns, names, state.positions[order], state.velocities[order])
        fingers = state.positions[self._joints :]
        if not ((fingers >= -FINGER_SLACK_M) & (fingers <= self._cell.finger_travel + FINGER_SLACK_M)).all():
            raise StageError(f"fingers are at {fingers.round(4).tolist()} m, expected 0 to {self._cell.finger_travel} m")
        last = self.joint_state
        if last is not None and state.stamp_ns <= last.stamp_ns:
            return
        if last is not None and last.stamp_ns >= self._resumed_ns:
            way = np.abs(state.positions - last.positions)[: self._joints]
            if not (way <= self._velocity * (state.stamp_ns - last.stamp_ns) * 1e-9 + JUMP_RAD).all():
                self._restarts += 1
        self.joint_state, self._bad_joints = state, None

    def on_bad_joint_state(self, verdict: Verdict) -> None:
        """Joint states came that cannot be used; what is not finite is kept for the next tick, whatever comes before it."""
        self._bad_joints = verdict
        if verdict.reason is Reason.NOT_FINITE:
            self._not_finite_joints = verdict

    def on_driver_restarted(self) -> None:
        """Whoever publishes the joint states is somebody else now."""
        self._restarts += 1

    def on_publishers(self, count: int) -> None:
        """How many publishers the command topics have, the arbiter itself among them."""
        self._publishers = count

    def on_drift(self, drift: Drift) -> None:
        """How far the world is from what was imagined."""
        self._drift = drift

    def judged(self, source: str, verdict: Verdict) -> None:
        """What was made of an input: numbers that aren't finite, again and again, are no accident."""
        self._not_finite[source] = self._not_finite.get(source, 0) + 1 if verdict.reason is Reason.NOT_FINITE else 0

    def tick(self, now_ns: int) -> bool:
        """Note a tick; True after a stall: what was waiting is old, and ages count from now."""
        self._spoilt = self._not_finite_joints
        if self._bad_joints is None:
            self._not_finite_joints = None
        if self.joint_state is not None:  # with a task or without: a picture belongs to where the tools are, not to where they were
            measured = self.joint_state
            tools = self._kinematics.forward(measured.positions[: self._joints])[0]
            self.images.on_tools(measured.stamp_ns, tools, self._settings.frozen_image_m)
        if self.deadlines is None or not self.deadlines.tick(now_ns) > self._settings.stall_s:
            return False
        self._resumed_ns = now_ns
        return True

    def new_task(self) -> None:
        """Drift is of the last task's imaginations."""
        self._drift = None

    def forget_faults(self) -> None:
        """After a reset."""
        self._restarts = 0
        self._not_finite.clear()

    # ---- what follows ----------------------------------------------------------------------------------------------------

    def take_restart(self) -> bool:
        """Whether the driver was restarted since this was asked last."""
        restarted, self._restarts = self._restarts > 0, 0
        return restarted

    @property
    def resting(self) -> bool:
        """The joints are measured to be still."""
        state = self.joint_state
        return state is not None and bool((np.abs(state.velocities[: self._joints]) <= RESTING_RAD_S).all())

    def joint_state_age_s(self, now_ns: int) -> float:
        """Of the last good one when this tick was due; while this process stood still, nothing aged."""
        if self.joint_state is None:
            return math.inf
        late_s = 0.0 if self.deadlines is None else self.deadlines.late_s
        return (now_ns - max(self.joint_state.stamp_ns, self._resumed_ns)) * 1e-9 - late_s

    def drifts(self, now_ns: int) -> bool:
        """Whether the world has left what was imagined; no news for a while mean no."""
        drift, settings = self._drift, self._settings
        fresh = drift is not None and now_ns - drift.stamp_ns <= settings.drift_max_age_s * 1e9
        return drift is not None and fresh and not drift.score <= settings.drift_high

    def latching_at_rest(self) -> tuple[Condition, ...]:
        """What latches the arm even when it rests."""
        conditions = [Condition(Reason.SECOND_PUBLISHER, "publishers on the command topics", self._publishers, 1, Status.LATCHED)]
        for source, count in self._not_finite.items():
            what = f"refusals in a row of the {source} as not finite"
            conditions.append(Condition(Reason.NOT_FINITE, what, count, NOT_FINITE_IN_A_ROW - 1, Status.LATCHED))
        return tuple(conditions)

    def latching(self, now_ns: int, set_point: Callable[[int], JointMotion | None]) -> tuple[Condition, ...]:
        """What latches an arm that moves; one at rest may be switched off and on."""
        settings, latch = self._settings, Status.LATCHED
        what = f"joint states: {self._spoilt.text}; they" if self._spoilt is not None else "joint states"
        return (
            *self.latching_at_rest(),
            Condition(Reason.NOT_FINITE, what, math.nan if self._spoilt is not None else 0.0, 0.0, latch),
            Condition(Reason.JOINT_STATES_LOST, "joint states", self.joint_state_age_s(now_ns), settings.joint_state_max_age_s, latch),
            Condition(Reason.DRIVER_RESTARTED, "restarts of the arm driver", self._restarts, 0, latch),
            Condition(Reason.TRACKING_ERROR, "distance from the set-point", self.off_rad(set_point), settings.tracking_rad, latch),
            Condition(Reason.TRACKING_ERROR, "way that a blocked joint is behind", self.behind_rad(set_point), settings.blocked_rad, latch),
        )

    def before_motion(self, now_ns: int) -> tuple[Condition, ...]:
        """What a resting arm waits for."""
        age_s = self.joint_state_age_s(now_ns)
        return (Condition(Reason.JOINT_STATES_LOST, "joint states", age_s, self._settings.joint_state_max_age_s),)

    def holding(self, now_ns: int) -> tuple[Condition, ...]:
        """What holds or slows the arm until it is over."""
        settings = self._settings
        missed = 0 if self.deadlines is None else self.deadlines.recently_missed
        conditions = [
            Condition(Reason.DEADLINE_MISSED, "ticks missed lately", missed, settings.deadline_hold_misses),
            Condition(Reason.DEADLINE_MISSED, "ticks missed lately", missed, settings.deadline_slow_misses, Status.SLOWED),
        ]
        for camera, frozen_s in self.images.frozen_s().items():
            what = f"pictures of camera '{camera}' unchanged while the arm moves, s"
            conditions.append(Condition(Reason.IMAGE_FROZEN, what, frozen_s, settings.frozen_image_s))
        for camera, age_s in self.images.ages_s(now_ns).items():
            conditions.append(Condition(Reason.OBSERVATION_STALE, f"picture of camera '{camera}'", age_s, settings.image_max_age_s))
        if self._drift is not None and self.drifts(now_ns):
            conditions.append(
                Condition(Reason.DRIFT, "drift from what was imagined", self._drift.score, settings.drift_high, Status.SLOWED)
            )
        return tuple(conditions)

    def before_reset(self, now_ns: int) -> tuple[Condition, ...]:
        """What has to be in order before a latched arm may move again."""
        settings = self._settings
        speed = math.inf if self.joint_state is None else float(np.abs(self.joint_state.velocities[: self._joints]).max())
        return (
            Condition(Reason.JOINT_STATES_LOST, "joint states", self.joint_state_age_s(now_ns), settings.joint_state_max_age_s),
            Condition(Reason.JOINT_STATES_LOST, "bad joint states", float(self._bad_joints is not None), 0),
            Condition(Reason.TRACKING_ERROR, "speed of a joint", speed, RESTING_RAD_S),
            Condition(Reason.SECOND_PUBLISHER, "publishers on the command topics", self._publishers, 1),
        )

    def off_rad(self, set_point: Callable[[int], JointMotion | None]) -> float:
        """How far a joint is from its set-point of the moment it was measured."""
        state = self.joint_state
        wanted = None if state is None else set_point(state.stamp_ns)
        if state is None or wanted is None:
            return math.inf
        return float(np.abs(wanted.positions - state.positions[: self._joints]).max())

    def behind_rad(self, set_point: Callable[[int], JointMotion | None]) -> float:
        """How far a joint that does not move is behind its set-point, which does; 0 where all move along."""
        state = self.joint_state
        wanted = None if state is None else set_point(state.stamp_ns)
        if state is None or wanted is None:
            return 0.0
        behind = (wanted.positions - state.positions[: self._joints]) * np.sign(wanted.velocities)
        speed = np.abs(wanted.velocities)
        blocked = (speed >= BLOCKED_RAD_S) & (np.abs(state.velocities[: self._joints]) <= BLOCKED_SHARE * speed)
        return float(behind[blocked].max(initial=0.0))
