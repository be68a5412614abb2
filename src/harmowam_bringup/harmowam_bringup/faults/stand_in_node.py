"""Stand-ins for world model and experts: real processes that send well-formed messages at the usual rate, until told to go wrong.

One executable; the node's name says which of the three it is.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg
from harmowam_msgs.srv import SetFault
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import String

from harmowam_bringup.faults.misbehaviour import MISBEHAVIOURS, OLD_S, History
from harmowam_bringup.faults.motion import circling
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.messages import chunk_to_message, failure_to_message, imagination_to_message, stamp_from_message
from harmowam_core.qos import CHUNK, LATEST, SENSOR
from harmowam_core.stages import Expert, Imagination, new_imagination_id

INJECTED = "/faults/injected"
"""JSON {"at_ns", "node", "how", "count"} for every message that went wrong; at_ns: steady clock, before it was made and sent."""
EVERY_INJECTION = QoSProfile(depth=100)
IMAGINE_EVERY = 2  # images


def misbehave_service(node: str) -> str:
    """How a stand-in is told to go wrong (SetFault: mode; value: how many messages, 0 for all until told)."""
    return f"/{node}/misbehave"


class StandInNode(ManagedNode):
    """world_model, predictive_expert or reactive_expert."""

    def __init__(self) -> None:
        super().__init__("stand_in")

    def configure(self) -> None:
        """Publish what the name promises."""
        self.cell = load_cell()
        self._how, self._wanted, self._count = "sound", 0, 0
        self._history: History = History()
        self._images = 0
        self._injected = self.create_publisher(String, INJECTED, EVERY_INJECTION)
        self.create_service(SetFault, misbehave_service(self.get_name()), self._misbehave)
        self._publisher: Any
        self._expert: Expert | None = None
        if self.get_name() == "world_model":
            self._publisher = self.create_lifecycle_publisher(ImaginationMsg, topics.IMAGINATION, LATEST)
            self.create_subscription(Image, topics.camera_image("scene"), self._imagine, SENSOR)
        else:
            self._expert = Expert(self.get_name().removesuffix("_expert"))
            self._publisher = self.create_lifecycle_publisher(ActionChunkMsg, topics.chunk(self._expert), CHUNK)
            self.create_subscription(ImaginationMsg, topics.IMAGINATION, self._act, LATEST)

    def _imagine(self, message: Image) -> None:
        self._images += 1
        if self._images % IMAGINE_EVERY:
            return
        frames, latents = np.zeros((13, 8, 10, 3), np.uint8), np.zeros((13, 80, 4), np.float32)
        stamp_ns, hidden = stamp_from_message(message.header.stamp), np.zeros((80, 8), np.float32)
        self._send(imagination_to_message(Imagination(stamp_ns, new_imagination_id(), frames, 0.1, latents, hidden)))

    def _act(self, message: ImaginationMsg) -> None:
        assert self._expert is not None
        chunk = circling(self.cell, self._expert, stamp_from_message(message.header.stamp), message.imagination_id)
        self._send(chunk_to_message(chunk))

    def _send(self, sound: Any) -> None:
        instead = self._instead(sound) if self._how != "sound" else None
        for message in [sound] if instead is None else instead:
            self._publisher.publish(message)
        now_s = time.monotonic()
        self._history.append((now_s, sound))
        while len(self._history) > 1 and self._history[1][0] <= now_s - OLD_S:
            self._history.popleft()

    def _instead(self, sound: Any) -> Sequence[Any] | None:
        """What is sent in place of a sound message, and a note of it; None to send the sound one."""
        how, count, at_ns = self._how, self._count, time.monotonic_ns()
        try:
            messages = MISBEHAVIOURS[how](copy.deepcopy(sound), self._history, count)
        except RuntimeError as error:
            self.get_logger().error(str(error))
            self.health.fault("model", str(error))
            messages = [failure_to_message(stamp_from_message(sound.header.stamp), self._expert)] if self._expert is not None else []
        if messages is None:
            return None
        self._count += 1
        if self._count == self._wanted:
            self._how = "sound"
        told = {"at_ns": at_ns, "node": self.get_name(), "how": how, "count": count}
        self._injected.publish(String(data=json.dumps(told)))
        return messages

    def _misbehave(self, request: SetFault.Request, response: SetFault.Response) -> SetFault.Response:
        if request.mode not in MISBEHAVIOURS:
            response.success, response.message = False, f"unknown mode '{request.mode}'; known: {', '.join(MISBEHAVIOURS)}"
            return response
        self._how, self._wanted, self._count = request.mode, int(request.value), 0
        self.health.clear("model")
        response.success, response.message = True, f"{self.get_name()}: {request.mode}"
        return response


def main() -> None:
    """Run the node."""
    run(StandInNode, nice=5)  # as those that it stands for


if __name__ == "__main__":
    main()
