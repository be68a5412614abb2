"""Rows 11-15: the arm, its driver, the arbiter itself, and who else commands."""

from __future__ import annotations

import math
import signal
import time

from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import PATIENCE_S, Reaction, Scenario
from harmowam_core.cell import load_cell
from harmowam_core.qos import COMMAND
from harmowam_core.status import Reason, Status

FAST_RAD_S = 0.25
"""A slower joint is found out later: what is watched is how far it falls behind."""
RECENT_NS = 50_000_000
STILL_NS = 200_000_000
"""An arm that was still for so long has come to rest."""
STOPPED_S = 2.0
RETURN_S = 30.0


class ArmStuck(Scenario):
    row, name, fault = (
        11,
        "arm_stuck",
        "a joint's drive stays where it is, at 0.25 rad/s or more and not slowing down; timed from when physics freezes it",
    )
    expected = "LATCHED, TRACKING_ERROR"
    bound_s = 0.1
    stops = True

    def inject(self, graph: FaultGraph, variant: str) -> int:
        fastest = _speeding_joint(graph)
        at_ns = time.monotonic_ns()
        done, why = graph.set_parameter("cell", "frozen_joints", fastest)
        if not done:
            raise RuntimeError(f"the cell does not freeze {fastest}: {why}")
        return at_ns

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        return graph.said("cell", "frozen joints", injected_ns)

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and state.reason is Reason.TRACKING_ERROR

    def heal(self, graph: FaultGraph) -> None:
        graph.set_parameter("cell", "frozen_joints", "")


def _speeding_joint(graph: FaultGraph) -> str:
    """The fastest joint, once it is fast and does not slow down: one about to turn back would hardly be missed."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        recent = graph.observer.joints(time.monotonic_ns() - RECENT_NS)
        if recent and recent[-1].speed >= max(FAST_RAD_S, recent[0].speed) and recent[-1].fastest == recent[0].fastest:
            return recent[-1].fastest
        graph.rest(0.01)
    raise RuntimeError(f"no joint moves at {FAST_RAD_S} rad/s without slowing down")


def comes_to_rest(graph: FaultGraph, since_ns: int) -> Reaction | None:
    """When the arm's measured motion ended."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        rests_ns = graph.rests_since_ns(since_ns)
        if rests_ns is not None and time.monotonic_ns() - rests_ns > STILL_NS:
            return Reaction(rests_ns, "the arm rests, as measured")
        graph.rest(0.03)
    return None


class ArbiterKilled(Scenario):
    row, name, fault = 12, "arbiter_killed", "the arbiter is killed; timed until the arm rests, as measured"
    expected = "the arm at rest by itself"
    bound_s = 0.5

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.signal("arbiter", signal.SIGKILL)

    def is_reaction(self, state: StateSeen) -> bool:
        return False

    def react(self, graph: FaultGraph, injected_ns: int) -> Reaction | None:
        return comes_to_rest(graph, injected_ns)


class ArbiterFrozen(Scenario):
    row, name, fault = 13, "arbiter_frozen", "the arbiter is stopped for 2 s and goes on; timed until the arm rests, as measured"
    expected = "the arm at rest by itself, and no motion from what queued up meanwhile"
    bound_s = 0.5

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.signal("arbiter", signal.SIGSTOP)

    def is_reaction(self, state: StateSeen) -> bool:
        return False

    def react(self, graph: FaultGraph, injected_ns: int) -> Reaction | None:
        return comes_to_rest(graph, injected_ns)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        """The first thing that is said after waking up is that ticks were missed; motion needs data of after it."""
        while time.monotonic_ns() - injected_ns < STOPPED_S * 1e9:
            graph.rest(0.05)
        woken_ns = graph.signal("arbiter", signal.SIGCONT)
        state = graph.first_state(woken_ns, lambda state: True, PATIENCE_S)
        if state is None:
            return ["no state after it went on"]
        ages_s = [age_s for age_s in (state.predictive_age_s, state.reactive_age_s) if not math.isnan(age_s)]
        if state.moving and not min(ages_s, default=math.inf) < 0.5:
            return [f"it moves on data of before: {state.text}"]
        return []


class DriverRestarts(Scenario):
    row, name, fault = 14, "driver_restarts", "the arm's driver is killed, and starts again elsewhere than it was"
    expected = "LATCHED (JOINT_STATES_LOST or DRIVER_RESTARTED), also when it is back"
    bound_s = 0.2

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.signal("cell", signal.SIGKILL)

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and state.reason in (Reason.JOINT_STATES_LOST, Reason.DRIVER_RESTARTED)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        back = graph.first_joints(reaction.at_ns + 100_000_000, lambda joints: True, RETURN_S)
        if back is None:
            return [f"no joint states {RETURN_S:.0f} s after the driver was killed"]
        graph.rest(1.0)
        unlatched = [state for state in graph.observer.states(back.at_ns) if state.status is not Status.LATCHED]
        return [f"it goes on without a reset: {unlatched[0].text}"] if unlatched else []


class SecondPublisher(Scenario):
    row, name, fault = 15, "second_publisher", "another node opens a publisher on the command topic of the arm or of the gripper"
    expected = "LATCHED, SECOND_PUBLISHER"
    bound_s = 0.2
    variants = ("arm", "gripper")
    stops = True
    allowed_rules = frozenset({"second_publisher"})

    def inject(self, graph: FaultGraph, variant: str) -> int:
        controllers = load_cell().controllers
        topic = {"arm": controllers.arm_topic, "gripper": controllers.gripper_topic}[variant]
        at_ns = time.monotonic_ns()
        self._rogue = graph.node.create_publisher(JointTrajectory, topic, COMMAND)
        return at_ns

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and state.reason is Reason.SECOND_PUBLISHER

    def heal(self, graph: FaultGraph) -> None:
        graph.node.destroy_publisher(self._rogue)
