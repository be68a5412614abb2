"""Stages and messages as Rerun entities. Plain Python: nothing here knows whether they come from a live graph or from a bag."""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rerun as rr

from harmowam_bringup.bags.stamps import PLAUSIBLE_MS
from harmowam_bringup.palette import EXPERT_COLOURS, IMAGINED, rgb
from harmowam_bringup.robot_description import robot_description
from harmowam_bringup.watch import entities
from harmowam_core.cell import Cell
from harmowam_core.health import Level
from harmowam_core.images import prepare_image
from harmowam_core.messages import optical_frame
from harmowam_core.stages import ActionChunk, Drift, Expert, Imagination, JointState, UInt8
from harmowam_core.status import GateState, Status

APPLICATION = "harmowam"
AHEAD_S = 0.6
"""How long before now the frame was imagined that is shown beside what came."""
STRIP_EVERY = 3
SCENE_PLANE_M, WRIST_PLANE_M = 0.12, 0.04  # how far from the lens pictures hang in space; those at the hands must not hide the paths
BRIGHT, FAINT = 255, 70
_LEVELS = {Level.OK: rr.TextLogLevel.INFO, Level.WARN: rr.TextLogLevel.WARN, Level.ERROR: rr.TextLogLevel.ERROR}


class RerunLog:
    """Writes one cell's stages into a Rerun recording; every method takes the time of arrival, ns, which orders everything."""

    def __init__(self, stream: rr.RecordingStream, cell: Cell) -> None:
        self._stream = stream
        self._imaginations: deque[Imagination] = deque(maxlen=20)
        self._followed: Expert | None = None
        self._states: dict[str, str] = {}
        self._said: dict[str, str] = {}
        with tempfile.TemporaryDirectory() as folder:
            urdf = Path(folder, f"{cell.name}.urdf")
            urdf.write_text(robot_description(cell))
            self._robot = rr.urdf.UrdfTree.from_file_path(urdf)
        self._joints = {joint.name: joint for joint in self._robot.joints() if joint.joint_type != "fixed"}
        self._mirrored = {joint.mimic.joint: joint for joint in self._joints.values() if joint.mimic is not None}
        self._log_what_stays(cell)

    def _log_what_stays(self, cell: Cell) -> None:
        self._robot.log_urdf_to_recording(self._stream)
        for entity in (entities.WORKSPACE, entities.GROUNDING, *(entities.path(expert) for expert in Expert)):
            self._stream.log(entity, rr.CoordinateFrame(cell.base_frame), static=True)
        box = rr.Boxes3D(
            mins=[cell.workspace.lower],
            sizes=[np.subtract(cell.workspace.upper, cell.workspace.lower)],
            colors=(150, 150, 150),
            fill_mode="MajorWireframe",
        )
        self._stream.log(entities.WORKSPACE, box, static=True)
        for camera in cell.cameras:
            frame = f"{camera.name}_image"
            pinhole = rr.Pinhole(
                image_from_camera=camera.intrinsics,
                width=camera.width,
                height=camera.height,
                image_plane_distance=SCENE_PLANE_M if camera.mounted_on is None else WRIST_PLANE_M,
                parent_frame=optical_frame(camera.name),
                child_frame=frame,
            )
            self._stream.log(entities.camera(camera.name), pinhole, rr.CoordinateFrame(frame), static=True)

    def joint_state(self, state: JointState, received_ns: int) -> None:
        """Pose the arms; joints that the cell does not have are left out."""
        self._at(received_ns)
        for name, position in zip(state.names, state.positions, strict=True):
            for joint in (self._joints.get(name), self._mirrored.get(name)):
                if joint is not None:
                    self._stream.log(entities.joint(joint.name), joint.compute_transform(float(position), clamp=False))

    def image(self, camera: str, image: UInt8, stamp_ns: int, received_ns: int) -> None:
        """A camera's picture, and for the scene what had been imagined for this moment."""
        self._at(received_ns)
        self._stream.log(entities.camera(camera), rr.Image(image).compress(jpeg_quality=85))
        if camera == "scene":
            self._compare(image, stamp_ns)

    def _compare(self, image: UInt8, stamp_ns: int) -> None:
        for imagination in reversed(self._imaginations):
            index = round((stamp_ns - imagination.stamp_ns) * 1e-9 / imagination.frame_period_s)
            if index * imagination.frame_period_s >= AHEAD_S:
                if index < len(imagination.frames):
                    self._stream.log(entities.FOR_NOW, rr.Image(imagination.frames[index]))
                    self._stream.log(entities.CAME, rr.Image(prepare_image(image, imagination.frames.shape[1:3])))
                return

    def imagination(self, imagination: Imagination, received_ns: int) -> None:
        """The next frames as a strip, the grounded points, and how long everything took."""
        self._imaginations.append(imagination)
        self._at(received_ns)
        self._stream.log(entities.NEXT, rr.Image(np.concatenate(list(imagination.frames[::STRIP_EVERY]), axis=1)))
        points = imagination.grounding
        self._stream.log(
            entities.GROUNDING,
            rr.Points3D(
                [point.position for point in points],
                radii=0.012,
                colors=rgb(IMAGINED),
                labels=[f"{point.label} {point.confidence:.2f}" for point in points],
            ),
        )
        self._latency("imagination", imagination.stamp_ns, received_ns)
        for stage, seconds in imagination.timings_s.items():
            self._stream.log(f"{entities.TIMING}/{stage}", rr.Scalars(seconds * 1e3))

    def chunk(self, chunk: ActionChunk, received_ns: int) -> None:
        """Where an expert wants the tools to go: bright if the arbiter follows it, or both."""
        self._at(received_ns)
        colour = (*rgb(EXPERT_COLOURS[chunk.source]), BRIGHT if self._followed in (chunk.source, None) else FAINT)
        paths = [chunk.positions[:, arm] for arm in range(len(chunk.arms))]
        self._stream.log(entities.path(chunk.source), rr.LineStrips3D(paths, colors=colour, radii=0.006))
        self._latency(f"{chunk.source.value}_chunk", chunk.stamp_ns, received_ns)

    def gate(self, state: GateState, received_ns: int) -> None:
        """The score over time; phase, followed expert and status when they change."""
        self._at(received_ns)
        self._followed = state.expert
        if not math.isnan(state.score):
            self._stream.log(f"{entities.SCORE}/gate", rr.Scalars(state.score))
        held = state.status in (Status.HOLDING, Status.LATCHED)
        shown = {
            "phase": state.phase.value,
            "expert": state.expert.value if state.expert is not None else "none",
            "status": f"{state.status.name.lower()} ({state.reason.name.lower()})" if held else state.status.name.lower(),
        }
        for name, value in shown.items():
            if self._states.get(name) != value:
                self._states[name] = value
                self._stream.log(f"{entities.GATE}/{name}", rr.StateChange(state=value))
        self._say("arbiter", f"{state.instruction}: {state.text}" if state.instruction else state.text, Level.WARN if held else Level.OK)

    def drift(self, drift: Drift, received_ns: int) -> None:
        """How wrong the imagination was, beside the 1 up to which that is normal."""
        self._at(received_ns)
        self._stream.log(f"{entities.DRIFT}/score", rr.Scalars(drift.score))
        self._stream.log(f"{entities.DRIFT}/normal", rr.Scalars(1.0))

    def health(self, node: str, level: Level, message: str, values: Mapping[str, str], received_ns: int) -> None:
        """What a node says of itself, when that changes; and its 95th percentiles from observation on."""
        self._at(received_ns)
        self._say(node, message, level)
        for key, value in values.items():
            if key.endswith("from observation p95 (ms)"):
                self._stream.log(f"{entities.LATENCY}/p95/{node.strip('/')}", rr.Scalars(float(value)))

    def refused(self, topic: str, why: str, received_ns: int) -> None:
        """A message that cannot be used."""
        self._at(received_ns)
        self._say(topic, why, Level.WARN)

    def _at(self, received_ns: int) -> None:
        self._stream.set_time(entities.TIMELINE, timestamp=np.datetime64(received_ns, "ns"))

    def _latency(self, what: str, stamp_ns: int, received_ns: int) -> None:
        if 0 <= (late_ms := (received_ns - stamp_ns) * 1e-6) < PLAUSIBLE_MS:
            self._stream.log(f"{entities.LATENCY}/{what}", rr.Scalars(late_ms))

    def _say(self, who: str, text: str, level: Level) -> None:
        if self._said.get(who) != text:
            self._said[who] = text
            self._stream.log(f"{entities.SAID}/{who.strip('/')}", rr.TextLog(text, level=_LEVELS[level]))
