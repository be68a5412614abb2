"""Moves the arms: from the chosen tool path to the trajectory of each tick, continuous with what was published before."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import Expert, JointTrajectory
from harmowam_core.status import Reason
from harmowam_gate.body import Body
from harmowam_gate.brake import Brake
from harmowam_gate.joint_path import joint_path
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline, on_grid
from harmowam_gate.limits import Context, Motion, Source, Verdict, stack
from harmowam_gate.planner import Pace, follow, join
from harmowam_gate.pose_path import PosePath
from harmowam_gate.settings import ArbiterSettings

Float64 = NDArray[np.float64]
SLOW_DOWN_MARGIN = 1.05
PLAN_ATTEMPTS = 6
KEPT_NS = 500_000_000


@dataclass
class _Plan:
    """Where to go on: the tool path it was made of (None: planned in joint space) and when that was observed, how much slower than asked
    for, until when what was sent (last, and before) follows it.
    """

    spline: JointSpline
    path: PosePath | None
    key: object
    expert: Expert | None
    observed_ns: int | None
    slow_down: float
    followed_until_ns: int
    followed_before_ns: int = 0
    published_ns: int | None = None
    abandoned: bool = False


class Mover:
    """Knows what was published last (``sent``) and where it should go on (``plan``).

    A trajectory repeats what was sent until ``lead_s`` from now, follows the plan until ``lookahead_s``, then brakes to rest.
    """

    def __init__(self, cell: Cell, kinematics: Kinematics, settings: ArbiterSettings) -> None:
        self._names = cell.arm_joint_names
        self._kinematics = kinematics
        self._settings = settings
        self._brake = Brake(cell)
        home = kinematics.forward(kinematics.home())
        self._home_positions, self._home_orientations = home
        self.body = Body(cell, kinematics)
        context = Context(cell, self.body, settings)
        self._plan_filter, self._filter = stack(context)
        # A path in joint space has no tool to lead through a singularity.
        self._path_filter, self._joint_filter = stack(context, without=("singularity",))
        self._sent: JointSpline | None = None
        self._made_ns: int | None = None
        self._before: deque[JointSpline] = deque()  # what was sent before, as long as measurements of that time may come
        self._plan: _Plan | None = None
        self._refused: tuple[object, Verdict] | None = None
        self._stopping = False
        self._in_joint_space = False  # what was planned last, and so the braking from it

    def forget(self) -> None:
        """Know nothing of the arm: ``begin_at`` comes next."""
        self._sent = self._made_ns = self._plan = self._refused = None
        self._before.clear()

    def begin_at(self, positions: Float64, now_ns: int) -> None:
        """The arm rests at these joints (N,)."""
        self.forget()
        self._sent = JointSpline.through([now_ns], [JointMotion.resting(positions)])

    @property
    def unsaid(self) -> bool:
        """Whether the set-point is where the arm was measured to rest, and nothing was published since."""
        return self._sent is not None and len(self._sent.times_ns) == 1

    def set_point(self, time_ns: int) -> JointMotion | None:
        """Where the published trajectories have the arm, or had it at a time up to half a second ago; None before ``begin_at``."""
        if self._sent is None:
            return None
        in_force = [spline for spline in self._before if spline.start_ns <= time_ns < self._sent.start_ns]
        return (in_force[-1] if in_force else self._sent).motion(time_ns)

    def moves(self, now_ns: int) -> bool:
        """Whether the published trajectory is not over yet."""
        return self._sent is not None and now_ns < self._sent.end_ns

    def next_ns(self, now_ns: int) -> int:
        """The first moment that can still be changed."""
        return on_grid(now_ns + round(self._settings.lead_s * 1e9))

    def judge(self, spline: JointSpline) -> Verdict:
        """What the limits say to a whole motion in joint space."""
        return self._path_filter.check(Motion(self._names, spline, self.body))

    def go(self, spline: JointSpline) -> None:
        """Follow a motion that was judged and begins at rest where the arm is; ``advance`` sends it."""
        self._plan, self._refused, self._stopping = _Plan(spline, None, spline, None, None, 1.0, spline.start_ns), None, False
        self._in_joint_space = True

    def engaged(self, now_ns: int) -> bool:
        """Whether the arm follows a plan or still moves."""
        return self._plan is not None or self.moves(now_ns)

    @property
    def unsent(self) -> bool:
        """Whether nothing of the plan was sent, or what was sent of it last was recalled."""
        return self._plan is not None and self._plan.published_ns is None

    @property
    def slow_down(self) -> float:
        """How much slower than asked for the arms move."""
        return 1.0 if self._plan is None else self._plan.slow_down

    @property
    def expert(self) -> Expert | None:
        """Whose path is followed; None for the mean of both, or none."""
        return None if self._plan is None else self._plan.expert

    @property
    def path(self) -> PosePath | None:
        """The tool path that is followed."""
        return None if self._plan is None else self._plan.path

    def abandon(self, expert: Expert) -> None:
        """Go on along nothing that derives from this expert."""
        if self._plan is not None and self._plan.observed_ns is not None and self._plan.expert in (expert, None):
            self._plan.abandoned = True

    def follows(self, now_ns: int) -> bool:
        """Whether what is sent at this time can go on along the plan."""
        plan = self._plan
        return plan is not None and not plan.abandoned and self.next_ns(now_ns) <= plan.followed_until_ns

    def take(
        self,
        path: PosePath,
        key: object,
        expert: Expert | None,
        observed_ns: int,
        now_ns: int,
        pace: float = 1.0,
        send_ns: int | None = None,
    ) -> Verdict | None:
        """Plan along ``path``, at ``pace`` (<= 1) of its speed, unless the plan is already made of it (same ``key``) or of the same
        expert's path before and waits to be sent; None when there was nothing to do. ``observed_ns``: when the oldest observation behind
        it was made; ``send_ns``: until when it can be sent, default now.
        """
        assert self._sent is not None, "begin_at comes first"
        if self._refused is not None and key == self._refused[0]:
            return None
        plan = self._plan
        if plan is not None and self.follows(now_ns) and (key == plan.key or (self.unsent and expert is plan.expert)):
            return None
        start_ns = self.next_ns(now_ns if send_ns is None else send_ns)
        start = self._sent.motion(start_ns)
        handed_over = plan is not None and expert is not plan.expert
        blend_s = self._settings.hand_over_s if handed_over else self._settings.blend_s
        planned = self._plan_along(self._parked(path.since(start_ns), start), start, start_ns, blend_s, 1 / pace)
        if isinstance(planned, Verdict):
            self._refused = (key, planned)
            return planned
        spline, slow_down = planned
        self._plan, self._refused, self._stopping = _Plan(spline, path, key, expert, observed_ns, slow_down, start_ns), None, False
        self._in_joint_space = False
        return Verdict()

    def advance(self, now_ns: int, off_rad: float) -> tuple[JointTrajectory | None, Verdict]:
        """The trajectory to publish now, the arm being ``off_rad`` from its set-point; where the verdict is not ok, it only stops the
        arm, or is None when nothing moves.
        """
        plan = self._plan
        start_ns = self.next_ns(now_ns) if plan is None else max(self.next_ns(now_ns), plan.spline.start_ns)
        if plan is None or not self.follows(now_ns) or not start_ns < plan.spline.end_ns:
            nothing = Verdict.refused(Reason.CHUNK_STALE, np.nan, np.nan, "the path is at its end")
            return self.stop(now_ns), nothing if self._refused is None else self._refused[1]
        if plan.published_ns is not None and now_ns - plan.published_ns < self._settings.publish_s * 1e9:
            return None, Verdict()
        brakes_ns = max(min(on_grid(now_ns + round(self._settings.lookahead_s * 1e9)), plan.spline.end_ns), start_ns)
        brake = self._brake.plan(plan.spline.motion(brakes_ns), brakes_ns)
        # A fast arm brakes longer, so it has to begin earlier.
        while brake.end_ns > now_ns + self._settings.rest_s * 1e9 and brakes_ns > start_ns:
            brakes_ns = max(brakes_ns - GRID_NS, start_ns)
            brake = self._brake.plan(plan.spline.motion(brakes_ns), brakes_ns)
        course = plan.spline.between(start_ns, brakes_ns) if brakes_ns > start_ns else None
        # A plan may outlive the chunk it was made of, where later ones are refused: its own age counts.
        age_s = 0.0 if plan.observed_ns is None else (now_ns - plan.observed_ns) * 1e-9
        published, verdict = self._publish(now_ns, start_ns, course, brake, Source(age_s, off_rad, plan.expert))
        if published is None:
            self._refused = (plan.key, verdict)
            return self.stop(now_ns), verdict
        plan.followed_before_ns, plan.followed_until_ns, plan.published_ns = plan.followed_until_ns, brakes_ns, now_ns
        return published, verdict

    def recall(self, made_ns: int) -> None:
        """What was made at this time, if anything, was not sent: the trajectory before holds."""
        if self._made_ns != made_ns:
            return
        self._sent, self._stopping, self._made_ns = self._before.pop(), False, None
        if self._plan is not None:
            self._plan.followed_until_ns, self._plan.published_ns = self._plan.followed_before_ns, None

    def stop(self, now_ns: int) -> JointTrajectory | None:
        """Brake to rest as soon as possible; None once nothing is left to brake."""
        self._plan = None
        if self._sent is None or self._stopping:
            return None
        start_ns = self.next_ns(now_ns)
        if start_ns >= self._sent.end_ns:
            self._stopping = True
            return None
        # Where even braking at once breaks a limit, nothing is sent until it does not: the last trajectory ends at rest and kept to all.
        published, _ = self._publish(now_ns, start_ns, None, self._brake.plan(self._sent.motion(start_ns), start_ns), None)
        self._stopping = published is not None
        return published

    def _publish(
        self, now_ns: int, start_ns: int, course: JointSpline | None, brake: JointSpline, source: Source | None
    ) -> tuple[JointTrajectory | None, Verdict]:
        """What was sent until ``start_ns``, then ``course``, then ``brake``; None where a limit refuses it."""
        assert self._sent is not None
        head = self._sent.between(now_ns, start_ns)
        spline = (head if course is None else head.then(course)).then(brake)
        limits = self._joint_filter if self._in_joint_space else self._filter
        verdict = limits.check(Motion(self._names, spline, self.body, self._sent, source))
        if not verdict.ok:
            return None, verdict
        self._before.append(self._sent)
        while len(self._before) > 1 and self._before[0].start_ns < now_ns - KEPT_NS:
            self._before.popleft()
        self._sent, self._made_ns = spline, now_ns
        return spline.trajectory(self._names), verdict

    def _parked(self, path: PosePath, start: JointMotion) -> PosePath:
        """Arms that wait at home and are told to stay about there do not follow the noise of their targets."""
        positions, orientations = self._kinematics.forward(start.positions)
        at_home = self._near_home(positions, orientations)
        stay = at_home & self._near_home(path.positions, path.orientations).all(axis=0)  # (A,)
        return replace(
            path,
            positions=np.where(stay[:, None], positions, path.positions),
            orientations=np.where(stay[:, None], orientations, path.orientations),
        )

    def _near_home(self, positions: Float64, orientations: Float64) -> NDArray[np.bool_]:
        """(..., A, 3), (..., A, 4) -> (..., A)."""
        away_m = np.linalg.norm(positions - self._home_positions, axis=-1)
        cosines = np.abs(np.sum(orientations * self._home_orientations, axis=-1))
        return (away_m <= self._settings.park_radius_m) & (cosines >= np.cos(self._settings.park_turn_rad / 2))

    def _plan_along(
        self, path: PosePath, start: JointMotion, start_ns: int, blend_s: float, slow_down: float
    ) -> tuple[JointSpline, float] | Verdict:
        """A motion from ``start`` along ``path`` and how much slower than the path it is, or why there is none."""
        joints = joint_path(path, self._kinematics, start.positions, self._settings.smoothing_hz)
        if isinstance(joints, Verdict):
            return joints
        lags = slow_down > 1 or (self._plan is not None and self._plan.slow_down > 1)
        attempt, slowest, ramp_s = 0, slow_down * self._settings.max_slow_down, blend_s
        while True:
            pace = join(start, start_ns, joints, slow_down, ramp_s) if lags else Pace(start_ns)
            jump_m = self._distance_m(start.positions, joints.motion(pace.begin_ns).positions)
            if not jump_m <= self._settings.jump_m:
                text = f"the chunk begins {jump_m:.3f} m from where the tool will be, limit {self._settings.jump_m:.3f} m"
                return Verdict.refused(Reason.JUMP, jump_m, self._settings.jump_m, text)
            spline = follow(start, start_ns, joints, blend_s, pace)
            if spline is None:
                return Verdict.refused(Reason.CHUNK_STALE, np.nan, np.nan, "the chunk's targets are past")
            verdict = self._plan_filter.check(Motion(self._names, spline, self.body))
            if verdict.ok:
                return spline, slow_down
            attempt += 1
            # First give the offset more time to decay, then stop hurrying after the schedule; a path that is too fast by itself is
            # stretched.
            if attempt == 1 and not lags:
                blend_s *= max(verdict.slow_down * SLOW_DOWN_MARGIN, 1.25)
            elif not lags:
                lags, blend_s = True, ramp_s
            else:
                slow_down *= verdict.slow_down * SLOW_DOWN_MARGIN
                blend_s = min(blend_s * 1.25, 2 * ramp_s)
            if not verdict.can_slow_down or attempt == PLAN_ATTEMPTS or slow_down > slowest:
                return replace(verdict, slow_down=1.0)

    def _distance_m(self, q_a: Float64, q_b: Float64) -> float:
        return float(np.linalg.norm(self._kinematics.forward(q_a)[0] - self._kinematics.forward(q_b)[0], axis=-1).max())
