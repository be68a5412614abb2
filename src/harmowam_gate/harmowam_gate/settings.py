"""What can be tuned in the arbiter, each with its bounds; the node declares these as its parameters."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from harmowam_core.stages import Expert

BRAKE_S = 0.25  # from 1.7 rad/s at 10 rad/s^2
STALL_PERIODS = 2.5  # one tick that is missed is no stall
Selector = Literal["gate", "predictive", "reactive", "average", "keyframe_average"]


class ArbiterSettings(BaseModel):
    """Immutable; an invalid value raises pydantic's ValidationError, which names the field and the bound."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    selector: Selector = Field(
        default="gate",
        description="Whose actions are followed: as the gate says, always one expert, always the mean of both, or their mean in "
        "interaction and the reactive expert in transit (keyframe_average).",
    )

    gate_threshold: float = Field(default=0.5, ge=0.05, le=0.95, description="Gate score above which the arm interacts.")
    gate_hysteresis: float = Field(
        default=0.1, ge=0, le=0.45, description="How far beyond the threshold a score must lie to change the phase."
    )
    gate_dwell_s: float = Field(default=0.3, ge=0, le=5, description="Shortest time between two changes of the phase.")

    chunk_max_age_s: float = Field(
        default=0.8, ge=0.1, le=3, description="Oldest observation whose chunk of the predictive expert is still followed."
    )
    reactive_max_age_s: float = Field(
        default=0.65, ge=0.1, le=3, description="Oldest observation whose chunk of the reactive expert is still followed."
    )
    gate_max_age_s: float = Field(default=0.8, ge=0.1, le=3, description="Oldest observation whose gate score is still believed.")
    image_max_age_s: float = Field(default=0.8, ge=0.1, le=3, description="Age of a camera's last picture at which the arm holds.")
    frozen_image_s: float = Field(
        default=0.25, ge=0.1, le=3, description="How long fresh pictures may stay the same, pixel by pixel, while the arm moves."
    )
    frozen_image_m: float = Field(default=0.005, ge=0.001, le=0.1, description="How far a tool must move for its picture to change.")
    joint_state_max_age_s: float = Field(default=0.045, ge=0.01, le=0.5, description="Age at which joint states count as lost.")
    drift_high: float = Field(default=1.0, ge=0.1, le=100, description="Drift score above which less of a chunk is executed.")
    drift_execute_s: float = Field(default=0.6, ge=0.2, le=3, description="How much of a chunk is executed under drift.")
    drift_max_age_s: float = Field(default=2.0, ge=0.2, le=10, description="Age at which a drift score says nothing any more.")
    target_step_m: float = Field(default=0.12, ge=0.01, le=0.5, description="Longest way between two targets of a chunk.")
    target_turn_rad: float = Field(default=0.6, ge=0.05, le=3.2, description="Largest turn between two targets of a chunk.")
    jump_m: float = Field(default=0.15, ge=0.01, le=0.5, description="Furthest that a chunk may begin from where the tool will be.")
    workspace_slack_m: float = Field(
        default=0.03, ge=0, le=0.2, description="How far outside the workspace a target is still moved onto its face."
    )
    park_radius_m: float = Field(default=0.03, ge=0, le=0.2, description="An arm at home whose targets all stay this close to home rests.")
    park_turn_rad: float = Field(default=0.25, ge=0, le=1, description="The same for the tool's orientation.")

    lead_s: float = Field(
        default=0.02, ge=0.005, le=0.05, description="Until when the last trajectory is repeated unchanged, so that it can arrive."
    )
    lookahead_s: float = Field(default=0.2, ge=0.04, le=0.5, description="How far a trajectory follows the path before it brakes to rest.")
    blend_s: float = Field(default=0.3, ge=0.05, le=1, description="Time to pass from one chunk's path to the next one's.")
    hand_over_s: float = Field(default=0.3, ge=0.05, le=1, description="Time to pass from one expert's path to the other's.")
    smoothing_hz: float = Field(default=2.0, ge=0.5, le=5, description="Frequency at which the noise between a chunk's targets is halved.")
    max_slow_down: float = Field(default=3.0, ge=1, le=10, description="How much a path may be stretched in time to keep to the limits.")
    publish_s: float = Field(default=0.04, ge=0.005, le=0.1, description="How often a trajectory is sent while the plan stays the same.")
    rest_s: float = Field(default=0.5, ge=0.2, le=0.5, description="Every trajectory is at rest so long after it was sent.")
    tracking_rad: float = Field(
        default=0.12,
        ge=0.005,
        le=1,
        description="Furthest that a joint may be from its set-point; a hand that grasps is pushed 0.07 rad away.",
    )
    blocked_rad: float = Field(
        default=0.01,
        ge=0.002,
        le=1,
        description="Furthest that a joint that stands still may be behind a set-point that moves on; more for a driver that follows late.",
    )
    stall_s: float = Field(default=0.1, ge=0.03, le=2, description="Time without a tick after which everything waiting is discarded.")
    deadline_slow_misses: int = Field(default=1, ge=1, le=25, description="More ticks missed within 0.5 s slow the arm.")
    deadline_hold_misses: int = Field(default=10, ge=1, le=25, description="More ticks missed within 0.5 s hold it.")
    slowed_pace: float = Field(default=0.5, ge=0.1, le=1, description="Share of the speed while ticks are missed.")

    latch_gripper: bool = Field(default=True, description="Keep the grippers as they are while the reactive expert drives in transit.")
    gripper_hysteresis: float = Field(
        default=0.1, ge=0, le=0.45, description="How far beyond one half an opening must lie to change the gripper."
    )
    finger_speed_m_s: float = Field(default=0.1, ge=0.1, le=0.2, description="Speed of a finger.")

    time_limit_s: float = Field(default=90.0, ge=1, le=3600, description="Longest that a task may take unless its goal says otherwise.")
    done_transit_s: float = Field(
        default=2.0, ge=0.1, le=30, description="How long the hand must be in transit after a release to call the task done."
    )


