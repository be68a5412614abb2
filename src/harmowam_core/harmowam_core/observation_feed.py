"""Messages in, observations out, as the contract says: the one way for live nodes, replay and the conversion of bags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harmowam_core.contract import Contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_from_message, joint_state_from_message, stamp_from_message, task_from_message
from harmowam_core.presets import Preset
from harmowam_core.stages import JointState, Observation
from harmowam_core.status import Task

COMPRESSED = "/compressed"
"""Ending of the topic with a camera's compressed images, as image_transport has it."""


class ObservationFeed:
    """Decodes messages of the contract's topics and joins them; ``cameras`` None: all that the contract names.

    Messages may be ROS's own or any objects with the same fields, such as a bag reader's. Malformed ones raise StageError.
    """

    def __init__(
        self, contract: Contract, preset: Preset, cameras: Iterable[str] | None = None, *, kinematics: Kinematics | None = None
    ) -> None:
        cell = preset.load_cell()
        self.contract = contract
        self.assembler = contract.assembler(preset, cell, kinematics or Kinematics(cell), cameras)
        images = contract.observation.images
        self.image_topics = {camera: images[camera].topic for camera in self.assembler.cameras}
        self._cameras = {topic + ending: camera for camera, topic in self.image_topics.items() for ending in ("", COMPRESSED)}

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics that it can use, those of compressed images among them."""
        observation = self.contract.observation
        return (*self._cameras, observation.joints.topic, observation.instruction.topic)

    def camera_of(self, topic: str) -> str | None:
        """The camera whose images come on a topic."""
        return self._cameras.get(topic)

    def put(self, topic: str, message: Any) -> int:
        """Take a message from any of ``topics``; returns its stamp, ns."""
        if (camera := self.camera_of(topic)) is not None:
            return self.put_image(camera, message)
        if topic == self.contract.observation.joints.topic:
            return self.put_joint_state(message).stamp_ns
        if topic == self.contract.observation.instruction.topic:
            return self.put_task(message).stamp_ns
        raise KeyError(f"no topic '{topic}' in the observation; it has {list(self.topics)}")

    def put_image(self, camera: str, message: Any) -> int:
        """A camera's image, compressed or not; returns its stamp, ns."""
        stamp_ns = stamp_from_message(message.header.stamp)
        self.assembler.add_image(camera, image_from_message(message), stamp_ns)
        return stamp_ns

    def put_joint_state(self, message: Any) -> JointState:
        """Measured joints."""
        state = joint_state_from_message(message)
        self.assembler.add_joint_state(state)
        return state

    def put_task(self, message: Any) -> Task:
        """The operator's task; its words are the instruction of the following observations."""
        task = task_from_message(message)
        self.assembler.set_instruction(task.instruction)
        return task

    def observation(self, stamp_ns: int) -> Observation:
        """As the assembler's ``assemble``."""
        return self.assembler.assemble(stamp_ns)
