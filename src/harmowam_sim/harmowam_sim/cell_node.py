"""The simulated cell as a ROS node: to the graph, cameras and an arm driver; under /sim, what only a simulator can offer."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import mujoco
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from harmowam_core import messages, topics
from harmowam_core.cell import load_cell
from harmowam_core.health import Level
from harmowam_core.inbox import take_waiting
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.qos import COMMAND, LATEST, SENSOR
from harmowam_core.stages import StageError
from harmowam_sim.driver import TrajectoryRefused
from harmowam_sim.environments import sample_episode
from harmowam_sim.live import LiveCell, is_behind
from harmowam_sim.splits import ENVIRONMENTS, TASKS

SCORE_TOPIC = "/sim/score"
RESET_SERVICE = "/sim/reset"
TICK_S = 0.01  # of physics and joint states
SCORE_PERIOD_S = 0.1  # scored every control period, published every other one
REAL_TIME = 20  # as the driver of the arms that it stands for; after the arbiter's 30
LOG_PERIOD_S = 0.1
LEAST_JOINT_STATES_HZ = 50.0


class CellNode(ManagedNode):
    """Cameras, joint states and trajectory controllers of one simulated episode, in real time."""

    def __init__(self) -> None:
        super().__init__("cell")

    def declare(self) -> None:
        """Declare what there is to choose; task, environment and seed take effect at /sim/reset."""
        self.parameter("task", "pick_fruit", "Task laid out on the table.", choices=TASKS)
        self.parameter("environment", "in_domain", "What differs from the demonstrations.", choices=ENVIRONMENTS)
        self.parameter("seed", 0, "Of the layout of objects.", lower=0, upper=2**31 - 1)
        self.parameter("frozen_joints", "", "Arm joints that do not follow, with spaces between: for drills.")
        self.factor = self.parameter("real_time_factor", 1.0, "Seconds of physics a second.", lower=0.05, upper=10.0, read_only=True)
        self.camera_rate_hz = self.parameter("camera_rate", 10.0, "Images a second of each camera.", lower=1.0, upper=30.0, read_only=True)
        self.state_log = self.parameter(
            "state_log", "", "File (.npz) for the simulator's states at the end; empty for none.", read_only=True
        )
        self.cell_name = self.parameter("cell", "franka_dual", "Cell profile by name, or path of a profile.", read_only=True)

    def configure(self) -> None:
        """Build the episode and the interfaces."""
        self._scored = False
        self._frozen = ""
        self._studio = ThreadPoolExecutor(1, "cameras")
        self._shooting: Future[None] | None = None
        self.cell = load_cell(self.cell_name)
        self.live = self._lay_out()
        self.stamps = self.stamp_clock()
        cameras = self.cell.cameras
        self.images = {c.name: self.create_lifecycle_publisher(Image, topics.camera_image(c.name), SENSOR) for c in cameras}
        self.infos = {c.name: self.create_lifecycle_publisher(CameraInfo, topics.camera_info(c.name), SENSOR) for c in cameras}
        self.joints = self.create_lifecycle_publisher(JointState, topics.JOINT_STATES, SENSOR)
        self.scores = self.create_lifecycle_publisher(String, SCORE_TOPIC, LATEST)
        controllers = self.cell.controllers
        commanded = {"arm": controllers.arm_topic, "gripper": controllers.gripper_topic}
        self._commands = {
            name: self.create_subscription(JointTrajectory, topic, partial(self._follow, name), COMMAND)
            for name, topic in commanded.items()
        }
        self.create_service(Trigger, RESET_SERVICE, self._reset)

    def activate(self) -> None:
        """Let time run."""
        self.live.start(time.monotonic())
        self.health.expect("joint states", LEAST_JOINT_STATES_HZ)
        self.health.expect("images", 0.8 * self.camera_rate_hz)
        self.create_timer(TICK_S, self._tick)
        self.create_timer(1.0 / self.camera_rate_hz, self._capture)
        self.create_timer(SCORE_PERIOD_S, self._score)
        self.create_timer(LOG_PERIOD_S, lambda: self.live.record(self.stamps.to_stamp(time.monotonic_ns())))

    def deactivate(self) -> None:
        """Keep the log."""
        for name in ("joint states", "images"):
            self.health.no_longer_expect(name)
        if self._shooting is not None:
            self._shooting.result()
            self._shooting = None
        if self.state_log:
            self.live.log.save(Path(self.state_log))
            self.get_logger().info(f"{len(self.live.log.qpos)} states in {self.state_log}")

    def cleanup(self) -> None:
        """Free the renderer, in its thread."""
        self._studio.submit(self.live.close).result()
        self._studio.shutdown()

    def _lay_out(self) -> LiveCell:
        task, environment, seed = (self.get_parameter(name).value for name in ("task", "environment", "seed"))
        return LiveCell(sample_episode(task, environment, seed), self.cell, self.factor)

    def _tick(self) -> None:
        now_ns = self.steady_ns(self.stamps, slew=True)
        self._drain()
        self._freeze(self.get_parameter("frozen_joints").value)
        self.live.advance(now_ns / 1e9)
        self.joints.publish(messages.joint_state_to_message(self.live.joint_state(self.stamps.to_stamp(now_ns))))
        self.health.event("joint states")

    def _drain(self) -> None:
        """Take the trajectories that wait already: they were sent before this moment, which physics has not reached."""
        for name, commands in self._commands.items():
            for message, _ in take_waiting(commands):
                self._follow(name, message)

    def _freeze(self, joints: str) -> None:
        if joints == self._frozen:
            return
        self._frozen = joints
        try:
            self.live.freeze(tuple(joints.split()))
            self.get_logger().info(f"frozen joints: {joints or 'none'}")
        except ValueError as error:
            self.get_logger().error(f"frozen_joints: {error}")

    def _capture(self) -> None:
        """In a thread of their own: an arm's joint states do not wait for its cameras."""
        if self._shooting is not None:
            if not self._shooting.done():
                return  # too slow for the rate that was asked for
            self._shooting.result()
        now_ns = self.steady_ns(self.stamps)
        self.live.advance(now_ns / 1e9)
        self._shooting = self._studio.submit(self._shoot, self.live, self.live.sim.snapshot(), self.stamps.to_stamp(now_ns))

    def _shoot(self, live: LiveCell, moment: mujoco.MjData, stamp_ns: int) -> None:
        started = time.perf_counter()
        pictures = live.pictures(moment)
        self.health.latency("rendering", time.perf_counter() - started)
        for camera in self.cell.cameras:
            image = messages.image_to_message(pictures[camera.name], stamp_ns, messages.optical_frame(camera.name))
            self.images[camera.name].publish(image)
            self.infos[camera.name].publish(messages.camera_info_from(camera, stamp_ns))
        self.health.event("images")

    def _follow(self, controller: str, message: JointTrajectory) -> None:
        driver = self.live.arm_driver if controller == "arm" else self.live.gripper_driver
        try:
            now_ns = self.steady_ns(self.stamps)
            stamp_ns = messages.stamp_from_message(message.header.stamp)
            sent_ns = self.stamps.to_steady(stamp_ns, now_ns) if stamp_ns else now_ns
            driver.accept(message, self.live.reach(sent_ns / 1e9, now_ns / 1e9), (sent_ns - stamp_ns) / 1e9)
        except (TrajectoryRefused, StageError) as refused:
            self.get_logger().warning(f"{controller} controller: {refused}")
            self.health.fault(f"{controller} controller", str(refused), Level.WARN)
            return
        self.health.clear(f"{controller} controller")
        self.health.event(f"{controller} trajectories")

    def _score(self) -> None:
        score = self.live.score()
        self._scored = not self._scored
        if self._scored:
            self.scores.publish(String(data=json.dumps(score)))
        factor = self.live.achieved_factor
        level = Level.WARN if is_behind(factor, self.factor) else Level.OK
        self.health.fault("real-time factor", f"{factor:.2f}", level)

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Lay out the episode that the parameters name now; the log starts anew."""
        try:
            live = self._lay_out()
        except (ValueError, RuntimeError) as error:
            response.success, response.message = False, str(error)
            return response
        self._studio.submit(self.live.close).result()
        self.live, self._frozen = live, ""
        self.live.start(time.monotonic())
        response.success, response.message = True, live.spec.instruction
        return response


def main() -> None:
    """Run the node."""
    run(CellNode, real_time=REAL_TIME)


if __name__ == "__main__":
    main()