def check_timing(settings: ArbiterSettings, rate: float, late_s: float) -> None:
    """ValueError where times do not fit each other at ``rate``, Hz. A plan is sent a tick after it was made, or ``late_s`` later still."""
    lead_s, publish_s = settings.lead_s, settings.publish_s
    sent_s = lead_s + max(2 / rate, publish_s + 1 / rate) + late_s
    if not settings.lookahead_s > sent_s:
        raise ValueError(
            f"lookahead_s {settings.lookahead_s} is not above {sent_s:.3f} s, which lead_s {lead_s}, publish_s {publish_s} and "
            f"rate {rate:g} take: trajectories would brake before the next ones come; "
            "raise lookahead_s or rate, or lower lead_s or publish_s"
        )
    if not settings.rest_s > sent_s + BRAKE_S:
        raise ValueError(
            f"rest_s {settings.rest_s} is not above {sent_s + BRAKE_S:.3f} s, which lead_s {lead_s}, publish_s {publish_s}, rate {rate:g} "
            f"and {BRAKE_S} s of braking take: trajectories would brake before the next ones come; raise rest_s or rate"
        )
    if not settings.stall_s >= STALL_PERIODS / rate:
        raise ValueError(
            f"stall_s {settings.stall_s} is below {STALL_PERIODS / rate:.3f} s, {STALL_PERIODS} periods of rate {rate:g}: "
            "a tick that comes late would discard what waits; raise stall_s or rate"
        )


def max_age_s(settings: ArbiterSettings, expert: Expert | None) -> float:
    """How old an observation may be that an expert's motion (None: the mean of both) derives from. The reactive expert reads imagined
    frames, the predictive one corrects itself by what it sees: it lasts longer.
    """
    ages_s = {Expert.PREDICTIVE: settings.chunk_max_age_s, Expert.REACTIVE: settings.reactive_max_age_s}
    return max(ages_s.values()) if expert is None else ages_s[expert]


def bounds(field: FieldInfo) -> dict[str, Any]:
    """What a parameter of this field may be: ``lower`` and ``upper``, or ``choices``."""
    if get_origin(field.annotation) is Literal:
        return {"choices": get_args(field.annotation)}
    limits = {type(mark): mark for mark in field.metadata}
    if Ge not in limits:
        return {}
    return {"lower": limits[Ge].ge, "upper": limits[Le].le}
