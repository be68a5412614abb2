"""Every limit speaks through the whole arbiter: of plans, and of what is published, each where the other lets everything pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from drives import HOME, MOVING, PREDICTIVE

from harmowam_core.cell import Cell, Obstacle, Plane, Zone
from harmowam_core.status import Reason, Status
from harmowam_gate import mover
from harmowam_gate.brake import Brake
from harmowam_gate.joint_spline import JointSpline
from harmowam_gate.limits import LIMITS, MotionFilter
from harmowam_gate.limits.stoppable import StoppableLimit

TICKS = 24
MUTED = {"plan": "_filter", "published": "_plan_filter"}
"""By what is asked, what lets everything pass meanwhile."""
ASKED = [(stage, name) for name, limit in LIMITS.items() for stage in MUTED if stage == "published" or limit.for_plans]


@dataclass(frozen=True)
class Case:
    """A profile and a way of the left tool (m from home, after seconds) that one limit has to stop, and what the state has to say.

    lean: rad/s that the tool leans to the side. spoil: breaks, after the first tick, what keeps to the limit otherwise.
    """

    reason: Reason
    text: str
    profile: dict[str, Any] = field(default_factory=dict)
    velocity: tuple[float, float, float] = (0.1, 0.0, 0.0)
    lean: float = 0.0
    spoil: Callable[[Any, pytest.MonkeyPatch], None] = lambda rig, patch: None


def slow(name: str, value: float) -> dict[str, Any]:
    """A profile that allows so much of a quantity of every joint."""
    return {"limits": {name: (value,) * 7}}


def ends(change: Callable[[JointSpline], JointSpline]) -> Callable[[Any, pytest.MonkeyPatch], None]:
    """Every motion ends as ``change`` has it: in a brake, if it is published."""

    def spoil(rig: Any, patch: pytest.MonkeyPatch) -> None:
        plan, follow = rig.arbiter._mover._brake.plan, mover.follow
        patch.setattr(rig.arbiter._mover._brake, "plan", lambda *given: change(plan(*given)))
        patch.setattr(mover, "follow", lambda *given: change(follow(*given)))

    return spoil


def nan_at_the_end(spline: JointSpline) -> JointSpline:
    accelerations = spline.accelerations.copy()
    accelerations[-1, 3] = np.nan
    return replace(spline, accelerations=accelerations)


def moving_at_the_end(spline: JointSpline) -> JointSpline:
    velocities = spline.velocities.copy()
    velocities[-1] += 1e-3
    return replace(spline, velocities=velocities)


def shifted(rig: Any, patch: pytest.MonkeyPatch) -> None:
    between = JointSpline.between
    patch.setattr(JointSpline, "between", lambda *given: replace(part := between(*given), positions=part.positions + 1e-5))


def observed_long_ago(rig: Any, patch: pytest.MonkeyPatch) -> None:
    rig.arbiter._mover._plan.observed_ns -= 2_000_000_000


def off_the_set_point(rig: Any, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rig.arbiter.watch, "off_rad", lambda set_point: 0.2)
    patch.setattr(rig.arbiter.watch, "latching", lambda *given: ())


def weak_brakes(rig: Any, patch: pytest.MonkeyPatch) -> None:
    for limit in rig.arbiter._mover._plan_filter.limits + rig.arbiter._mover._filter.limits:
        if isinstance(limit, StoppableLimit):
            patch.setattr(limit, "_acceleration", limit._acceleration / 5)


POLE = Obstacle(name="pole", lower=(0.60, 0.10, 0.0), upper=(0.64, 0.14, 0.9))
CASES = {
    "finite": Case(Reason.NOT_FINITE, "accelerations of left_fr3_joint4 is nan", spoil=ends(nan_at_the_end)),
    "structure": Case(Reason.NOT_STOPPABLE, "the last point is not at rest", spoil=ends(moving_at_the_end)),
    "freshness": Case(Reason.CHUNK_STALE, "derives from an observation", spoil=observed_long_ago),
    "continuity": Case(Reason.JUMP, "would step by", spoil=shifted),
    "tracking": Case(Reason.TRACKING_ERROR, "from its set-point, limit", spoil=off_the_set_point),
    "position": Case(Reason.POSITION_LIMIT, "left_fr3_joint", {"limits": {"position_upper": (0.0,) * 7}}),
    "velocity": Case(Reason.VELOCITY_LIMIT, "rad/s, limit", slow("velocity", 0.02)),
    "acceleration": Case(Reason.ACCELERATION_LIMIT, "rad/s^2, limit", slow("acceleration", 0.3)),
    "jerk": Case(Reason.JERK_LIMIT, "rad/s^3, limit", slow("jerk", 20.0)),
    "tcp_speed": Case(Reason.TCP_SPEED, "the tool of arm 'left'", {"safety": {"tcp_speed": 0.05}}),
    "elbow_speed": Case(Reason.TCP_SPEED, "the elbow of arm 'left'", {"safety": {"elbow_speed": 0.005}}),
    "workspace": Case(Reason.WORKSPACE, "would leave the workspace", {"workspace": {"upper": (0.42, 0.65, 0.70)}}),
    "keep_out": Case(
        Reason.WORKSPACE, "behind the plane 'wall'", {"safety": {"keep_out": (Plane(name="wall", normal=(-1.0, 0.0, 0.0), offset=0.0),)}}
    ),
    "tool_tilt": Case(Reason.TOOL_TILT, "would lean", {"safety": {"tool_tilt": 0.01}}, lean=0.3),
    "singularity": Case(Reason.SINGULARITY, "near a singularity", {"safety": {"singularity": Zone(slow=1.0, stop=1.1)}}),
    "clearance": Case(Reason.CLEARANCE, "and pole would", {"obstacles": (POLE,), "safety": {"scene_clearance": Zone(slow=0.3, stop=0.02)}}),
    # The path ends inside, at full speed.
    "stoppable": Case(Reason.NOT_STOPPABLE, "braking on the way", {"workspace": {"upper": (0.524, 0.65, 0.7)}}, spoil=weak_brakes),
}


def profile_of(cell: Cell, changes: dict[str, Any]) -> Cell:
    """With parts of sections, or whole sections, changed."""
    return cell.model_copy(
        update={
            part: getattr(cell, part).model_copy(update=values) if isinstance(values, dict) else values for part, values in changes.items()
        }
    )


@pytest.mark.parametrize(("stage", "name"), ASKED)
def test_the_arbiter_asks_every_limit(
    cell: Cell, make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, stage: str, name: str
) -> None:
    case = CASES[name]
    rig = make_rig(cell=profile_of(cell, case.profile), selector="predictive", max_slow_down=1.0, chunk_max_age_s=3.0)
    arms = rig.arbiter._mover
    monkeypatch.setattr(arms, MUTED[stage], MotionFilter([]))
    # What chunks are cut to, and brakes are made for, is not what this is about.
    monkeypatch.setattr(rig.arbiter._selection._schedule, "_upper", np.array([2.0, 2.0, 2.0]))
    monkeypatch.setattr(arms, "_brake", Brake(cell))
    rig.arbiter.start_task("go", rig.now_ns)
    chunk = rig.chunk(PREDICTIVE, lambda t: HOME + np.array(case.velocity) * t)
    lean = case.lean * 0.1 * np.arange(1, 13)
    orientations = chunk.orientations.copy()
    orientations[:, 0] = np.stack([np.cos(lean / 2), 0 * lean, 0 * lean, -np.sin(lean / 2)], axis=-1)
    chunk = replace(chunk, orientations=orientations)
    if stage == "plan":
        case.spoil(rig, monkeypatch)
    rig.arbiter.on_chunk(chunk, rig.now_ns)
    for tick in range(TICKS):
        state = rig.tick().state
        if state.status not in MOVING:
            break
        if tick == 0 and stage == "published":
            case.spoil(rig, monkeypatch)
    assert (state.status, state.reason) == (Status.HOLDING, case.reason), state.text
    assert case.text in state.text
