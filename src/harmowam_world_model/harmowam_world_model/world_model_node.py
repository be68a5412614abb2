"""World-model node: newest scene image, joint states and task in, imagination and its preview out."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from harmowam_msgs.msg import Drift as DriftMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg
from sensor_msgs.msg import Image

from harmowam_core import topics
from harmowam_core.checkpoints import CheckpointError
from harmowam_core.health import Level
from harmowam_core.lifecycle import run
from harmowam_core.messages import drift_to_message, image_to_message, imagination_to_message, optical_frame
from harmowam_core.policy_node import LEAST_ANSWERS_HZ, PolicyNode
from harmowam_core.qos import LATEST
from harmowam_core.stages import Imagination, Observation, new_imagination_id
from harmowam_core.wan_preset import load_any_preset
from harmowam_world_model import load_world_model
from harmowam_world_model.drift import DriftMonitor, load_calibration
from harmowam_world_model.protocol import GroundingMemory, WorldModel

PREVIEW_EVERY = 3  # frames of the preview strip: 0, 3, 6, 9, 12


class WorldModelNode(PolicyNode):
    """Imagines from the newest scene image as fast as the machine can, up to ``rate``, while a task is set."""

    cameras = ("scene",)

    def __init__(self, model: WorldModel | None = None) -> None:
        self._memory = GroundingMemory()
        self._started_s = 0.0
        self._new_task = False
        super().__init__("world_model", model)

    def declare(self) -> None:
        """Add the rate and the seed."""
        super().declare()
        self.parameter("rate", 5.0, "Most imaginations a second, Hz; images in between are dropped.", lower=0.1, upper=100.0)
        self.parameter("seed", 0, "Seed of the imagination's noise.", lower=0, upper=2**31 - 1)

    def load(self, preset: str, **options: Any) -> WorldModel:
        """The preset's world model."""
        return load_world_model(preset, **options)

    def configure(self) -> None:
        """Add the publishers."""
        self._publisher = self.create_lifecycle_publisher(ImaginationMsg, topics.IMAGINATION, LATEST)
        self._preview = self.create_lifecycle_publisher(Image, topics.PREVIEW, LATEST)
        self._drifts = self.create_lifecycle_publisher(DriftMsg, topics.DRIFT, LATEST)
        self._monitor = self._make_monitor()
        super().configure()

    def _make_monitor(self) -> DriftMonitor | None:
        """None, and a warning, where nobody knows what drift is normal."""
        directory = self.value("weights_directory")
        try:
            calibration = load_calibration(Path(directory) if directory else load_any_preset(self.value("preset")).weights_dir())
        except CheckpointError as error:
            self.get_logger().warning(f"no drift is published: {error}")
            self.health.fault("drift", f"not published: {error}", Level.WARN)
            return None
        self.health.clear("drift")
        return DriftMonitor(calibration.scale)

    def on_task(self) -> None:
        """What was grounded and imagined for the last task means nothing for this one."""
        self._memory = GroundingMemory()
        self._new_task = True
        self.expect_while_busy("imagination", min(LEAST_ANSWERS_HZ, 0.8 * self.value("rate")))

    def on_image(self, camera: str, stamp_ns: int) -> None:
        """Imagine from the newest image alone."""
        if self.task is not None and self.task.task_id:
            self.worker.give(stamp_ns)

    def work(self, item: int) -> None:
        """Imagine from the image of this stamp, unless the last one is too recent."""
        now_s = time.monotonic()
        # A little early rather than a whole camera period late.
        if now_s - self._started_s < 0.9 / self.value("rate"):
            return
        self._started_s = now_s
        self.infer("imagination", item, self._imagine)

    def _imagine(self, observation: Observation) -> None:
        if not observation.instruction:  # the task ended meanwhile
            return
        [imagination] = self.model.imagine([observation], [self._memory], self.value("seed"))
        imagination = replace(imagination, imagination_id=new_imagination_id())
        self._publisher.publish(imagination_to_message(imagination))
        self._judge(imagination)
        for stage, seconds in imagination.timings_s.items():
            self.health.latency(stage, seconds)
        if self._preview.get_subscription_count():
            self._preview.publish(image_to_message(preview_strip(imagination), imagination.stamp_ns, optical_frame("scene")))

    def _judge(self, imagination: Imagination) -> None:
        """Say how an earlier imagination has come true."""
        if self._monitor is None:
            return
        if self._new_task:
            self._new_task = False
            self._monitor.clear()
        drift = self._monitor.update(imagination)
        if drift is None:
            return
        self._drifts.publish(drift_to_message(drift))
        self.health.event("drift")
        self.health.figure("drift score", f"{drift.score:.2f}")
        if drift.score > 1:
            self.health.fault("drift", f"what comes is not what was imagined: score {drift.score:.1f}, normal up to 1", Level.WARN)
        else:
            self.health.clear("drift")


def preview_strip(imagination: Imagination) -> np.ndarray:
    """Every third frame side by side, (H, 5 W, 3) uint8."""
    return np.concatenate(list(imagination.frames[::PREVIEW_EVERY]), axis=1)


def main() -> None:
    """Run the node."""
    run(WorldModelNode, nice=5)


if __name__ == "__main__":
    main()
