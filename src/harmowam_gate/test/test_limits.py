"""Each limit lets a sound motion pass, finds its own violation, and never lets NaN through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harmowam_core.cell import Obstacle, Zone
from harmowam_core.kinematics import KinematicsError
from harmowam_core.solids import load_solids
from harmowam_core.status import Reason
from harmowam_gate.body import Body
from harmowam_gate.joint_spline import GRID_NS, JointMotion, JointSpline
from harmowam_gate.limits import LIMITS, Context, Limit, Motion, MotionFilter, Source, Verdict, stack
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
    dense = {"velocity": motion.dense.velocities, "acceleration": motion.spline.peak_accelerations(), "jerk": motion.spline.peak_jerks()}
    share = float((np.abs(dense[name]).max(axis=0) / every[name]._limit).max())
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


def at(kinematics, start=None, **tools):
    """Joints with the named tools at (position, orientation) or position; the others at home. Searched from ``start``, or home."""
    positions, orientations = kinematics.forward(kinematics.home())
    for name, place in tools.items():
        arm = ("left", "right").index(name)
        positions[arm] = place[:3]
        if len(place) > 3:
            orientations[arm] = place[3:]
    found = kinematics.inverse(positions, orientations, kinematics.home() if start is None else start, max_iterations=300)
    assert found.converged.all()
    return found.q


def along(motion, q_from, q_to, seconds=1.0):
    """Straight in joint space, at rest at both ends."""
    times_ns = START_NS + np.arange(round(seconds * 50) + 1) * GRID_NS
    s = np.linspace(0, 1, len(times_ns))[:, None]
    way = q_to - q_from
    spline = JointSpline(
        times_ns,
        q_from + way * (10 * s**3 - 15 * s**4 + 6 * s**5),
        way * (30 * s**2 - 60 * s**3 + 30 * s**4) / seconds,
        way * (60 * s - 180 * s**2 + 120 * s**3) / seconds**2,
    )
    spline.velocities[-1] = spline.accelerations[-1] = 0.0
    return replace(motion, spline=spline)


def tilted(radians):
    """A tool's orientation that leans so far from straight down, to the side to which the fingers open, xyzw."""
    return (np.cos(radians / 2), 0.0, 0.0, -np.sin(radians / 2))


def test_places_agree_with_the_kinematics(context, kinematics, cell):
    random = np.random.default_rng(0)
    arms = len(cell.arms)
    q = random.uniform(np.tile(cell.limits.position_lower, arms), np.tile(cell.limits.position_upper, arms), (20, 14))
    v = random.normal(size=(20, 14))
    places = context.body.places(q, v)
    for k in range(20):
        jacobian = kinematics.jacobian(q[k])
        assert places.tools[k] == pytest.approx(kinematics.forward(q[k])[0], abs=1e-9)
        assert places.jacobians(np.array([k]))[0] == pytest.approx(jacobian, abs=1e-9)
        speeds = np.linalg.norm(np.einsum("aij,aj->ai", jacobian[:, :3], v[k].reshape(arms, 7)), axis=-1)
        assert places.tool_speeds[k] == pytest.approx(speeds)
        after = context.body.places((q[k] + 1e-6 * v[k])[None], v[k][None])
        joint, offset = context.body._elbow
        elbow, moved = ((p.origins + p.rotations @ offset)[joint] for p in (places, after))
        assert places.elbow_speeds[k] == pytest.approx(np.linalg.norm(moved[0] - elbow[k], axis=-1) / 1e-6, abs=1e-4)


