"""Rows 8-10, 16, 25: what the arbiter sees and hears goes wrong on its way."""

from __future__ import annotations

import time
from typing import ClassVar

from harmowam_msgs.msg import GateState
from sensor_msgs.msg import Image

from harmowam_bringup.drill.garbage import Garbage
from harmowam_bringup.faults.fault_graph import FaultGraph
from harmowam_bringup.faults.models import MODELS_MAX_AGE_S, last_chunk_ns
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import Reaction, Scenario
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.messages import image_to_message, optical_frame
from harmowam_core.qos import SENSOR
from harmowam_core.stages import UInt8
from harmowam_core.status import Reason, Status
from harmowam_gate.settings import ArbiterSettings
from harmowam_sim.demonstrators import open_cell
from harmowam_sim.environments import sample_episode
from harmowam_sim.splits import Start

SCENE = topics.camera_image("scene")


class CameraOff(Scenario):
    row, name, fault = 8, "camera_off", "the scene camera, or all of them, send nothing more"
    expected = "HOLDING at the age limit, stale (not frozen)"
    bound_s = ArbiterSettings().image_max_age_s + 0.04
    variants = ("scene", "all")
    stops = True

    def inject(self, graph: FaultGraph, variant: str) -> int:
        cameras = [camera.name for camera in load_cell().cameras] if variant == "all" else [variant]
        return min(graph.relay(topics.camera_image(camera), "off") for camera in cameras)

    def is_reaction(self, state: StateSeen) -> bool:
        stale = (Reason.OBSERVATION_STALE, Reason.CHUNK_STALE)
        return state.status is Status.HOLDING and state.reason in stale

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        """When the newest observation in use was made."""
        state = next(state for state in graph.observer.states(injected_ns) if state.at_ns == reaction.at_ns)
        return state.at_ns - round(state.age_s * 1e9)


class CameraStuck(Scenario):
    row, name, fault = 9, "camera_stuck", "the scene camera repeats one picture under fresh stamps"
    expected = "HOLDING, IMAGE_FROZEN"
    bound_s = 0.5
    stops = True

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.relay(SCENE, "stuck")

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.HOLDING and state.reason is Reason.IMAGE_FROZEN


class JointStatesLost(Scenario):
    row, name, fault = 10, "joint_states_lost", "no joint states any more, in mid-motion; timed from the last one's stamp"
    expected = "LATCHED, JOINT_STATES_LOST"
    bound_s = 0.06
    stops = False  # nobody measures it any more

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.relay(topics.JOINT_STATES, "off")

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and state.reason is Reason.JOINT_STATES_LOST

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        return graph.observer.joints(injected_ns - 1_000_000_000)[-1].sent_ns


class JointStatesNotFinite(Scenario):
    row, name, fault = 10, "joint_states_not_finite", "joint states with NaN; timed from the first one's stamp"
    expected = "LATCHED, JOINT_STATES_LOST or NOT_FINITE"
    bound_s = 0.06

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.relay(topics.JOINT_STATES, "garbage", float(Garbage.NOT_FINITE))

    def is_reaction(self, state: StateSeen) -> bool:
        return state.status is Status.LATCHED and state.reason in (Reason.JOINT_STATES_LOST, Reason.NOT_FINITE)

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        return next(joints.sent_ns for joints in graph.observer.joints(injected_ns) if not joints.sound)


