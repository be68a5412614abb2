"""What the arbiter makes of faults: status, reason, and a motion without steps (the rig checks every trajectory)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from drives import HOME, MOVING, PREDICTIVE, REACTIVE, circle, drive, still
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st

from harmowam_core.stages import ActionChunk, Drift, Expert, JointState, NotFiniteError, StageError
from harmowam_core.status import Outcome, Reason, Status
from harmowam_gate.arbiter import ArbiterSettings, ResetRefused
from harmowam_gate.limits import Verdict
from harmowam_gate.watch import Watch

MS = 1_000_000
ARMS = np.repeat([1.0, 0.0], [14, 2])  # joint states hold the arms' joints and then a finger each


@pytest.fixture
def moving(make_rig):
    """A rig whose arm follows the reactive expert along a circle."""
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 30, circle, score=0.0)
    assert rig.outputs[-1].state.expert is REACTIVE
    return rig


def last(rig):
    return rig.outputs[-1].state


@pytest.mark.parametrize("why", ["failed", "does not answer"])
def test_another_expert_stands_in_and_hands_back(moving, why):
    moving.arbiter.on_expert_lost(REACTIVE, why)
    moving.tick()
    assert last(moving).status in MOVING and last(moving).expert is PREDICTIVE
    assert "degraded" in last(moving).text and why in last(moving).text
    drive(moving, 10, circle, score=0.0, sources=(PREDICTIVE,))
    assert last(moving).expert is PREDICTIVE
    moving.arbiter.on_expert_back(REACTIVE)
    drive(moving, 10, circle, score=0.0)
    assert last(moving).expert is REACTIVE and "degraded" not in last(moving).text


def test_without_another_expert_the_arm_holds(moving):
    for expert in Expert:
        moving.arbiter.on_expert_lost(expert, "does not answer")
    output = moving.tick()
    assert (output.state.status, output.state.reason) == (Status.HOLDING, Reason.CHUNK_STALE)
    assert output.arm_trajectory is not None and output.arm_trajectory.times_s[-1] <= 0.5


def test_an_expert_asked_for_alone_is_not_replaced(make_rig):
    rig = make_rig(selector="reactive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    rig.arbiter.on_expert_lost(REACTIVE, "failed")
    assert rig.tick().state.status is Status.HOLDING


def test_before_its_first_chunk_an_expert_is_waited_for(make_rig):
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 8, circle, score=0.0, sources=(PREDICTIVE,))
    assert last(rig).status is Status.HOLDING and "no reactive chunk yet" in last(rig).text


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[HypothesisPhase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**31), apart_m=st.sampled_from([0.0, 0.02, 0.05]))
def test_experts_that_come_and_go_never_make_a_step(make_rig, seed, apart_m):
    """Experts are lost and return at any tick, also in the middle of a blend; the rig checks the seams."""
    random, rig = np.random.default_rng(seed), make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    for tick in range(70):
        if tick % 4 == 0:
            for source, side in ((PREDICTIVE, apart_m / 2), (REACTIVE, -apart_m / 2)):
                if random.random() < 0.8:
                    rig.arbiter.on_chunk(rig.chunk(source, lambda t, side=side: circle(t) + np.array([0, side, 0])), rig.now_ns)
            rig.arbiter.on_gate_score(float(random.random()), rig.now_ns)
        for expert in Expert:
            if random.random() < 0.15:
                rig.arbiter.on_expert_lost(expert, "failed")
            if random.random() < 0.3:
                rig.arbiter.on_expert_back(expert)
        rig.tick()
    # The Euclidean step of the set-point between 10 ms never exceeds what the velocity limits allow.
    assert np.abs(np.diff(np.array(rig.path), axis=0)).max() <= 0.01 * max(rig.cell.limits.velocity)


def test_numbers_that_are_not_finite_latch_at_the_third_time_in_a_row(moving):
    for _ in range(2):
        moving.arbiter.on_bad_chunk(REACTIVE, NotFiniteError("positions[0] is nan"))
    moving.arbiter.on_chunk(moving.chunk(REACTIVE, circle), moving.now_ns)
    for _ in range(2):
        moving.arbiter.on_bad_chunk(REACTIVE, NotFiniteError("positions[0] is nan"))
    assert moving.tick().state.status in MOVING
    moving.arbiter.on_bad_chunk(REACTIVE, NotFiniteError("positions[0] is nan"))
    output = moving.tick()
    assert (output.state.status, output.state.reason, output.outcome) == (Status.LATCHED, Reason.NOT_FINITE, Outcome.FAULT)


def test_an_old_chunk_that_comes_again_is_out_of_order_before_it_is_late(moving):
    early = moving.chunk(REACTIVE, circle)
    later = replace(early, chunk_id=early.chunk_id + 1, stamp_ns=early.stamp_ns + 1)
    assert moving.arbiter.on_chunk(later, moving.now_ns).ok
    for age_ns in (0, 5_000 * MS):
        assert moving.arbiter.on_chunk(early, moving.now_ns + age_ns).reason is Reason.OUT_OF_ORDER
    assert moving.arbiter.on_chunk(replace(later, stamp_ns=later.stamp_ns + 1), moving.now_ns).reason is Reason.OUT_OF_ORDER


def test_a_restarted_expert_counts_from_one_again(moving):
    drive(moving, 20, circle, score=0.0, sources=(PREDICTIVE,))  # 1 s without the reactive expert
    moving.ids[REACTIVE] = 0
    assert moving.arbiter.on_chunk(moving.chunk(REACTIVE, circle), moving.now_ns).ok
    drive(moving, 10, circle, score=0.0)
    assert last(moving).expert is REACTIVE


def test_a_second_publisher_latches_even_at_rest(make_rig):
    rig = make_rig()
    rig.tick()
    rig.arbiter.watch.on_publishers(2)
    assert (rig.tick().state.status, last(rig).reason, last(rig).measured) == (Status.LATCHED, Reason.SECOND_PUBLISHER, 2)
    with pytest.raises(ResetRefused, match="publishers"):
        rig.arbiter.reset(rig.now_ns - 50 * MS)
    rig.arbiter.watch.on_publishers(1)
    rig.arbiter.reset(rig.now_ns - 50 * MS)
    assert rig.tick().state.status is Status.IDLE


@pytest.mark.parametrize("how", ["new publisher", "jump"])
def test_a_restarted_driver_latches_a_moving_arm(moving, how):
    if how == "jump":
        state = moving.measure()
        moving.now_ns += 5 * MS
        moving.arbiter.on_joint_state(replace(state, stamp_ns=moving.now_ns, positions=state.positions + 0.2 * ARMS))
    else:
        moving.arbiter.on_joint_state(moving.measure())
        moving.arbiter.watch.on_driver_restarted()
    state = moving.arbiter.tick(moving.now_ns).state
    assert (state.status, state.reason) == (Status.LATCHED, Reason.DRIVER_RESTARTED)


def test_a_reset_takes_the_measured_joints_and_only_those_of_a_resting_arm(moving):
    moving.arbiter.hold("test")
    moving.tick()
    with pytest.raises(ResetRefused, match="brakes"):
        moving.arbiter.reset(moving.now_ns)
    for _ in range(15):
        moving.tick()
    with pytest.raises(ResetRefused, match="joint states"):
        moving.arbiter.reset(moving.now_ns + 1_000 * MS)
    state = moving.measure()
    moving.arbiter.on_joint_state(replace(state, velocities=state.velocities + 0.2))
    with pytest.raises(ResetRefused, match="speed"):
        moving.arbiter.reset(moving.now_ns)
    pushed = replace(state, stamp_ns=state.stamp_ns + 1, positions=state.positions + 0.03 * ARMS)
    moving.arbiter.on_joint_state(pushed)
    moving.arbiter.reset(moving.now_ns)
    assert moving.arbiter._mover.set_point(moving.now_ns).positions == pytest.approx(pushed.positions[:14])


def test_whatever_is_raised_inside_a_tick_brakes_and_latches(moving, monkeypatch):
    def broken(*_):
        raise IndexError("list index out of range")

    with monkeypatch.context() as patched:
        patched.setattr(moving.arbiter._selection, "choose", broken)
        output = moving.tick()
    assert (output.state.status, output.state.reason, output.outcome) == (Status.LATCHED, Reason.INTERNAL_ERROR, Outcome.FAULT)
    assert "IndexError" in output.state.text and "test_faults.py" in output.state.text
    assert output.arm_trajectory is not None and not output.arm_trajectory.velocities[-1].any()
    assert moving.tick().state.status is Status.LATCHED


def test_drift_shortens_what_is_executed_of_a_chunk(moving):
    moving.arbiter.on_drift(Drift(moving.now_ns, 1, 0.5, 3.0))
    moving.tick()
    assert (last(moving).status, last(moving).reason, last(moving).measured) == (Status.SLOWED, Reason.DRIFT, 3.0)
    moving.arbiter.on_chunk(moving.chunk(REACTIVE, circle), moving.now_ns)
    moving.tick()
    assert moving.arbiter._mover._plan.spline.end_ns - moving.now_ns <= 600 * MS
    moving.arbiter.on_drift(Drift(moving.now_ns, 2, 0.5, 0.4))
    drive(moving, 8, circle, score=0.0)
    assert last(moving).status is Status.EXECUTING
    for score in (math.nan, -1.0, math.inf):
        with pytest.raises(StageError, match="score"):
            Drift(moving.now_ns, 1, 0.5, score)


def far(t):
    """So far from the circle that every chunk along it is refused."""
    return HOME + np.array([0.25, 0.2, 0.0])


def test_an_old_plan_does_not_live_on_refused_chunks(moving):
    """Its own age counts, not that of the chunks that were refused after it."""
    began_ns = moving.now_ns
    while last(moving).status in MOVING:
        moving.arbiter.on_chunk(moving.chunk(REACTIVE, far), moving.now_ns)
        moving.arbiter.on_gate_score(0.0, moving.now_ns)
        moving.tick()
        assert moving.now_ns - began_ns < 700 * MS
    assert last(moving).reason is Reason.CHUNK_STALE


def test_a_lost_experts_plan_ends_though_the_other_one_is_refused(moving):
    moving.arbiter.on_expert_lost(REACTIVE, "does not answer")
    moving.arbiter.on_chunk(moving.chunk(PREDICTIVE, far), moving.now_ns)
    moving.tick()
    assert (last(moving).status, last(moving).reason) == (Status.HOLDING, Reason.JUMP)
    drive(moving, 20, lambda t: moving.left_tool()[-1], score=0.0)
    assert last(moving).status in MOVING


def test_nothing_moves_from_a_reset_on_one_wrong_measurement(moving):
    """The next measurements disagree: the arm holds, and without a task takes them for its set-point."""
    moving.arbiter.hold("test")
    for _ in range(15):
        moving.tick()
    there = moving.measure()
    wrong = there.positions.copy()
    wrong[9] += 0.1
    moving.now_ns += MS
    moving.arbiter.on_joint_state(JointState(moving.now_ns, there.names, wrong, there.velocities))
    moving.arbiter.reset(moving.now_ns)
    moving.arbiter.start_task("go", moving.now_ns)
    moving.now_ns += 49 * MS
    sent = len(moving.outputs)
    drive(moving, 20, lambda t: moving.left_tool()[-1], score=0.0)
    assert (last(moving).status, last(moving).reason) == (Status.HOLDING, Reason.TRACKING_ERROR)
    assert not any(output.arm_trajectory for output in moving.outputs[sent:])
    moving.arbiter.stop_task()
    moving.tick()
    moving.arbiter.start_task("go", moving.now_ns)
    drive(moving, 20, lambda t: moving.left_tool()[-1], score=0.0)  # the rig checks the seam
    assert last(moving).status in MOVING


def test_what_cannot_be_sent_was_never_made(moving):
    """A tick whose trajectory did not leave: the brake begins where the arm is, and the rig sees no seam."""
    moving.arbiter.on_joint_state(moving.measure())
    moving.arbiter.on_chunk(moving.chunk(REACTIVE, circle), moving.now_ns)
    assert moving.arbiter.tick(moving.now_ns).arm_trajectory is not None
    try:
        raise RuntimeError("no message")
    except RuntimeError as error:
        failed = moving.arbiter.fail(moving.now_ns, error)
    assert failed.state.reason is Reason.INTERNAL_ERROR
    moving.check(failed.arm_trajectory)


def test_a_refused_brake_is_tried_again(moving, monkeypatch):
    mover, refused = moving.arbiter._mover, Verdict.refused(Reason.CLEARANCE, 0.0, 1.0, "too near")
    check = mover._filter.check
    monkeypatch.setattr(mover._filter, "check", lambda motion: refused)
    moving.arbiter.stop_task()
    assert moving.tick().arm_trajectory is None
    monkeypatch.setattr(mover._filter, "check", check)
    assert moving.tick().arm_trajectory is not None


def test_targets_that_stay_and_then_move_fast_need_no_endless_plan(make_rig):
    """At half the pace, an arm that hardly moves joins a path that rests first."""
    rig = make_rig(tick_period_s=0.05, stall_s=1.0, deadline_slow_misses=1, deadline_hold_misses=25)
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, still, score=0.0)
    for side in (-1, 1):
        rig.now_ns += 100 * MS  # a tick missed
        began = rig.now_ns
        rig.arbiter.on_chunk(rig.chunk(REACTIVE, lambda t, side=side: HOME + side * np.array([0, 0.05 * max(t - 2.5, 0), 0])), began)
        drive(rig, 4, still, score=0.0)
        assert last(rig).status is not Status.LATCHED, last(rig).text


@pytest.mark.parametrize(("period_s", "horizon", "what"), [(1e-12, 12, "s between"), (1000.0, 12, "s between"), (0.1, 100, "targets")])
def test_chunks_out_of_all_proportion_are_malformed(moving, period_s, horizon, what):
    chunk = moving.chunk(REACTIVE, still)
    rows = np.arange(horizon) % 12
    odd = ActionChunk(
        chunk.stamp_ns, chunk.chunk_id, chunk.source, period_s, chunk.arms, chunk.positions[rows], chunk.orientations[rows],
        chunk.grippers[rows],
    )  # fmt: skip
    verdict = moving.arbiter.on_chunk(odd, moving.now_ns)
    assert verdict.reason is Reason.MALFORMED and what in verdict.text


def test_missed_ticks_slow_then_hold_then_go_on(make_rig):
    rig = make_rig(tick_period_s=0.05, stall_s=1.0, deadline_slow_misses=1, deadline_hold_misses=3)
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle, score=0.0)
    assert last(rig).status is Status.EXECUTING
    seen = []
    for _ in range(5):  # every second tick is missed
        rig.now_ns += 50 * MS
        rig.arbiter.on_chunk(rig.chunk(REACTIVE, circle), rig.now_ns)
        rig.arbiter.on_gate_score(0.0, rig.now_ns)
        seen.append(rig.tick().state)
    assert [state.status for state in seen] == [Status.EXECUTING, Status.SLOWED, Status.SLOWED, Status.HOLDING, Status.HOLDING]
    assert all(isinstance(value, float) for state in seen for value in (state.measured, state.limit)), "messages take nothing else"
    assert {state.reason for state in seen[1:]} == {Reason.DEADLINE_MISSED}
    assert rig.arbiter.watch.deadlines.total_missed == 5
    drive(rig, 15, lambda t: rig.left_tool()[-1], score=0.0)
    assert last(rig).status is Status.EXECUTING


def test_the_arm_is_not_lost_because_the_arbiter_itself_is_late(cell, kinematics):
    """Joint states wait for a starved process as its ticks do; those that do not come by the next tick are lost."""
    watch = Watch(cell, kinematics, ArbiterSettings(joint_state_max_age_s=0.045), 0.02)
    rest = np.concatenate([kinematics.home(), np.full(2, 0.04)])

    def lost(now_ns: int, measured_ns: int | None = None) -> bool:
        if measured_ns is not None:
            watch.on_joint_state(JointState(measured_ns, cell.arm_joint_names + cell.finger_joint_names, rest, 0 * rest))
        watch.tick(now_ns)
        return any(c.reason is Reason.JOINT_STATES_LOST and not c.met for c in watch.latching(now_ns, lambda _: None))

    assert not lost(20 * MS, measured_ns=10 * MS) and not lost(40 * MS, measured_ns=30 * MS)
    assert not lost(100 * MS), "two ticks were missed"
    assert lost(120 * MS)
    assert not lost(140 * MS, measured_ns=130 * MS)
    assert not lost(160 * MS) and lost(180 * MS), "on time, 45 ms are 45 ms"


def test_a_trajectory_that_comes_too_late_is_not_sent_and_leaves_no_trace(moving):
    """The rig checks that whatever is sent is continuous with what was sent before."""
    for took_ns in (19 * MS, 40 * MS, 340 * MS):
        moving.arbiter.on_chunk(moving.chunk(REACTIVE, circle), moving.now_ns)
        output = moving.tick(took_ns)
        late = took_ns > 20 * MS
        assert (output.arm_trajectory is None) == late
        assert (output.state.reason is Reason.DEADLINE_MISSED and output.state.status is Status.HOLDING) == late
        drive(moving, 20, circle, score=0.0)
        assert last(moving).status in MOVING


def test_fingers_that_come_too_late_are_told_again(make_rig):
    """A driver refuses a trajectory that ends in the past: the gripper would have stayed open."""
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    while rig.tick().gripper_trajectory is not None:
        pass
    rig.arbiter.on_chunk(rig.chunk(PREDICTIVE, circle, gripper=0.0), rig.now_ns)
    assert rig.tick(340 * MS).gripper_trajectory is None
    drive(rig, 20, circle, gripper=0.0)
    assert not rig.fingers.any()


def test_the_first_trajectory_of_an_arm_that_rested_long_may_come_too_late(make_rig):
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    for _ in range(40):
        rig.tick()

    def later(seconds):
        return circle(seconds - 2.0)

    rig.arbiter.on_chunk(rig.chunk(REACTIVE, later), rig.now_ns)
    rig.arbiter.on_gate_score(0.0, rig.now_ns)
    assert rig.tick(40 * MS).state.reason is Reason.DEADLINE_MISSED
    drive(rig, 20, later, score=0.0)
    assert last(rig).status in MOVING


def test_after_a_stall_the_arm_rests_and_nothing_that_waited_is_executed(make_rig):
    """As after SIGSTOP: no joint state came for 2 s, which is nobody's fault but the process's own."""
    rig = make_rig(tick_period_s=0.05)
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle, score=0.0)
    waiting = rig.chunk(REACTIVE, circle)
    rig.now_ns += 2_000 * MS
    rig.arbiter.on_chunk(waiting, rig.now_ns)
    output = rig.arbiter.tick(rig.now_ns)  # before any new joint state
    assert (output.state.status, output.arm_trajectory) == (Status.HOLDING, None)
    drive(rig, 30, lambda t: rig.left_tool()[-1], score=0.0)
    assert last(rig).status in MOVING
