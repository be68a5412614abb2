"""Rows 17 and 22: an arbiter that must not come up. A process of its own in a ROS domain of its own; the graph of the others waits."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from harmowam_msgs.msg import ActionChunk
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from safetensors.numpy import load_file, save_file
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.faults.fault_graph import FaultGraph, launch_faults
from harmowam_bringup.faults.observer import StateSeen
from harmowam_bringup.faults.scenario import Measured, Reaction, Scenario, stolen_s
from harmowam_bringup.launch_yaml import Launch
from harmowam_bringup.session import GraphError, GraphSession, free_domain
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.presets import load_preset
from harmowam_core.stages import Expert
from harmowam_gate.gate_network import GATE_FILE

COMES_UP_S = 40.0


class _Lone(GraphSession):
    """One arbiter; ``lines`` are what it said, with the steady time, ns, at which it was heard."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        domain_id = free_domain()
        [arbiter] = [process for process in launch_faults(domain_id).processes if process.node == "arbiter"]
        given = ({"/**": {"ros__parameters": {"autostart_attempts": 1, **parameters}}},)
        super().__init__(Launch(processes=[replace(arbiter, parameters=given, respawn=False)]), folder / "lone.log", domain_id)
        self.lines: list[tuple[int, str]] = []

    def _note(self, line: Any) -> None:
        self.lines.append((time.monotonic_ns(), line.text))
        super()._note(line)

    def check(self) -> None:
        """Its end is what is waited for."""
        self.supervisor.poll()

    def hears(self, *words: str) -> Reaction | None:
        """The first line with all these words, as soon as it comes."""

        def found() -> list[tuple[int, str]]:
            return [(at_ns, text) for at_ns, text in self.lines if all(word in text for word in words)]

        try:
            self.spin(found, COMES_UP_S, str(words))
        except GraphError:
            return None
        at_ns, text = found()[0]
        return Reaction(at_ns, text)


class _MustNotComeUp(Scenario):
    in_soak = False

    def inject(self, graph: FaultGraph, variant: str) -> int:
        raise NotImplementedError("this runs beside the graph")

    def is_reaction(self, state: StateSeen) -> bool:
        return False

    def run(self, graph: FaultGraph, repetition: int = 0) -> Measured:
        """As of Scenario; ``graph`` is left in peace."""
        variant, stolen_before_s = self.variants[repetition % len(self.variants)], stolen_s()
        with tempfile.TemporaryDirectory(prefix="harmowam_lone_") as name:
            began_ns, reaction, complaints = self.watch(Path(name), variant)
        reaction_s, text = (None, "") if reaction is None else ((reaction.at_ns - began_ns) * 1e-9, reaction.text)
        return Measured(self.row, self.name, variant, self.bound_s, reaction_s, text, tuple(complaints), stolen_s() - stolen_before_s)

    def watch(self, folder: Path, variant: str) -> tuple[int, Reaction | None, list[str]]:
        """When the fault began, what was said, and complaints."""
        raise NotImplementedError


class QosMismatch(_MustNotComeUp):
    row, name, fault = 17, "qos_mismatch", "someone's quality of service does not fit; timed from when the middleware finds that out"
    expected = "not active, and the topic is named"
    bound_s = 2.0
    variants = ("chunk", "command")

    def watch(self, folder: Path, variant: str) -> tuple[int, Reaction | None, list[str]]:
        """A best-effort publisher of chunks, or a transient-local subscriber of commands."""
        with _Lone(folder) as lone:
            found_ns: list[int] = []

            def found(_: object) -> None:
                found_ns.append(time.monotonic_ns())

            if variant == "chunk":
                topic = topics.chunk(Expert.REACTIVE)
                wrong = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
                lone.node.create_publisher(ActionChunk, topic, wrong, event_callbacks=PublisherEventCallbacks(incompatible_qos=found))
            else:
                topic = load_cell().controllers.arm_topic
                wrong = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
                events = SubscriptionEventCallbacks(incompatible_qos=found)
                lone.node.create_subscription(JointTrajectory, topic, lambda _: None, wrong, event_callbacks=events)
            reaction = lone.hears("quality of service", topic)
            if reaction is None:
                return 0, None, [f"{topic} was not named within {COMES_UP_S:.0f} s"]
            lone.spin_for(1.2)  # a round of diagnostics
            state = lone.nodes["/arbiter"].state if "/arbiter" in lone.nodes else "silent"
            complaints = ["the arbiter is active"] if state == "active" else []
            if not found_ns:
                complaints.append("the middleware did not find out")
            return (found_ns or [reaction.at_ns])[0], reaction, complaints


def _missing(path: Path) -> None:
    path.unlink()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _wrong_shape(path: Path) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    save_file({**tensors, name: tensors[name].repeat(2, axis=0)}, path)


class BadCheckpoint(_MustNotComeUp):
    row, name, fault = (
        22,
        "bad_checkpoint",
        "the gate's weights are missing, cut in half or of another shape; timed from the start",
    )
    expected = "configuring fails, the file is named, the process ends with an error"
    bound_s = COMES_UP_S
    damage: ClassVar = {"missing": _missing, "truncated": _truncated, "wrong_shape": _wrong_shape}
    variants = tuple(damage)

    def watch(self, folder: Path, variant: str) -> tuple[int, Reaction | None, list[str]]:
        """A copy of the weights is damaged."""
        path = folder / GATE_FILE
        shutil.copy(load_preset("compact").weights_dir() / GATE_FILE, path)
        self.damage[variant](path)
        began_ns = time.monotonic_ns()
        with _Lone(folder, weights_directory=str(folder)) as lone:
            reaction = lone.hears("configure failed", str(path))
            if reaction is None:
                return began_ns, None, [f"it did not say what is wrong with {path}"]
            with suppress(GraphError):
                lone.spin(lambda: lone.supervisor.exits, 10.0, "its end")
            codes = [ended.code for ended in lone.supervisor.exits]
            return began_ns, reaction, [] if codes == [1] else [f"it ended with {codes}, expected [1]"]