class LinkLost(Scenario):
    """Messages from a host that is no longer heard, or heard late: what is too old is not followed."""

    row, name, fault = 16, "link_lost", "imaginations are lost, or come 2 s late; timed from when the newest data reach their age limit"
    expected = "HOLDING on age"
    bound_s = 0.1
    variants = ("off", "delayed")
    stops = True

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.relay(topics.IMAGINATION, variant, 2.0 if variant == "delayed" else 0.0)

    def is_reaction(self, state: StateSeen) -> bool:
        stale = (Reason.CHUNK_STALE, Reason.OBSERVATION_STALE)
        return state.status is Status.HOLDING and state.reason in stale

    def began_ns(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> int:
        return last_chunk_ns(graph, reaction.at_ns) + round(MODELS_MAX_AGE_S * 1e9)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        """What comes late is never executed."""
        graph.rest(1.5)
        states = graph.observer.states(reaction.at_ns)
        late = [state for state in states if state.moving and not state.followed_age_s <= MODELS_MAX_AGE_S]
        return [f"data of {late[0].followed_age_s:.2f} s ago were followed: {late[0].text}"] if late else []


class LinkRepeats(Scenario):
    row, name, fault = 16, "link_repeats", "imaginations arrive twice, or in the wrong order"
    expected = "the repeated chunks are refused as OUT_OF_ORDER, the arm goes on"
    bound_s = 1.0  # the first repetition is still to come, at 5 Hz
    variants = ("duplicated", "reordered")

    def inject(self, graph: FaultGraph, variant: str) -> int:
        return graph.relay(topics.IMAGINATION, variant)

    def is_reaction(self, state: StateSeen) -> bool:
        return state.reason is Reason.OUT_OF_ORDER

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        graph.rest(0.5)
        stopped = [state for state in graph.observer.states(injected_ns) if state.safe]
        return [f"the arm was stopped: {state.text}" for state in stopped[:1]]


class GateOscillates(Scenario):
    """Pictures that the gate takes for transit and for interaction in turn, ten a second."""

    row, name, fault = 25, "gate_oscillates", "the gate's score swings from one extreme to the other with every picture"
    expected = "the phase changes, never faster than its dwell; no jerk where the experts hand over"
    bound_s = 1.0
    lasts_s = 3.0
    in_soak = False
    episodes: ClassVar[tuple[tuple[Start, int], ...]] = (("home", 0), ("near_goal", 2))
    """Starts that the gate's network scores close to 0 and 1."""

    def inject(self, graph: FaultGraph, variant: str) -> int:
        self._graph, self._cell = graph, load_cell()
        self._pictures = [_pictures(start, seed) for start, seed in self.episodes]
        self._publishers = {
            camera.name: graph.node.create_publisher(Image, topics.camera_image(camera.name), SENSOR) for camera in self._cell.cameras
        }
        graph.spin_for(0.3)
        for camera in self._cell.cameras:
            graph.relay(topics.camera_image(camera.name), "off")
        return time.monotonic_ns()

    def is_reaction(self, state: StateSeen) -> bool:
        return state.phase == GateState.PHASE_INTERACTION

    def react(self, graph: FaultGraph, injected_ns: int) -> Reaction | None:
        """Show the pictures."""
        for number in range(round(self.lasts_s * 10)):
            stamp_ns = graph.node.get_clock().now().nanoseconds
            for camera, publisher in self._publishers.items():
                publisher.publish(image_to_message(self._pictures[number % 2][camera], stamp_ns, optical_frame(camera)))
            graph.rest(0.1)
        return super().react(graph, injected_ns)

    def afterwards(self, graph: FaultGraph, injected_ns: int, reaction: Reaction) -> list[str]:
        states = graph.observer.states(injected_ns)
        changes_ns = [after.at_ns for before, after in zip(states, states[1:], strict=False) if before.phase != after.phase]
        gaps_s = [(after - before) * 1e-9 for before, after in zip(changes_ns, changes_ns[1:], strict=False)]
        complaints = [f"the arm was stopped: {state.text}" for state in states if state.safe][:1]
        if len(changes_ns) < 4:
            complaints.append(f"only {len(changes_ns)} changes of the phase: nothing was tested")
        shortest_s = ArbiterSettings().gate_dwell_s - 0.1  # a picture's period, within which scores are told
        return complaints + [f"the phase changed again after {gap_s:.2f} s" for gap_s in gaps_s if not gap_s >= shortest_s][:1]

    def heal(self, graph: FaultGraph) -> None:
        for publisher in self._publishers.values():
            graph.node.destroy_publisher(publisher)


def _pictures(start: Start, seed: int) -> dict[str, UInt8]:
    """Of the beginning of an episode, by camera."""
    with open_cell(sample_episode("pick_fruit", "in_domain", seed, start=start), load_cell()) as sim:
        return {camera.name: sim.render(camera.name) for camera in sim.cell.cameras}