def test_keep_out(motion, every, context, kinematics):
    """A hand that leans towards the table gets its palm below the tool."""
    low = (0.45, 0.12, 0.02)
    upright = at(kinematics, left=low)
    leaning = at(kinematics, upright, left=(*low, *tilted(0.9)))
    assert every["keep_out"].check(along(motion, kinematics.home(), upright)).ok
    verdict = every["keep_out"].check(along(motion, upright, leaning))
    assert verdict.reason is Reason.WORKSPACE and "plane 'table'" in verdict.text and "arm 'left'" in verdict.text
    back = along(motion, leaning, upright).spline
    deepest = int(every["keep_out"].outside(along(motion, leaning, upright).places).max(axis=1).argmax())
    out = JointSpline(*(rows[deepest:] for rows in (back.times_ns, back.positions, back.velocities, back.accelerations)))
    assert every["keep_out"].check(replace(motion, spline=out)).ok  # from behind it may come back
    assert LIMITS["keep_out"](safely(context, keep_out=())).check(along(motion, upright, leaning)).ok


def body_with(cell, kinematics, monkeypatch, solids=None, **safety):
    """A body of another safety section or other solids."""
    if solids is not None:
        monkeypatch.setattr("harmowam_gate.body.load_solids", lambda _: solids)
    return Body(cell.model_copy(update={"safety": cell.safety.model_copy(update=safety)}), kinematics)


@pytest.mark.parametrize("safety", [{"may_touch": ("tcp", "hand")}, {"elbow_link": "hand"}, {"may_touch": ("fr3_joint1",)}])
def test_links_that_the_robot_does_not_have_are_refused_by_name(cell, kinematics, monkeypatch, safety):
    [(field, links)] = safety.items()
    link = links if isinstance(links, str) else links[-1]
    with pytest.raises(KinematicsError, match=f"safety.{field} names the link '{link}', which .* lacks; .*link4.*tcp"):
        body_with(cell, kinematics, monkeypatch, **safety)


@pytest.mark.parametrize("keeps", [(), ("link0",)])
def test_planes_need_solids_to_keep_out_and_no_planes_need_none(cell, kinematics, monkeypatch, motion, keeps):
    solids = {link: load_solids(cell)[link] for link in keeps}
    with pytest.raises(KinematicsError, match=r"safety.keep_out.*describe the links in .*fr3.yaml"):
        body_with(cell, kinematics, monkeypatch, solids)
    body = body_with(cell, kinematics, monkeypatch, solids, keep_out=())
    assert body.distances.least(motion.spline.positions)[0].min() == cell.safety.self_clearance.slow


def test_tool_tilt(motion, every, kinematics, cell):
    place = (0.45, 0.12, 0.3)
    upright = at(kinematics, left=place)
    assert every["tool_tilt"].check(along(motion, upright, at(kinematics, left=(*place, *tilted(0.7))))).ok
    far = at(kinematics, left=(*place, *tilted(0.9)))
    verdict = every["tool_tilt"].check(along(motion, upright, far))
    assert verdict.reason is Reason.TOOL_TILT and verdict.measured == pytest.approx(0.9, abs=0.01) and verdict.limit == 0.75
    assert every["tool_tilt"].check(along(motion, far, upright)).ok


def test_singularity_slows_then_stops(motion, every, kinematics, context):
    """The arm stretches out."""
    stretched_out = at(kinematics, left=(0.62, 0.28, 0.55))
    conditions = [kinematics.condition_numbers(q)[0] for q in along(motion, kinematics.home(), stretched_out).spline.positions]
    worst = max(conditions)
    way = along(motion, kinematics.home(), stretched_out, seconds=1.0)
    slow = LIMITS["singularity"](safely(context, singularity=Zone(slow=worst * 0.6, stop=worst * 1.05))).check(way)
    assert slow.reason is Reason.SINGULARITY and slow.can_slow_down and slow.measured > slow.limit
    stop = LIMITS["singularity"](safely(context, singularity=Zone(slow=worst * 0.6, stop=worst * 0.8))).check(way)
    assert stop.reason is Reason.SINGULARITY and not stop.can_slow_down and stop.measured > stop.limit
    assert every["singularity"].check(along(motion, kinematics.home(), at(kinematics, left=(0.5, 0.1, 0.1)))).ok


