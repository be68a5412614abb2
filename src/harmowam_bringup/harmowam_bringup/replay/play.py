"""``harmowam play``: a recording into a live graph, in real time, with the clock of its day (replay.launch.yaml)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from harmowam_msgs.action import ExecuteTask
from rclpy.action import ActionClient
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rich.console import Console
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from harmowam_bringup.bags.bag import Bag, Raw, Topic
from harmowam_bringup.bags.message_types import Decoder, MalformedError, UnknownTypeError, message_class
from harmowam_bringup.bags.problems import Trouble, print_problems
from harmowam_bringup.bags.progress import following
from harmowam_bringup.bags.rows import message_types
from harmowam_bringup.cli import Json, Preset, _console, _reported
from harmowam_bringup.dds import expect_large_images
from harmowam_bringup.session import ANSWER_S, GraphClient, GraphError
from harmowam_bringup.startup import CONFIGURE_S, wait_for_models
from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.contract import Contract, contract_for
from harmowam_core.messages import image_from_message, image_to_message, stamp_from_message
from harmowam_core.observation_feed import COMPRESSED
from harmowam_core.qos import LATEST, SENSOR
from harmowam_core.results import write_json
from harmowam_core.stages import StageError
from harmowam_core.status import Outcome
from harmowam_core.wan_preset import load_any_preset

RECORDED = "/recorded"
"""What the graph makes itself plays below this name: what was said then, beside what is said now."""
CLOCK_S = 0.01
NEVER_PLAYED = ("/clock", "/rosout", "/parameter_events", topics.DIAGNOSTICS)
ROBOT = ("/tf", "/tf_static", "/robot_description")
OTHER_CLOCK_NS = 1_000_000_000
"""Stamps further than this from when they were recorded are of another clock, which is then the one to play."""
TASK_S = 3600.0


def play(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    start: Annotated[float, typer.Option(min=0.0, help="Seconds of the recording to leave out.")] = 0.0,
    instruction: Annotated[str, typer.Option(help="What to do, in words, where the recording has no task.")] = "",
    preset: Preset = "compact",
    contract: Annotated[str, typer.Option(help="Which topics are the sensors': contract by name, or path; default: the cell's.")] = "",
    json: Json = "",
) -> None:
    """Play a recording into a graph that runs on its clock (use_sim_time): sensors as they came, each task when it was given."""
    console = _console(json)
    with _reported(console), Bag(bag) as recording:
        config = load_any_preset(preset)
        playlist = Playlist.of(recording, contract_for(config, contract), config.load_cell())
        playlist.require(recording, instruction)
        start_ns = recording.started_ns + round(start * 1e9)
        if start_ns >= recording.ended_ns:
            raise ValueError(f"{bag} lasts {recording.duration_s:.1f} s, so there is nothing after {start:g} s")
        expect_large_images()
        with GraphClient() as graph:
            console.print("waiting for models and arbiter")
            wait_for_models(graph, CONFIGURE_S)
            graph.wait_for_arbiter(ANSWER_S)
            result = Player(graph, recording, playlist, console).run(start_ns, instruction)
        print_problems(recording.problems, recording.started_ns, console)
        console.print(f"{bag}: {result['messages']} messages of {result['topics']} topics in {result['seconds']:.1f} s")
        write_json(json, result)


@dataclass(frozen=True)
class Part:
    """Under which name and how a recorded topic plays."""

    name: str
    kind: str
    qos: QoSProfile
    unpacked: bool = False


@dataclass(frozen=True)
class Playlist:
    """Which recorded topics play, and as what; ``task``: the one whose messages become goals of the arbiter."""

    parts: dict[str, Part]
    sensors: tuple[str, ...]
    task: str
    decoders: dict[str, Decoder]  # of the task and of what plays unpacked

    @classmethod
    def of(cls, bag: Bag, contract: Contract, cell: Cell) -> Playlist:
        """Sensors under their own names, compressed images as the live graph takes them; everything else below ``RECORDED``."""
        observation = contract.observation
        images = {source.topic for source in observation.images.values()}
        sensors = {observation.joints.topic, *images}
        own_name = {*sensors, *ROBOT, *(topics.camera_info(camera.name) for camera in cell.cameras)}
        parts, decoders, kinds = dict[str, Part](), dict[str, Decoder](), message_types(contract)
        for name, topic in bag.topics.items():
            image = name.removesuffix(COMPRESSED)
            if name in NEVER_PLAYED or not topic.count:
                continue
            unpacked = image in images and image not in bag.topics
            if name == observation.instruction.topic or unpacked:
                decode = bag.decoder(name, kinds[name])
                if decode is None:
                    continue
                decoders[name] = decode
            if name in own_name:
                parts[name] = Part(name, topic.msgtype, SENSOR if name in sensors else _profile(topic))
            elif image in images:
                if unpacked:
                    parts[name] = Part(image, "sensor_msgs/msg/Image", SENSOR, unpacked=True)
            else:
                parts[name] = Part(RECORDED + name, topic.msgtype, _profile(topic))
        return cls(parts, tuple(sorted(sensors)), observation.instruction.topic, decoders)

    def require(self, bag: Bag, instruction: str) -> None:
        """ValueError names the sensors that were not recorded, or says that there is no task."""
        played = {part.name for part in self.parts.values()}
        if missing := [topic for topic in self.sensors if topic not in played]:
            raise ValueError(f"{bag.path} has no messages on {', '.join(missing)}; it has {', '.join(bag.topics) or 'nothing'}")
        if not instruction and self.task not in self.parts:
            raise ValueError(f"{bag.path} has no task on {self.task}; say what was done with --instruction")


def _profile(topic: Topic) -> QoSProfile:
    """As it was offered, as far as late listeners are concerned."""
    latched = "transient_local" in topic.qos or topic.name == "/tf_static"
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


class Player:
    """Plays in real time: the arbiter's ages and deadlines go by the steady clock, which knows no other speed."""

    def __init__(self, graph: GraphClient, bag: Bag, playlist: Playlist, console: Console) -> None:
        self._graph, self._bag, self._playlist, self._console = graph, bag, playlist, console
        self._publishers = {name: self._publisher(part) for name, part in playlist.parts.items()}
        self._clock = graph.node.create_publisher(Clock, "/clock", LATEST)
        self._tasks = ActionClient(graph.node, ExecuteTask, topics.EXECUTE_TASK)
        self._offset_ns = 0  # of the stamps' clock from the recorder's
        self._began_ns = 0
        self._goal: Any = None
        self._unended = 0  # tasks

    def _publisher(self, part: Part) -> Publisher | None:
        try:
            return self._graph.node.create_publisher(message_class(part.kind), part.name, part.qos)
        except UnknownTypeError as error:
            self._bag.problems.add(Trouble.UNKNOWN_TYPE, part.name, f"is not played: {error}")
            return None

    def run(self, start_ns: int, instruction: str) -> dict[str, Any]:
        """From ``start_ns`` of the recorder's clock to the end; counts. A task that still runs is cancelled, also on Ctrl-C."""
        self._wait_for_listeners()
        self._offset_ns = self._other_clock_ns()
        played = dict.fromkeys(self._playlist.parts, 0)
        self._began_ns = start_ns - time.monotonic_ns()
        timer = self._graph.node.create_timer(CLOCK_S, self._tell_time)
        try:
            if instruction:
                self._give(instruction)
            elif words := self._task_before(start_ns):
                self._give(words)
            with following(self._console, self._bag.path.name) as shown:
                for item in self._bag.raw(set(self._playlist.parts), start_ns):
                    self._wait_until(item.time_ns)
                    played[item.topic] += self._play(item, instruction)
                    shown((item.time_ns - start_ns) / max(self._bag.ended_ns - start_ns, 1))
        finally:
            self._end_task()
            self._graph.node.destroy_timer(timer)
            self._tasks.destroy()
        return {
            "bag": str(self._bag.path),
            "seconds": (self._now_ns() - start_ns) * 1e-9,
            "messages": sum(played.values()),
            "topics": sum(map(bool, played.values())),
            "played": {self._playlist.parts[name].name: count for name, count in played.items() if count},
        }

    def _wait_for_listeners(self) -> None:
        """The first messages would be lost until publishers and subscribers have found each other."""
        sensors = {part.name: self._publishers[name] for name, part in self._playlist.parts.items() if part.name in self._playlist.sensors}

        def unheard() -> list[str]:
            return [name for name, publisher in sensors.items() if publisher is not None and not publisher.get_subscription_count()]

        try:
            self._graph.spin(lambda: not unheard(), ANSWER_S, "listeners")
        except GraphError as error:
            raise GraphError(f"nobody listens to {', '.join(unheard())}; does the graph run with this contract?") from error

    # ---- time ----------------------------------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        """Of the recorder's clock."""
        return self._began_ns + time.monotonic_ns()

    def _tell_time(self) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(self._now_ns() + self._offset_ns, 10**9)
        self._clock.publish(message)

    def _wait_until(self, time_ns: int) -> None:
        """Spins at least once: a player that is late still tells the time and hears how its goals fare."""
        left_s = (time_ns - self._now_ns()) * 1e-9
        while True:
            self._graph.spin_once(min(max(left_s, 0.0), CLOCK_S))
            left_s = (time_ns - self._now_ns()) * 1e-9
            if left_s <= 0:
                return

    def _other_clock_ns(self) -> int:
        """How far stamps are from when they were recorded, if that is more than latency can explain."""
        for item in self._bag.messages({self._playlist.sensors[-1]}):
            offset_ns = 0 if item.stamp_ns is None else item.stamp_ns - item.time_ns
            if abs(offset_ns) < OTHER_CLOCK_NS:
                return 0
            self._console.print(f"stamps are {offset_ns * 1e-9:.1f} s from when they were recorded: playing their clock")
            return offset_ns
        return 0

    # ---- messages --------------------------------------------------------------------------------------------------------

    def _play(self, item: Raw, instruction: str) -> bool:
        part, publisher = self._playlist.parts[item.topic], self._publishers[item.topic]
        if item.topic == self._playlist.task and not instruction:
            self._follow_task(item)
        if publisher is None:
            return False
        try:
            publisher.publish(self._unpacked(item) if part.unpacked else bytes(item.data))
        except (MalformedError, StageError) as error:
            self._bag.problems.add(Trouble.MALFORMED, item.topic, str(error), item.time_ns)
            return False
        return True

    def _unpacked(self, item: Raw) -> Image:
        message = self._playlist.decoders[item.topic](item.data)
        header = message.header
        return image_to_message(image_from_message(message), stamp_from_message(header.stamp), header.frame_id)

    # ---- tasks -----------------------------------------------------------------------------------------------------------

    def _task_before(self, start_ns: int) -> str:
        """The words of a task that was given before the start, "" for none."""
        words = ""
        for item in self._bag.messages({self._playlist.task}, end_ns=start_ns):
            words = item.message.instruction if item.message.task_id else ""
        return words

    def _follow_task(self, item: Raw) -> None:
        try:
            task = self._playlist.decoders[item.topic](item.data)
        except MalformedError as error:
            self._bag.problems.add(Trouble.MALFORMED, item.topic, str(error), item.time_ns)
            return
        self._cancel()
        if task.task_id:
            self._give(task.instruction)

    def _give(self, words: str) -> None:
        self._console.print(f"task: {words}")
        self._unended += 1
        self._goal = self._tasks.send_goal_async(ExecuteTask.Goal(instruction=words, time_limit_s=TASK_S))
        self._goal.add_done_callback(self._follow_goal)

    def _follow_goal(self, sent: Any) -> None:
        goal = sent.result()
        if goal.accepted:
            goal.get_result_async().add_done_callback(self._tell_end)
        else:
            self._unended -= 1
            self._console.print("[yellow]the arbiter refused the task; its log says why[/]")

    def _tell_end(self, answer: Any) -> None:
        self._unended -= 1
        result = answer.result().result
        self._console.print(f"task ended: {Outcome(result.outcome).name}: {result.why}")

    def _cancel(self) -> None:
        goal, self._goal = self._goal, None
        if goal is not None:
            goal.add_done_callback(lambda sent: sent.result().accepted and sent.result().cancel_goal_async())

    def _end_task(self) -> None:
        self._cancel()
        try:
            self._graph.spin(lambda: not self._unended, ANSWER_S, "the end of the task")
        except GraphError as error:
            self._console.print(f"[yellow]{error}[/]")
