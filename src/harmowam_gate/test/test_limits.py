"""Each limit lets a sound motion pass, finds its own violation, and never lets NaN through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harmowam_core.status import Reason
from harmowam_gate.body import Body
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline
from harmowam_gate.limits import LIMITS, Context, Limit, Motion, MotionFilter, Source, Verdict
from harmowam_gate.settings import ArbiterSettings

START_NS = 1_700_000_000_000_000_000


@pytest.fixture
def motion(cell, kinematics):
    """Half a second of a gentle sway of all joints that begins and ends at rest."""
    times_ns = START_NS + np.arange(26) * GRID_NS
    t = ((times_ns - START_NS) * 1e-9)[:, None]
    w, sway = 2 * np.pi / 0.5, 0.01 * np.ones(14)
    # sin^4: position, velocity, acceleration and jerk vanish at both ends
    s, c = np.sin(w * t / 2), np.cos(w * t / 2)
    positions = kinematics.home() + sway * s**4
    velocities = sway * 2 * w * s**3 * c
    accelerations = sway * w**2 * (3 * s**2 * c**2 - s**4)
    velocities[-1] = accelerations[-1] = 0.0
    spline = JointSpline(times_ns, positions, velocities, accelerations)
    return Motion(cell.arm_joint_names, spline, Body(cell, kinematics), source=Source(age_s=0.2, off_rad=0.005))


@pytest.fixture
def context(cell, kinematics):
    return Context(cell, Body(cell, kinematics), ArbiterSettings())


@pytest.fixture
def every(context):
    return {name: limit(context) for name, limit in LIMITS.items()}


def safely(context, **changes):
    """The context with another safety section."""
    return replace(context, cell=context.cell.model_copy(update={"safety": context.cell.safety.model_copy(update=changes)}))


def changed(motion, **arrays):
    return replace(motion, spline=replace(motion.spline, **arrays))


def stretched(motion, factor):
    """The same path, ``factor`` times slower."""
    spline = motion.spline
    return changed(
        motion,
        times_ns=START_NS + np.round((spline.times_ns - START_NS) * factor).astype(np.int64),
        velocities=spline.velocities / factor,
        accelerations=spline.accelerations / factor**2,
    )


def test_a_sound_motion_passes_all(motion, every):
    for name, limit in every.items():
        assert limit.check(motion).ok, name
    assert MotionFilter(list(every.values())).check(motion).ok


@pytest.mark.parametrize("field", ["positions", "velocities", "accelerations"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(motion, every, field, value):
    values = getattr(motion.spline, field).copy()
    values[7, 3] = value
    bad = changed(motion, **{field: values})
    verdict = every["finite"].check(bad)
    assert verdict.reason is Reason.NOT_FINITE and "left_fr3_joint4" in verdict.text and not verdict.can_slow_down
    assert MotionFilter(list(every.values())).check(bad).reason is Reason.NOT_FINITE


@pytest.mark.parametrize("name", sorted(set(LIMITS) - {"finite", "freshness", "tracking"}))
def test_nan_passes_no_limit(motion, every, name):
    nothing = np.full_like(motion.spline.positions, np.nan)
    bad = changed(motion, positions=nothing, velocities=nothing, accelerations=nothing)
    bad = replace(bad, before=motion.spline)
    assert not every[name].check(bad).ok


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: replace(m, names=m.names[::-1]), Reason.MALFORMED),
        (lambda m: changed(m, positions=m.spline.positions[:, :7]), Reason.MALFORMED),
        (lambda m: changed(m, times_ns=m.spline.times_ns[::-1].copy()), Reason.MALFORMED),
        (lambda m: changed(m, velocities=m.spline.velocities + 0.01), Reason.NOT_STOPPABLE),
        (lambda m: stretched(m, 2.0), Reason.NOT_STOPPABLE),
    ],
)
def test_structure(motion, every, spoil, reason):
    assert every["structure"].check(spoil(motion)).reason is reason


@pytest.mark.parametrize("field", ["positions", "velocities", "accelerations"])
def test_continuity(motion, every, field):
    rest = JointSpline.through([START_NS], [JointMotion.resting(motion.spline.positions[0])])
    assert every["continuity"].check(replace(motion, before=rest)).ok
    values = getattr(motion.spline, field).copy()
    values[0, 2] += 1e-4
    verdict = every["continuity"].check(replace(changed(motion, **{field: values}), before=rest))
    assert verdict.reason is Reason.JUMP and field in verdict.text and "left_fr3_joint3" in verdict.text


@pytest.mark.parametrize("side", [-1, 1])
def test_position(motion, every, cell, side):
    limit = (cell.limits.position_upper if side > 0 else cell.limits.position_lower)[3]
    positions = motion.spline.positions.copy()
    positions[:, 10] += np.linspace(0, 1, 26) * (limit - positions[-1, 10] + side * 0.01)
    verdict = every["position"].check(changed(motion, positions=positions))
    assert verdict.reason is Reason.POSITION_LIMIT and "right_fr3_joint4" in verdict.text
    assert verdict.limit == pytest.approx(limit - side * cell.safety.position_margin) and side * (verdict.measured - verdict.limit) > 0


@pytest.mark.parametrize(
    ("name", "reason", "order"),
    [("velocity", Reason.VELOCITY_LIMIT, 1), ("acceleration", Reason.ACCELERATION_LIMIT, 2), ("jerk", Reason.JERK_LIMIT, 3)],
)
def test_too_quick_motions_ask_for_the_time_they_need(motion, every, name, reason, order):
    """Quicken the sway until the limit is exceeded by half; stretched as asked for, it passes."""
    dense = {"velocity": "velocities", "acceleration": "accelerations", "jerk": "jerks"}[name]
    share = float((np.abs(getattr(motion.dense, dense)).max(axis=0) / every[name]._limit).max())
    quick = stretched(motion, (share / 1.5) ** (1 / order))
    verdict = every[name].check(quick)
    assert verdict.reason is reason and verdict.measured / verdict.limit == pytest.approx(1.5, rel=0.02)
    assert verdict.can_slow_down
    assert every[name].check(stretched(motion, (share / 1.5) ** (1 / order) * verdict.slow_down * 1.001)).ok


@pytest.mark.parametrize(("name", "part"), [("tcp_speed", "tool"), ("elbow_speed", "elbow")])
def test_speeds(motion, context, name, part):
    fastest = LIMITS[name](safely(context, **{name: 1e-6})).check(motion).measured
    verdict = LIMITS[name](safely(context, **{name: fastest / 2})).check(motion)
    assert verdict.reason is Reason.TCP_SPEED and verdict.slow_down == pytest.approx(2.0) and part in verdict.text
    assert LIMITS[name](safely(context, **{name: fastest * 1.001})).check(motion).ok


def test_workspace(motion, every, cell, kinematics):
    def tool_at(z):
        positions, orientations = kinematics.forward(kinematics.home())
        positions[0, 2] = z
        return kinematics.inverse(positions, orientations, kinematics.home()).q

    def way(z_from, z_to):
        a, b = tool_at(z_from), tool_at(z_to)
        return changed(motion, positions=a + (b - a) * np.linspace(0, 1, 26)[:, None])

    assert every["workspace"].check(way(0.1, 0.2)).ok
    floor = cell.workspace.lower[2]
    assert every["workspace"].check(way(0.1, floor - 0.002)).ok
    verdict = every["workspace"].check(way(0.1, floor - 0.02))
    assert verdict.reason is Reason.WORKSPACE and "arm 'left'" in verdict.text and verdict.measured == pytest.approx(0.02, abs=1e-3)
    assert every["workspace"].check(way(floor - 0.03, 0.1)).ok  # from outside it may come back


def test_the_filter_prefers_refusals_then_the_slowest():
    class Says(Limit):
        def __init__(self, verdict):
            self.verdict = verdict

        def check(self, motion):
            return self.verdict

    fine, slow = Says(Verdict()), Says(Verdict.too_fast(Reason.JERK_LIMIT, 2.0, 1.0, 1, ""))
    slower, refused = Says(Verdict.too_fast(Reason.TCP_SPEED, 3.0, 1.0, 1, "")), Says(Verdict.refused(Reason.WORKSPACE, 1.0, 0.0, ""))
    assert MotionFilter([fine, slow, slower]).check(None).reason is Reason.TCP_SPEED
    assert MotionFilter([slower, refused, slow]).check(None).reason is Reason.WORKSPACE
    assert MotionFilter([fine]).check(None).ok