def test_clearance_of_two_hands(motion, every, kinematics):
    """The hands are 20 cm wide along y: they meet before the tools do."""
    apart = at(kinematics, left=(0.5, 0.16, 0.2), right=(0.5, -0.16, 0.2))
    close = at(kinematics, left=(0.5, 0.115, 0.2), right=(0.5, -0.115, 0.2))
    meet = at(kinematics, left=(0.5, 0.09, 0.2), right=(0.5, -0.09, 0.2))
    verdict = every["clearance"].check(along(motion, apart, meet, seconds=2.0))
    assert verdict.reason is Reason.CLEARANCE and not verdict.can_slow_down
    assert "left" in verdict.text and "right" in verdict.text and "self" in verdict.text
    assert every["clearance"].check(along(motion, meet, apart)).ok  # they may part
    quick = every["clearance"].check(along(motion, apart, close, seconds=0.16))
    assert quick.reason is Reason.CLEARANCE and quick.can_slow_down and "close in" in quick.text
    assert every["clearance"].check(along(motion, apart, close, seconds=4.0)).ok


def test_clearance_of_what_stands_in_the_cell(motion, kinematics, context):
    pole = Obstacle(name="pole", lower=(0.44, 0.0, 0.0), upper=(0.48, 0.04, 0.9))
    crowded = replace(context, cell=context.cell.model_copy(update={"obstacles": (pole,)}))
    crowded = replace(crowded, body=Body(crowded.cell, kinematics))
    way = replace(along(motion, kinematics.home(), at(kinematics, left=(0.62, 0.02, 0.25)), seconds=2.0), body=crowded.body)
    verdict = LIMITS["clearance"](crowded).check(way)
    assert verdict.reason is Reason.CLEARANCE and "pole" in verdict.text


def test_stoppable(motion, every, kinematics, cell):
    """Towards the table at 0.5 m/s and stopped by the end of the path alone: a brake on the way would be too late."""
    floor = cell.workspace.lower[2]
    above, at_floor = at(kinematics, left=(0.45, 0.12, 0.15)), at(kinematics, left=(0.45, 0.12, floor + 0.002))
    diving = along(motion, above, at_floor, seconds=0.5)
    cut = diving.spline
    hard = replace(diving, spline=JointSpline(cut.times_ns[:18], cut.positions[:18], cut.velocities[:18], cut.accelerations[:18]))
    hard.spline.velocities[-3:] *= 3  # still fast where the plan is nearly down
    verdict = every["stoppable"].check(hard)
    assert verdict.reason is Reason.NOT_STOPPABLE and "braking" in verdict.text
    assert every["stoppable"].check(along(motion, above, at_floor, seconds=2.0)).ok


def test_freshness_and_tracking(motion, every):
    for name, reason, source in (
        ("freshness", Reason.CHUNK_STALE, Source(age_s=0.9, off_rad=0.0)),
        ("freshness", Reason.CHUNK_STALE, Source(age_s=np.nan, off_rad=0.0)),
        ("tracking", Reason.TRACKING_ERROR, Source(age_s=0.1, off_rad=0.13)),
        ("tracking", Reason.TRACKING_ERROR, Source(age_s=0.1, off_rad=np.nan)),
    ):
        assert every[name].check(replace(motion, source=source)).reason is reason
        assert every[name].check(motion).ok and every[name].check(replace(motion, source=None)).ok


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda names: (*names, "luck"), "luck.*known: finite, structure"),
        (lambda names: names[:-1], "lacks .'stoppable'"),
        (lambda names: (*names, "jerk"), "twice"),
        (lambda names: names[::-1], "'finite' comes first"),
    ],
)
def test_the_profile_names_every_limit_once(context, spoil, match):
    with pytest.raises(ValueError, match=match):
        stack(safely(context, limits=spoil(context.cell.safety.limits)))


def test_the_order_is_the_profile_s(context):
    names = context.cell.safety.limits
    turned = (names[0], *names[:0:-1])
    _, published = stack(safely(context, limits=turned))
    assert [type(limit) for limit in published.limits] == [LIMITS[name] for name in turned]
