"""What the nodes that serve a learned model share: parameters, sensor input, the task, and errors that never stop the node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from harmowam_msgs.msg import Task as TaskMsg
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState as JointStateMsg

from harmowam_core.backends import BACKEND_CHOICES
from harmowam_core.contract import contract_for
from harmowam_core.health import Level
from harmowam_core.image_codec import decoder_in_use
from harmowam_core.lifecycle import ManagedNode
from harmowam_core.observation import NotReadyError
from harmowam_core.observation_feed import ObservationFeed
from harmowam_core.qos import LATCHED, SENSOR
from harmowam_core.stages import Observation
from harmowam_core.status import Task
from harmowam_core.wan_preset import load_any_preset
from harmowam_core.worker import Worker

LOG_PERIOD_S = 1.0
LEAST_IMAGES_HZ, LEAST_JOINT_STATES_HZ = 4.0, 10.0
LEAST_ANSWERS_HZ = 4.0
"""Slower than this is worth a warning: of sensors, and of imaginations and chunks while there is a task."""


class PolicyNode(ManagedNode):
    """A node around one model. ``model`` replaces the one that the parameters name (tests, embedding).

    The model runs in a thread of its own, on what ``self.worker`` was given last, so that a long inference delays no sensor.
    """

    cameras: tuple[str, ...] | None = None
    """Cameras an observation needs; None: all that the contract names."""

    def __init__(self, name: str, model: Any = None) -> None:
        self._given_model = model
        super().__init__(name)
        self.task: Task | None = None
        self._inputs_lock, self._model_lock = Lock(), Lock()
        self._logged_s: dict[str, float] = {}
        self.worker: Worker[Any] = Worker(self._work, name)

    def declare(self) -> None:
        """Parameters of every model."""
        self.parameter("preset", "compact", "Preset by name (harmowam_core/config/presets) or path.", read_only=True)
        self.parameter(
            "contract", "", "What is read from which topic: name or path; empty: the contract of the preset's cell.", read_only=True
        )
        self.parameter("weights_directory", "", "Folder of the weights; empty: those that ship with the preset.", read_only=True)
        self.parameter("device", "cpu", "Where the model runs.", choices=("cpu", "cuda"), read_only=True)
        self.parameter("backend", "torch", "What runs the model's networks.", choices=BACKEND_CHOICES, read_only=True)
        self.parameter("threads", 1, "CPU threads of the model.", lower=1, upper=256, read_only=True)

    def load(self, preset: str, **options: Any) -> Any:
        """The model of a preset; options as of the packages' ``load_...`` functions."""
        raise NotImplementedError

    def work(self, item: Any) -> None:
        """Run the model on what the worker was given; called in its thread."""
        raise NotImplementedError

    def on_task(self) -> None:
        """The task has changed (``self.task``)."""

    def on_image(self, camera: str, stamp_ns: int) -> None:
        """An image has come in; called in the sensors' group, so return quickly."""

    def value(self, name: str) -> Any:
        """The present value of a parameter."""
        return self.get_parameter(name).value

    def configure(self) -> None:
        """Load preset and model, then listen to the sensors and the task."""
        preset = load_any_preset(self.value("preset"))
        contract = contract_for(preset, self.value("contract"))
        torch.set_num_threads(self.value("threads"))
        self.get_logger().info(f"images are decoded by {decoder_in_use()}")
        self._feed = ObservationFeed(contract, preset, self.cameras)
        self._assembler = self._feed.assembler
        self.model = self._given_model if self._given_model is not None else self._load()
        self.create_subscription(JointStateMsg, contract.observation.joints.topic, self._receive_joint_state, SENSOR)
        self.create_subscription(TaskMsg, contract.observation.instruction.topic, self._receive_task, LATCHED)
        self.health.expect("joint states", LEAST_JOINT_STATES_HZ)
        for camera, topic in self._feed.image_topics.items():
            self.health.expect(f"{camera} image", LEAST_IMAGES_HZ)
            self.create_subscription(Image, topic, partial(self._receive_image, camera), SENSOR)

    def destroy_node(self) -> None:
        """End the worker first."""
        self.worker.end()
        super().destroy_node()

    def _work(self, item: Any) -> None:
        with self.reported("model"):
            self.work(item)

    def cleanup(self) -> None:
        """Wait for the model's last answer, then let it go."""
        with self._model_lock:
            self.model = None
        self.task = None
        for name in ("joint states", *(f"{camera} image" for camera in self._feed.image_topics)):
            self.health.no_longer_expect(name)

    def expect_while_busy(self, what: str, rate_hz: float = LEAST_ANSWERS_HZ) -> None:
        """Warn if ``what`` is slow while there is a task; to be called when the task changes."""
        if self.task is not None and self.task.task_id:
            self.health.expect(what, rate_hz)
        else:
            self.health.no_longer_expect(what)

    def _load(self) -> Any:
        started = time.monotonic()
        directory = self.value("weights_directory")
        options = {name: self.value(name) for name in ("device", "backend")}
        if options["device"] == "cuda" and not torch.cuda.is_available():
            raise RuntimeError("device is 'cuda' but PyTorch sees no GPU; set device to 'cpu', or install the CUDA build of PyTorch")
        model = self.load(self.value("preset"), **options, weights=Path(directory) if directory else None)
        took_s = time.monotonic() - started
        self.get_logger().info(f"loaded {type(model).__name__} of preset '{self.value('preset')}' in {took_s:.1f} s: {options}")
        return model

    def infer(self, what: str, stamp_ns: int, work: Callable[[Observation], None]) -> None:
        """Give ``work`` the observation of a stamp, if the node is active; time it as ``what`` and report what it raises."""
        with self._model_lock, self.reported(what):
            if not self.active:
                return
            with self._inputs_lock:
                observation = self._assembler.assemble(stamp_ns)
            started_s = time.monotonic()
            work(observation)
            self.health.latency(what, time.monotonic() - started_s)
            self.health.latency(f"{what}, from observation", (self.now_ns() - stamp_ns) * 1e-9)
            self.health.event(what)

    @contextmanager
    def reported(self, what: str) -> Iterator[None]:
        """Whatever is raised inside becomes a fault named ``what`` and a log line a second; the next success clears it."""
        try:
            yield
        except Exception as error:  # a bad message or a failing model must not end the node
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            waiting = isinstance(error, NotReadyError)
            self.health.fault(what, text, Level.WARN if waiting else Level.ERROR)
            now_s = time.monotonic()
            if now_s - self._logged_s.get(what, -LOG_PERIOD_S) >= LOG_PERIOD_S:
                self._logged_s[what] = now_s
                if waiting:
                    self.get_logger().warning(f"{what}: {text}")
                else:
                    self.get_logger().error(f"{what}: {text}")
        else:
            self.health.clear(what)

    def _receive_image(self, camera: str, message: Image) -> None:
        with self.reported(f"{camera} image"):
            with self._inputs_lock:
                stamp_ns = self._feed.put_image(camera, message)
            self.health.event(f"{camera} image")
            self.on_image(camera, stamp_ns)

    def _receive_joint_state(self, message: JointStateMsg) -> None:
        with self.reported("joint states"):
            with self._inputs_lock:
                self._feed.put_joint_state(message)
            self.health.event("joint states")

    def _receive_task(self, message: TaskMsg) -> None:
        with self.reported("task"):
            with self._inputs_lock:
                task = self._feed.put_task(message)
            self.task = task
            self.get_logger().info(f"task {task.task_id}: '{task.instruction}'" if task.task_id else "no task")
            self.on_task()
