"""``harmowam watch``: what is logged, read back from the file that Rerun wrote; bags, a live graph, and who can reach the viewer."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bag_writers
import cv2
import numpy as np
import psutil
import pytest
import rerun as rr
from PIL import Image as Picture
from rerun.chunk import RrdReader
from rich.console import Console
from rosbags.rosbag2 import StoragePlugin
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header, String

from harmowam_bringup.watch import bench, command, entities
from harmowam_bringup.watch.bench import summary
from harmowam_bringup.watch.blueprint import watch_blueprint
from harmowam_bringup.watch.feeds import feeds, show
from harmowam_bringup.watch.live import listening
from harmowam_bringup.watch.rerun_log import AHEAD_S, RerunLog
from harmowam_bringup.watch.viewer import ViewerError, viewer
from harmowam_core import messages, topics
from harmowam_core.cell import load_cell
from harmowam_core.health import Level
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import ActionChunk, Drift, Expert, GroundedPoint, Imagination, JointState, Phase
from harmowam_core.status import GateState, Reason, Status
from harmowam_core.testing import graph, wait_for

CELL = load_cell()
HOME = Kinematics(CELL).home()
START_NS = 1_700_000_000 * 10**9
STEP_NS = 100_000_000


def imagination(stamp_ns: int, number: int) -> Imagination:
    """Frame k is grey with the number of its moment, counted from the start."""
    frames = np.stack([np.full((64, 80, 3), (stamp_ns - START_NS) // STEP_NS + k, np.uint8) for k in range(13)])
    points = (GroundedPoint("target", np.float32([3, 4]), np.float32([0.5, 0.1, 0.03]), 0.9),)
    latents, hidden = np.zeros((13, 80, 4), np.float32), np.zeros((80, 8), np.float32)
    return Imagination(stamp_ns, number, frames, 0.1, latents, hidden, points, {"denoising": 0.05})


def chunk(stamp_ns: int, expert: Expert) -> ActionChunk:
    positions = np.tile(np.float32([arm.home_tcp_position for arm in CELL.arms]), (12, 1, 1))
    orientations = np.tile(np.float32([1, 0, 0, 0]), (12, 2, 1))
    return ActionChunk(stamp_ns, 1, expert, 0.1, CELL.arm_names, positions, orientations, np.ones((12, 2), np.float32))


def gate(stamp_ns: int, expert: Expert | None, status: Status = Status.EXECUTING, reason: Reason = Reason.NONE) -> GateState:
    phase = Phase.INTERACTION if expert is Expert.PREDICTIVE else Phase.TRANSIT
    return GateState(stamp_ns, status, status.name.lower(), 1, "stack the cans", 0.75, phase, expert, reason)


def joints(stamp_ns: int) -> JointState:
    names = CELL.arm_joint_names + CELL.finger_joint_names
    return JointState(stamp_ns, names, np.r_[HOME, 0.03, 0.01], np.zeros(len(names)))


def scene(number: int) -> np.ndarray:
    camera = CELL.camera("scene")
    return np.full((camera.height, camera.width, 3), number, np.uint8)


class Logged:
    """An .rrd file, by entity: times (ns) and what was logged then."""

    def __init__(self, path: Path) -> None:
        reader = RrdReader(path)
        self.blueprints = reader.blueprints()
        self.rows: dict[str, list[tuple[int | None, dict[str, Any]]]] = {}
        for part in reader.stream():
            batch = part.to_record_batch()
            names = [name for name in batch.schema.names if ":" in name]
            for row in range(part.num_rows):
                time = None if part.is_static else batch.column(entities.TIMELINE)[row].value
                values = {name: value for name in names if (value := batch.column(name)[row].as_py())}
                self.rows.setdefault(part.entity_path.strip("/"), []).append((time, values))

    def values(self, entity: str, component: str) -> list[tuple[int | None, Any]]:
        """(time, first instance) of a component, in order."""
        found = [
            (time, value[0])
            for time, values in self.rows.get(entity, [])
            for name, value in values.items()
            if name.endswith(f":{component}")
        ]
        return sorted(found, key=lambda item: item[0] or 0)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[RerunLog, Any]]:
    """A log, and what reads it back."""
    stream = rr.RecordingStream("harmowam")
    stream.save(tmp_path / "a.rrd")
    stream.send_blueprint(watch_blueprint(CELL))

    def read() -> Logged:
        stream.flush()
        stream.disconnect()
        return Logged(tmp_path / "a.rrd")

    yield RerunLog(stream, CELL), read


def test_arms_are_posed_by_the_joint_states_and_fingers_mirrored(log) -> None:
    log, read = log
    log.joint_state(joints(START_NS), START_NS)
    logged = read()
    for name in (*CELL.arm_joint_names, *CELL.finger_joint_names, *(f"{name}_mirrored" for name in CELL.finger_joint_names)):
        [(time, quaternion)] = logged.values(entities.joint(name), "quaternion")
        assert time == START_NS and np.linalg.norm(quaternion) == pytest.approx(1)
    for joint, opening in (("left_fr3_finger_joint1", 0.03), ("left_fr3_finger_joint1_mirrored", -0.03), ("right_fr3_finger_joint1", 0.01)):
        [(_, translation)] = logged.values(entities.joint(joint), "translation")
        assert translation[1] == pytest.approx(opening, abs=1e-6)
    [(_, parent)] = logged.values(entities.joint("left_fr3_joint4"), "parent_frame")
    assert parent == "left_link3"


def test_what_was_imagined_for_now_stands_beside_what_came(log) -> None:
    log, read = log
    for step in range(12):
        stamp_ns = START_NS + step * STEP_NS
        if step % 2 == 0:
            log.imagination(imagination(stamp_ns, step), stamp_ns + STEP_NS)
        log.image("scene", scene(step), stamp_ns, stamp_ns)
    logged = read()
    imagined, came = (logged.values(entity, "buffer") for entity in (entities.FOR_NOW, entities.CAME))
    first = round(AHEAD_S * 10)
    assert [pixels[0] for _, pixels in imagined] == list(range(first, 12)) == [pixels[0] for _, pixels in came]
    [shape] = {len(pixels) for _, pixels in imagined + came}
    assert shape == 64 * 80 * 3
    strip = logged.values(entities.NEXT, "buffer")
    assert len(strip) == 6 and len(strip[0][1]) == 64 * 5 * 80 * 3
    picture = Picture.open(io.BytesIO(bytes(logged.values(entities.camera("scene"), "blob")[-1][1])))
    assert picture.size == (160, 128) and abs(np.asarray(picture).mean() - 11) < 3


def test_the_followed_path_is_bright(log) -> None:
    log, read = log
    for step, followed in enumerate((Expert.REACTIVE, Expert.PREDICTIVE, None)):
        now_ns = START_NS + step * STEP_NS
        log.gate(gate(now_ns, followed), now_ns)
        for expert in Expert:
            log.chunk(chunk(now_ns - STEP_NS, expert), now_ns)
    logged = read()
    bright = {expert: [colour & 255 > 200 for _, colour in logged.values(entities.path(expert), "colors")] for expert in Expert}
    assert bright == {Expert.REACTIVE: [True, False, True], Expert.PREDICTIVE: [False, True, True]}
    assert [value for _, value in logged.values(f"{entities.LATENCY}/reactive_chunk", "scalars")] == pytest.approx([100.0] * 3)


def test_the_gate_is_a_timeline_of_changes_and_its_score_a_curve(log) -> None:
    log, read = log
    states = [gate(0, Expert.REACTIVE)] * 3 + [gate(0, Expert.PREDICTIVE)] * 2 + [gate(0, None, Status.HOLDING, Reason.IMAGE_FROZEN)] * 2
    for step, state in enumerate(states):
        log.gate(state, START_NS + step * STEP_NS)
    logged = read()
    changes = [((time - START_NS) // STEP_NS, value) for time, value in logged.values(f"{entities.GATE}/expert", "state")]
    assert changes == [(0, "reactive"), (3, "predictive"), (5, "none")]
    assert [value for _, value in logged.values(f"{entities.GATE}/status", "state")] == ["executing", "holding (image_frozen)"]
    assert len(logged.values(f"{entities.SCORE}/gate", "scalars")) == len(states)
    assert len(logged.values(f"{entities.SAID}/arbiter", "text")) == 2


def test_drift_faults_and_percentiles(log) -> None:
    log, read = log
    log.drift(Drift(START_NS, 3, 0.4, 1.75), START_NS)
    values = {"chunk, from observation p95 (ms)": "180.5", "chunk p95 (ms)": "20.0"}
    for message in ("ok", "ok", "out of memory"):
        log.health("/reactive_expert", Level.OK if message == "ok" else Level.ERROR, message, values, START_NS)
    logged = read()
    assert logged.values(f"{entities.DRIFT}/score", "scalars")[0][1] == 1.75
    assert [value for _, value in logged.values(f"{entities.SAID}/reactive_expert", "text")] == ["ok", "out of memory"]
    assert [value for _, value in logged.values(f"{entities.LATENCY}/p95/reactive_expert", "scalars")] == [180.5] * 3


def everything() -> list[tuple[str, int, Any]]:
    """Messages of every feed: (topic, time, message)."""
    items: list[tuple[str, int, Any]] = []
    for step in range(12):
        now_ns = START_NS + step * STEP_NS
        items.append((topics.JOINT_STATES, now_ns, messages.joint_state_to_message(joints(now_ns))))
        for camera in CELL.cameras:
            image = np.zeros((camera.height, camera.width, 3), np.uint8)
            items.append((topics.camera_image(camera.name), now_ns, messages.image_to_message(image, now_ns, "")))
        items.append((topics.IMAGINATION, now_ns, messages.imagination_to_message(imagination(now_ns, step))))
        items += [(topics.chunk(expert), now_ns, messages.chunk_to_message(chunk(now_ns, expert))) for expert in Expert]
        items.append((topics.GATE_STATE, now_ns, messages.gate_state_to_message(gate(now_ns, Expert.REACTIVE))))
        items.append((topics.DRIFT, now_ns, messages.drift_to_message(Drift(now_ns, step, 0.4, 0.5))))
    return items


def test_a_bag_becomes_a_recording_and_every_view_has_something_to_show(tmp_path: Path) -> None:
    fast = [(topics.JOINT_STATES, START_NS + k * 10_000_000 + 1, messages.joint_state_to_message(joints(START_NS))) for k in range(110)]
    jpeg = cv2.imencode(".jpg", scene(90))[1].tobytes()
    compressed = CompressedImage(header=Header(stamp=messages.stamp_to_message(START_NS)), format="jpeg", data=jpeg)
    fast.append((f"{topics.camera_image('scene')}/compressed", START_NS, compressed))
    fast.append((topics.DIAGNOSTICS, START_NS, String(data="of another type")))
    items = sorted(everything() + fast, key=lambda item: item[1])
    bag = bag_writers.by_rosbags(tmp_path / "bag", items, StoragePlugin.MCAP)
    said = io.StringIO()
    command.watch(CELL, Console(file=said, width=200), bag=bag, web=False, save=tmp_path / "b.rrd", port=9090, seconds=0.0)
    assert "is std_msgs/msg/String, expected diagnostic_msgs/msg/DiagnosticArray" in said.getvalue()
    logged = Logged(tmp_path / "b.rrd")
    assert len(logged.blueprints) == 1
    origins = {entities.NEXT, entities.FOR_NOW, entities.CAME, entities.GATE, entities.SCORE, entities.DRIFT, entities.LATENCY}
    origins |= {entities.TIMING, entities.SAID, entities.WORKSPACE, entities.GROUNDING, *map(entities.path, Expert)}
    origins |= {entities.camera(camera.name) for camera in CELL.cameras}
    assert not [origin for origin in origins if not any(entity == origin or entity.startswith(f"{origin}/") for entity in logged.rows)]
    assert len(logged.values(entities.camera("scene"), "blob")) == 12 + 1  # the compressed one too
    assert 10 <= len(logged.values(entities.joint("left_fr3_joint1"), "quaternion")) <= 14  # of 122 that were recorded


def test_what_cannot_be_used_is_named_and_the_rest_shown(log) -> None:
    log, read = log
    shown = feeds(CELL)
    broken = messages.chunk_to_message(chunk(START_NS, Expert.REACTIVE))
    broken.positions[0] = np.nan
    for topic, message in ((topics.chunk(Expert.REACTIVE), broken), (topics.GATE_STATE, everything()[-2][2])):
        show(shown[topic], log, topic, message, START_NS)
    logged = read()
    [(_, text)] = logged.values(f"{entities.SAID}/{topics.chunk(Expert.REACTIVE).strip('/')}", "text")
    assert "positions[0, 0, 0] is nan" in text and logged.values(f"{entities.SCORE}/gate", "scalars")


def test_a_live_graph_gives_the_newest_of_each_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {topic: feeds(CELL)[topic] for topic in (topics.camera_image("scene"), topics.JOINT_STATES)}
    with graph() as (cell, _):
        monkeypatch.setenv("ROS_DOMAIN_ID", str(cell.context.get_domain_id()))
        with listening(shown) as take:
            wait_for(lambda: cell.count_subscribers(topics.JOINT_STATES) and list(take()), "messages", meanwhile=cell.sense)
            sent_ns = [cell.sense(grey=grey) for grey in range(20)]

            def newest() -> list[tuple[str, int, Any]]:
                taken = list(take())
                assert len({topic for topic, _, _ in taken}) == len(taken)  # what came in between is skipped
                return [item for item in taken if item[0] == topics.camera_image("scene")]

            [(_, time_ns, message)] = wait_for(newest, "the newest image", meanwhile=None)
            assert messages.stamp_from_message(message.header.stamp) in sent_ns and abs(time_ns - sent_ns[-1]) < 2e9


def test_the_viewer_listens_on_this_machine_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stream = rr.RecordingStream("harmowam")
    with viewer(stream, web=True, port=port) as where:
        assert where.startswith(f"http://127.0.0.1:{port}/?url=rerun%2Bhttp")
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = {c.laddr for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert {place.ip for place in listening if place.port in (port, port + 1)} == {"127.0.0.1"}

    def connects(number: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", number)) == 0

    wait_for(lambda: not connects(port) and not connects(port + 1), "the end of the viewer")


def test_what_is_in_the_way_of_a_viewer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    stream = rr.RecordingStream("harmowam")
    with pytest.raises(ViewerError, match="no display .* --web .* --save"), viewer(stream, web=False, port=9090):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ViewerError, match=f"port {port} is in use"), viewer(stream, web=True, port=port):
            pass
    with pytest.raises(ViewerError, match="there is no folder"):
        command.watch(CELL, Console(quiet=True), bag=None, web=False, save=tmp_path / "none/a.rrd", port=9090, seconds=1.0)


def test_what_watching_costs_is_told_against_nobody() -> None:
    def turns(*values: tuple[float, float]) -> list[dict[str, float]]:
        return [{"actions_per_s": a, "observation_to_trajectory_p95_ms": ms, "watcher_cpu_percent": 3.0, "faults": 0} for a, ms in values]

    measured = {"nobody": turns((60, 200), (50, 220), (61, 190)), "rerun": turns((57, 205), (58, 210), (20, 900)), "rviz": turns((60, 199))}
    result = summary(measured)
    alone = {"actions_per_s": 60, "observation_to_trajectory_p95_ms": 200, "watcher_cpu_percent": 3.0, "faults": 0}
    assert result["watchers"]["nobody"] == alone
    assert result["cost"]["rerun"] == {"actions_per_s": 0.05, "observation_to_trajectory_p95_ms": 0.05} and not result["within_limit"]
    assert result["cost"]["rviz"] == {"actions_per_s": 0.0, "observation_to_trajectory_p95_ms": -0.005}


def test_bench_watch_measures_every_way_of_watching(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the nodes; the watchers are the real ones."""
    monkeypatch.setattr(bench, "SETTLE_S", 2.0)
    results = bench.bench_watch(bench.WatchBenchOptions(seconds=3.0, repetitions=1, out=tmp_path), Console(quiet=True))
    assert set(results["watchers"]) == {"nobody", "rerun", "rviz"} and set(results["cost"]) == {"rerun", "rviz"}
    assert all(found["actions_per_s"] > 10 for found in results["watchers"].values())
    assert results["watchers"]["rerun"]["watcher_cpu_percent"] > 0 and results["watchers"]["nobody"]["watcher_cpu_percent"] == 0
    assert (tmp_path / "latest/watch.json").is_file()
