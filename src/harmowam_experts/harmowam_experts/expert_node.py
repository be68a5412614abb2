"""What both expert nodes are: on each imagination, the observation of the same stamp in, an action chunk out."""

from __future__ import annotations

from harmowam_msgs.msg import ActionChunk as ActionChunkMsg
from harmowam_msgs.msg import Imagination as ImaginationMsg

from harmowam_core import topics
from harmowam_core.messages import chunk_to_message, failure_to_message, imagination_from_message
from harmowam_core.policy_node import PolicyNode
from harmowam_core.qos import CHUNK, LATEST
from harmowam_core.stages import Expert, Imagination, Observation, StageError
from harmowam_experts.protocol import ActionExpert


class ExpertNode(PolicyNode):
    """Serves one action expert; a subclass says which and loads it."""

    source: Expert

    def __init__(self, model: ActionExpert | None = None) -> None:
        super().__init__(f"{self.source.value}_expert", model)

    def configure(self) -> None:
        """Add the chunk's publisher and listen to imaginations."""
        self._publisher = self.create_lifecycle_publisher(ActionChunkMsg, topics.chunk(self.source), CHUNK)
        super().configure()
        if self.model.source != self.source:
            raise StageError(f"the model is a {self.model.source.value} expert, expected a {self.source.value} one")
        self.create_subscription(ImaginationMsg, topics.IMAGINATION, self.worker.give, LATEST)

    def work(self, item: ImaginationMsg) -> None:
        """Make a chunk of an imagination."""
        with self.reported("imagination"):
            imagination = imagination_from_message(item)
            self.health.event("imagination")
            self.infer("chunk", imagination.stamp_ns, lambda observation: self._act(observation, imagination))

    def _act(self, observation: Observation, imagination: Imagination) -> None:
        if not observation.instruction:  # the task ended meanwhile
            return
        try:
            [chunk] = self.model.act([observation], [imagination])
        except Exception:
            self._publisher.publish(failure_to_message(observation.stamp_ns, self.source))
            raise
        self._publisher.publish(chunk_to_message(chunk))
