"""The arbiter in a loop with arms that follow it exactly (the rig checks every published trajectory)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from drives import HOME, MOVING, PREDICTIVE, REACTIVE, START_NS, circle, drive, still
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis import strategies as st

from harmowam_core.stages import ActionChunk, Expert, NotFiniteError, Phase, StageError
from harmowam_core.status import Outcome, Reason, Status
from harmowam_gate.arbiter import LATE_S, ArbiterSettings, TaskRefused
from harmowam_gate.settings import check_timing


def test_follows_a_path_in_time(make_rig):
    """Chunks every 0.25 s, 0.2 s old, exact: the tool is where the path says, when it says."""
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 120, circle)
    wanted = np.array([circle((t - START_NS) * 1e-9) for t in rig.path_ns])
    error = np.linalg.norm(rig.left_tool() - wanted, axis=1)[200:]
    assert error.max() < 0.002
    assert all(o.state.status is Status.EXECUTING for o in rig.outputs[5:])


def test_noise_between_chunks_neither_delays_nor_shakes(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 120, circle, noise_m=0.002)
    tool, seconds = rig.left_tool()[200:], (np.array(rig.path_ns)[200:] - START_NS) * 1e-9

    def miss(lag_s):
        return np.sqrt(np.mean(np.sum((tool - [circle(t - lag_s) for t in seconds]) ** 2, axis=1)))

    lags = np.arange(-0.1, 0.2, 0.01)
    lag_s = lags[int(np.argmin([miss(lag) for lag in lags]))]
    shaking = np.diff(tool, 2, axis=0) / 0.01**2  # the circle itself: 0.4 m/s^2
    assert abs(lag_s) <= 0.03
    assert miss(0.0) < 0.006
    assert np.sqrt(np.mean(np.sum(shaking**2, axis=1))) < 0.8
    assert np.abs(np.array(rig.path)[:, 7:] - rig.path[0][7:]).max() < 1e-9  # the arm that waits at home does not follow noise


def test_a_tick_with_a_deadline_plans_or_sends(make_rig):
    """Every tick with a new chunk plans and leaves the sending to the next, also while chunks come with every tick; the path is kept."""
    for period in (5, 1):
        rig = make_rig(selector="predictive", tick_period_s=0.05)
        rig.arbiter.start_task("go", rig.now_ns)
        drive(rig, 120, circle, period=period)
        sent = [output.arm_trajectory is not None for output in rig.outputs]
        assert sent[4:] == [k % 5 != 4 if period == 5 else k % 2 != 0 for k in range(4, len(sent))]
        wanted = np.array([circle((t - START_NS) * 1e-9) for t in rig.path_ns])
        assert np.linalg.norm(rig.left_tool() - wanted, axis=1)[200:].max() < 0.002
        assert all(output.state.status is Status.EXECUTING for output in rig.outputs[5:])


@pytest.mark.parametrize("late_ms", [2, 40])
def test_a_plan_waits_for_a_tick_that_is_late_and_is_made_anew_where_it_is_too_late(make_rig, late_ms):
    rig = make_rig(selector="predictive", tick_period_s=0.05)
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 60, circle)
    while rig.tick().arm_trajectory is None:
        pass
    rig.arbiter.on_chunk(rig.chunk(PREDICTIVE, circle), rig.now_ns)
    assert rig.tick().arm_trajectory is None
    rig.now_ns += late_ms * 1_000_000
    sent = [rig.tick().arm_trajectory is not None for _ in range(2)]
    assert sent[0] or (late_ms > 5 and sent[1])
    assert all(output.state.status in (Status.EXECUTING, Status.SLOWED) for output in rig.outputs[5:])


def test_an_expert_that_is_there_stands_in_for_a_plan_that_gets_too_old_to_be_sent(make_rig):
    """Chunks of the reactive expert come with little time left: those of the predictive one are followed, without a stop."""
    rig = make_rig(tick_period_s=0.05, reactive_max_age_s=0.65)
    rig.arbiter.start_task("go", rig.now_ns)
    due: list = []
    for tick in range(60):
        rig.arbiter.on_gate_score(0.0, rig.now_ns)
        if tick % 4 == 0:
            rig.arbiter.on_chunk(rig.chunk(PREDICTIVE, circle), rig.now_ns)
            due.append((rig.now_ns + 600_000_000, rig.chunk(REACTIVE, circle, stamp_ns=rig.now_ns - 30_000_000)))
        while due and due[0][0] <= rig.now_ns:
            rig.arbiter.on_chunk(due.pop(0)[1], rig.now_ns)
        rig.tick()
    moving = [output.state.status in MOVING for output in rig.outputs]
    assert all(moving[moving.index(True) :]), [output.state.text for output in rig.outputs if output.state.status not in MOVING]


@pytest.mark.parametrize("resting", [True, False])
def test_grippers_do_not_follow_a_chunk_that_the_arms_refuse(make_rig, resting):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 40, still if resting else circle, gripper=0.0)
    assert rig.fingers[0] == 0.0
    far = rig.chunk(PREDICTIVE, lambda t: HOME + np.array([0, 0, -0.25]), gripper=1.0)
    rig.arbiter.on_chunk(far, rig.now_ns)
    outputs = [rig.tick() for _ in range(12)]
    assert not any(output.gripper_trajectory for output in outputs)
    assert any("the chunk begins" in output.state.text for output in outputs)


def test_a_late_tick_sends_nothing_to_the_grippers_either(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, still, gripper=1.0)
    rig.arbiter.on_chunk(rig.chunk(PREDICTIVE, still, gripper=0.0), rig.now_ns)
    assert rig.tick(took_ns=100_000_000).gripper_trajectory is None
    began = rig.tick().gripper_trajectory
    assert began is not None and began.stamp_ns == rig.now_ns - 50_000_000
    assert began.positions[0] == pytest.approx(rig.cell.finger_travel) and not began.velocities[0].any()


@pytest.mark.parametrize("selector", ["gate", "predictive", "reactive", "average", "keyframe_average"])
def test_selectors(make_rig, selector):
    """The predictive expert goes to the left, the reactive one to the right; in transit first, then in interaction."""

    def tool(source):
        return lambda t: HOME + np.array([0, (0.04 if source is PREDICTIVE else -0.04) * min(max(t, 0), 1.0), 0])

    where = []
    for score in (0.0, 1.0):
        rig = make_rig(selector=selector)
        rig.arbiter.start_task("go", rig.now_ns)
        rig.arbiter.on_gate_score(score, rig.now_ns)
        for tick in range(40):
            if tick % 5 == 0:
                for source in Expert:
                    rig.arbiter.on_chunk(rig.chunk(source, tool(source)), rig.now_ns)
                rig.arbiter.on_gate_score(score, rig.now_ns)
            rig.tick()
        where.append(float(rig.left_tool()[-1, 1] - HOME[1]))
    expected = {
        "gate": (-0.04, 0.04),
        "predictive": (0.04, 0.04),
        "reactive": (-0.04, -0.04),
        "average": (0.0, 0.0),
        "keyframe_average": (-0.04, 0.0),
    }
    assert where == pytest.approx(expected[selector], abs=0.003)


def test_hand_over_between_distant_experts_has_no_jump(make_rig):
    """Paths 6 cm apart, the phase changing as often as it may; the rig checks the seams and limits."""
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    for tick in range(100):
        if tick % 4 == 0:
            for source, side in ((PREDICTIVE, 0.03), (REACTIVE, -0.03)):
                rig.arbiter.on_chunk(rig.chunk(source, lambda t, side=side: circle(t) + np.array([0, side, 0])), rig.now_ns)
            rig.arbiter.on_gate_score(float(tick % 8 == 0), rig.now_ns)
        rig.tick()
    phases = [o.state.phase for o in rig.outputs]
    changes = np.flatnonzero([a is not b for a, b in zip(phases[1:], phases[2:], strict=False)])
    assert len(changes) >= 5
    assert np.diff(changes).min() * 0.05 >= 0.3
    followed = [o.state.expert for o in rig.outputs if o.state.expert is not None]
    assert sum(a is not b for a, b in zip(followed, followed[1:], strict=False)) >= 5
    assert len(followed) >= 90, "where no way over is found in time, the arm holds"


@settings(  # no shrinking: one example takes a second
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=[HypothesisPhase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**31),
    noise_m=st.sampled_from([0.0, 0.003, 0.015]),
    speed=st.sampled_from([0.3, 1.0, 3.0]),
    period=st.integers(2, 30),
    latency=st.integers(0, 14),
    selector=st.sampled_from(["gate", "average", "keyframe_average", "predictive"]),
)
def test_whatever_comes_the_motion_is_continuous_and_within_limits(make_rig, seed, noise_m, speed, period, latency, selector):
    """Noise, speeds beyond the limits, late and missing chunks, an oscillating gate: the rig checks what is published."""
    rig = make_rig(selector=selector)
    rig.arbiter.start_task("go", rig.now_ns)
    random = np.random.default_rng(seed)
    drive(
        rig,
        60,
        lambda t: circle(t * speed),
        score=lambda _: float(random.random()),
        period=period,
        latency=latency,
        noise_m=noise_m,
        seed=seed,
    )
    for _ in range(35):  # nothing comes any more: the arm comes to rest and stays there
        rig.tick()
    assert rig.outputs[-1].arm_trajectory is None
    assert np.array_equal(rig.path[-1], rig.path[-20])
    assert rig.outputs[-1].state.status is Status.HOLDING


def test_too_fast_a_path_is_slowed_not_cut(make_rig):
    rig = make_rig({"tcp_speed": 0.15}, selector="predictive", chunk_max_age_s=3.0, max_slow_down=10.0)
    rig.arbiter.start_task("go", rig.now_ns)
    rig.arbiter.on_chunk(rig.chunk(PREDICTIVE, lambda t: circle(t + 1) - circle(1.0) + HOME), rig.now_ns)
    for _ in range(50):
        rig.tick()
    tool = rig.left_tool()
    assert 0.13 <= np.linalg.norm(np.diff(tool, axis=0), axis=1).max() / 0.01 <= 0.151
    assert rig.outputs[0].state.status is Status.SLOWED and "slower" in rig.outputs[0].state.text
    path = np.array([circle(t) - circle(1.0) + HOME for t in np.arange(1, 2.3, 0.005)])
    assert np.linalg.norm(tool[:, None] - path, axis=-1).min(axis=1).max() < 0.003


@pytest.mark.parametrize("fastest", [0.15, 0.05, 0.025])
@pytest.mark.parametrize("shape", ["line", "arc"])
def test_a_slowed_arm_stays_on_its_path(make_rig, fastest, shape):
    """Eight times slower than the expert asks for, over many chunks, each from where the tool is seen: 3 mm at most off the path."""

    def at(way):  # m along a straight line, or a curve of 0.1 m
        if shape == "line":
            return HOME + np.array([way, 0.3 * way, -0.4 * way])
        return HOME + np.array([0.1 * np.sin(way / 0.1), 0.1 * (1 - np.cos(way / 0.1)), 0.0])

    ways = np.arange(0, 0.4, 0.0005)
    path = np.array([at(way) for way in ways])
    rig = make_rig({"tcp_speed": fastest}, selector="predictive", max_slow_down=10.0)
    rig.arbiter.start_task("go", rig.now_ns)
    due = []
    for tick in range(100):
        if tick % 5 == 0:
            tool = rig.kinematics.forward(rig.measure().positions[:14])[0][0]
            here, seen_s = float(ways[np.linalg.norm(path - tool, axis=1).argmin()]), (rig.now_ns - START_NS) * 1e-9
            if here > 0.13:  # further on the arm has to stretch
                break
            due.append((tick + 4, rig.chunk(PREDICTIVE, lambda t, here=here, seen_s=seen_s: at(here + 0.2 * (t - seen_s)))))
        while due and due[0][0] <= tick:
            rig.arbiter.on_chunk(due.pop(0)[1], rig.now_ns)
        rig.tick()
    tool = rig.left_tool()
    assert np.linalg.norm(tool[:, None] - path, axis=-1).min(axis=1).max() < 0.003
    speeds = np.linalg.norm(np.diff(tool, axis=0), axis=1) / 0.01
    assert 0.7 * fastest <= np.median(speeds[50:]) and speeds.max() <= fastest * 1.01
    assert {o.state.status for o in rig.outputs[10:]} <= set(MOVING)


def test_holds_while_chunks_are_missing_and_goes_on_when_they_return(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    assert "no predictive chunk yet" in rig.tick().state.text
    drive(rig, 30, circle)
    stopped = circle((rig.now_ns - START_NS) * 1e-9)
    for _ in range(30):
        output = rig.tick()
    assert (output.state.status, output.state.reason) == (Status.HOLDING, Reason.CHUNK_STALE)
    assert output.state.measured > output.state.limit == 0.8
    assert output.arm_trajectory is None
    drive(rig, 20, lambda t: stopped)
    assert rig.outputs[-1].state.status in MOVING


def test_a_killed_expert_holds_the_arm_when_it_is_needed(make_rig):
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 30, circle, score=0.0, sources=(REACTIVE,))
    assert rig.outputs[-1].state.expert is REACTIVE
    drive(rig, 20, circle, score=1.0, sources=(REACTIVE,))
    state = rig.outputs[-1].state
    assert (state.status, state.reason, state.expert) == (Status.HOLDING, Reason.CHUNK_STALE, None)
    assert "predictive" in state.text


@pytest.mark.parametrize("before_grid_ns", [1, 1_000, 900_000])
def test_ticks_just_before_a_grid_time_see_no_jerk(make_rig, before_grid_ns):
    rig = make_rig(selector="predictive")
    rig.now_ns -= before_grid_ns
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 60, circle)
    assert all(o.state.status is Status.EXECUTING for o in rig.outputs[5:])


def test_the_gate_gone_holds_the_arm(make_rig):
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle, score=0.0)
    assert rig.outputs[-1].state.status in MOVING
    drive(rig, 30, circle)
    assert (rig.outputs[-1].state.status, rig.outputs[-1].state.reason) == (Status.HOLDING, Reason.OBSERVATION_STALE)


def test_joint_states_that_are_not_finite_latch_the_arm(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    rig.arbiter.on_bad_joint_state(NotFiniteError("joint 3 is nan"))
    output = rig.arbiter.tick(rig.now_ns)
    assert (output.state.status, output.state.reason, output.outcome) == (Status.LATCHED, Reason.NOT_FINITE, Outcome.FAULT)
    assert output.arm_trajectory is not None and "joint 3 is nan" in output.state.text


def test_one_joint_state_that_is_not_finite_latches_a_moving_arm_though_a_good_one_follows_before_the_tick(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.on_bad_joint_state(NotFiniteError("joint 3 is nan"))
    drive(rig, 2, still)
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    assert rig.outputs[-1].state.status in MOVING, "what came while the arm rested is forgotten"
    rig.arbiter.on_bad_joint_state(NotFiniteError("joint 3 is nan"))
    rig.arbiter.on_bad_joint_state(StageError("joint state lacks joint 4"))
    state = rig.tick().state
    assert (state.status, state.reason) == (Status.LATCHED, Reason.NOT_FINITE) and "joint 3 is nan" in state.text


def test_lost_joint_states_latch_a_moving_arm_and_are_no_tracking_error(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    state = rig.arbiter.tick(rig.now_ns).state  # the last joint state is 50 ms old
    assert (state.status, state.reason, state.measured) == (Status.LATCHED, Reason.JOINT_STATES_LOST, pytest.approx(0.05))
    with pytest.raises(TaskRefused):
        rig.arbiter.start_task("again", rig.now_ns)


def test_a_resting_arm_may_be_switched_off_and_on(make_rig):
    rig = make_rig(selector="predictive")
    drive(rig, 5, still)
    rig.now_ns += 5_000_000_000
    assert rig.arbiter.tick(rig.now_ns).state.status is Status.IDLE
    rig.resting = rig.resting + 0.1
    rig.tick()
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 10, lambda t: rig.left_tool()[-1])
    assert rig.outputs[-1].state.status in MOVING


def test_fingers_beyond_their_travel_are_refused(make_rig):
    """Fuzzing found the grippers commanded from such a measurement."""
    rig = make_rig()
    state = rig.measure()
    positions = state.positions.copy()
    positions[-1] = rig.cell.finger_travel + 0.3
    with pytest.raises(StageError, match="fingers are at"):
        rig.arbiter.on_joint_state(type(state)(state.stamp_ns, state.names, positions, state.velocities))


def test_joint_states_without_a_joint_are_refused(make_rig):
    rig = make_rig()
    with pytest.raises(StageError, match="lacks .*left_fr3_joint1"):
        state = rig.measure()
        rig.arbiter.on_joint_state(type(state)(rig.now_ns, ("x",), np.zeros(1), np.zeros(1)))


def test_an_arm_that_does_not_follow_is_held(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    state = rig.measure()
    stuck = state.positions.copy()
    stuck[3] -= 0.13
    rig.arbiter.on_joint_state(type(state)(state.stamp_ns, state.names, stuck, state.velocities))
    state = rig.arbiter.tick(rig.now_ns).state
    assert (state.status, state.reason) == (Status.LATCHED, Reason.TRACKING_ERROR)


@pytest.mark.parametrize(("share", "latches"), [(0.0, True), (0.5, False)], ids=["blocked", "behind but moving"])
def test_a_blocked_joint_is_found_out_before_it_is_far_behind(make_rig, share, latches):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, lambda t: HOME + np.array([0, 0.16 * max(t - 0.2, 0), 0]))
    before = rig.measure()
    joint = int(np.abs(before.velocities).argmax())
    assert abs(before.velocities[joint]) > 0.25
    rig.now_ns += 50_000_000
    state = rig.measure()
    positions, velocities = state.positions.copy(), state.velocities.copy()
    positions[joint] = before.positions[joint]
    velocities[joint] *= share
    rig.arbiter.on_joint_state(type(state)(state.stamp_ns, state.names, positions, velocities))
    state = rig.arbiter.tick(rig.now_ns).state
    assert (state.reason is Reason.TRACKING_ERROR and state.status is Status.LATCHED) == latches
    assert not latches or ("blocked" in state.text and state.measured < 0.02)


def test_refusals_stand_in_the_state_while_the_arm_goes_on(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    far = rig.chunk(PREDICTIVE, lambda t: circle(t) + np.array([0.25, 0, 0]))
    assert rig.arbiter.on_chunk(far, rig.now_ns).ok  # sound by itself, but it begins too far away
    state = rig.tick().state
    assert (state.status, state.reason) == (Status.EXECUTING, Reason.JUMP)
    assert state.measured == pytest.approx(0.25, abs=0.02) and state.limit == 0.15
    assert "last refused" in state.text
    drive(rig, 20, circle)
    assert rig.outputs[-1].state.status is Status.EXECUTING


def test_unreachable_targets_are_named(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    chunk = rig.chunk(PREDICTIVE, lambda t: HOME)
    down = np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0]])
    away = chunk.positions.copy()
    away[:, 0] = [0.84, -0.6, 0.65]
    rig.arbiter.on_chunk(
        ActionChunk(**{**chunk.__dict__, "positions": away, "orientations": np.tile(down, (12, 1, 1)).astype(np.float32)}), rig.now_ns
    )
    state = rig.tick().state
    assert (state.status, state.reason) == (Status.HOLDING, Reason.UNREACHABLE)


def test_hold_latches_until_reset(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns)
    drive(rig, 20, circle)
    rig.arbiter.hold("a hand in the way")
    output = rig.tick()
    assert output.arm_trajectory is not None and output.arm_trajectory.times_s[-1] < 0.4
    assert (output.outcome, output.state.status) == (Outcome.CANCELLED, Status.LATCHED)
    assert "a hand in the way" in output.state.text
    with pytest.raises(TaskRefused, match="/harmowam/reset"):
        rig.arbiter.start_task("again", rig.now_ns)
    for _ in range(10):
        rig.tick()
    rig.arbiter.on_joint_state(rig.measure())
    rig.arbiter.reset(rig.now_ns)
    rig.arbiter.start_task("again", rig.now_ns)
    drive(rig, 10, lambda t: rig.left_tool()[-1])
    assert rig.outputs[-1].state.status in MOVING


def test_without_a_task_nothing_moves(make_rig):
    rig = make_rig(selector="predictive")
    drive(rig, 20, circle)
    assert all(o.arm_trajectory is None and o.gripper_trajectory is None for o in rig.outputs)
    assert (rig.outputs[-1].state.status, rig.outputs[-1].state.reason) == (Status.IDLE, Reason.NO_TASK)
    assert math.isnan(rig.outputs[0].state.score)


def test_chunks_of_the_time_before_the_task_are_refused(make_rig):
    rig = make_rig(selector="predictive")
    early = rig.chunk(PREDICTIVE, circle)
    rig.now_ns += 100_000_000
    rig.arbiter.start_task("go", rig.now_ns)
    assert rig.arbiter.on_chunk(early, rig.now_ns).reason is Reason.NO_TASK


def test_bad_goals_are_refused(make_rig):
    rig = make_rig()
    for instruction, limit_s, match in ((" ", 5.0, "empty"), ("go", 0.0, "time_limit_s"), ("go", math.nan, "time_limit_s")):
        with pytest.raises(TaskRefused, match=match):
            rig.arbiter.start_task(instruction, rig.now_ns, limit_s)
    rig.arbiter.start_task("go", rig.now_ns)
    with pytest.raises(TaskRefused, match="still running"):
        rig.arbiter.start_task("go", rig.now_ns)


def test_the_time_limit_ends_the_task(make_rig):
    rig = make_rig(selector="predictive")
    rig.arbiter.start_task("go", rig.now_ns, 1.0)
    drive(rig, 30, still)
    ended = [o for o in rig.outputs if o.outcome is not None]
    assert [o.outcome for o in ended] == [Outcome.TIME_LIMIT] and "1.0 s" in ended[0].why
    assert rig.outputs[-1].state.status is Status.IDLE


def test_the_gripper_is_latched_in_transit_and_a_whole_task_succeeds(make_rig):
    """Close on something, carry it while the reactive expert says 'open', release it, leave."""
    rig = make_rig()
    rig.arbiter.start_task("put it there", rig.now_ns)
    drive(rig, 15, still, score=0.0, gripper=0.0)
    assert not any(o.gripper_trajectory for o in rig.outputs)  # in transit nobody closes it
    rig.object_m = np.array([0.02, 0.0])
    drive(rig, 30, still, score=1.0, gripper=0.0)
    assert any(o.gripper_trajectory for o in rig.outputs[15:])
    assert rig.outputs[-1].state.sub_stage == "holding"
    drive(rig, 20, still, score=0.0, gripper=1.0)
    assert rig.outputs[-1].state.sub_stage == "holding"
    assert not any(o.gripper_trajectory for o in rig.outputs[-10:])
    drive(rig, 15, still, score=1.0, gripper=1.0)
    assert rig.outputs[-1].state.sub_stage == "released"
    drive(rig, 60, still, score=0.0, gripper=1.0)
    ended = [o for o in rig.outputs if o.outcome is not None]
    assert [o.outcome for o in ended] == [Outcome.SUCCEEDED]


def test_scores_that_are_none_are_refused(make_rig):
    rig = make_rig()
    rig.arbiter.start_task("go", rig.now_ns)
    rig.arbiter.on_gate_score(math.nan, rig.now_ns)
    state = rig.tick().state
    assert math.isnan(state.score) and state.phase is Phase.TRANSIT
    assert state.reason is Reason.OBSERVATION_STALE  # what holds the arm comes before what was refused


def test_equal_inputs_give_equal_outputs(make_rig):
    runs = []
    for _ in range(2):
        rig = make_rig(selector="average")
        rig.arbiter.start_task("go", rig.now_ns)
        runs.append(np.array(drive(rig, 30, circle, noise_m=0.003).path))
    assert np.array_equal(*runs)


def test_settings_out_of_bounds_are_named():
    with pytest.raises(ValueError, match="gate_threshold"):
        ArbiterSettings(gate_threshold=2.0)
    with pytest.raises(ValueError, match="selector"):
        ArbiterSettings(selector="coin")


@pytest.mark.parametrize(
    ("rate", "changed", "names"),
    [
        (50.0, {"lookahead_s": 0.04}, r"lookahead_s 0.04 .* 0.085 s.* rate 50"),
        (50.0, {"lookahead_s": 0.13, "publish_s": 0.1}, r"lookahead_s 0.13 .* 0.145 s.* publish_s 0.1"),
        (10.0, {"stall_s": 0.3}, r"lookahead_s 0.2 .* 0.225 s.* rate 10"),
        (50.0, {"rest_s": 0.3}, r"rest_s 0.3 .* 0.335 s"),
        (20.0, {}, r"stall_s 0.1 .* 0.125 s.* rate 20"),
    ],
)
def test_times_that_do_not_fit_each_other_are_refused_by_name_and_value(rate, changed, names):
    with pytest.raises(ValueError, match=names + ".*raise"):
        check_timing(ArbiterSettings(**changed), rate, LATE_S)


@pytest.mark.parametrize(("rate", "changed"), [(50.0, {}), (100.0, {}), (25.0, {}), (12.0, {"stall_s": 0.25})])
def test_times_that_fit_each_other_are_taken(rate, changed):
    check_timing(ArbiterSettings(**changed), rate, LATE_S)
