"""``harmowam bench bag`` and ``harmowam bench record``."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rclpy.serialization import serialize_message
from rich.console import Console
from rich.table import Table

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.bag_writer import BagWriter, RecordedTopic
from harmowam_bringup.bags.made_up_cameras import Cameras, serialized_image, stamped
from harmowam_bringup.demo import DemoOptions, launch_simulation, wait_until_active
from harmowam_bringup.session import GraphSession, free_domain, isolated_environment
from harmowam_bringup.summary import new_results_dir
from harmowam_core.cell import load_cell
from harmowam_core.contract import load_contract
from harmowam_core.images import prepare_image
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_from_message, joint_state_from_message, joint_state_to_message
from harmowam_core.presets import load_preset
from harmowam_core.results import commit, write_json
from harmowam_core.stages import JointState
from harmowam_sim.environments import sample_episode

JOINTS_HZ = 100.0
START_NS = 1_700_000_000 * 10**9
IMAGE = "sensor_msgs/msg/Image"


def bench_bag(seconds: float, out: Path, console: Console) -> dict[str, Any]:
    """Write a bag of three cameras and joint states, then read it (from the page cache): times real time of each way of reading."""
    folder = new_results_dir(out)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder / "bag")
        cameras = Cameras()
        size = _write(folder / "bag", cameras, seconds)
        shape = f"{cameras.width}x{cameras.height}"
        console.print(f"  {seconds:.0f} s of {cameras.count} cameras of {shape} at {cameras.hz:.0f} Hz: {size / 2**20:.0f} MiB")
        sizes = dict(zip(cameras.topics, load_contract().sizes(load_preset()).values(), strict=True))
        ways: dict[str, Callable[[str, Any], object]] = {
            "decoded": lambda topic, message: None,
            "every_byte_touched": lambda topic, image: np.bitwise_xor.reduce(image.reshape(-1).view(np.uint64)),
            "as_the_model_sees_it": lambda topic, image: prepare_image(image, sizes[topic]),
        }
        results: dict[str, Any] = {"seconds": seconds, "bytes": size}
        for name, use in ways.items():
            began_s, cpu_s, count = time.perf_counter(), time.process_time(), 0
            with Bag(folder / "bag") as bag:
                for item in bag.messages():
                    count += 1
                    if item.topic in sizes:
                        use(item.topic, image_from_message(item.message))
                    else:
                        joint_state_from_message(item.message)
            took_s, used_s = time.perf_counter() - began_s, time.process_time() - cpu_s
            results[name] = {
                "times_real_time": round(seconds / took_s, 1),
                "cpu_times_real_time": round(seconds / used_s, 1),
                "messages": count,
            }
    results["commit"] = commit()
    table = Table("reading", "times real time", "by processor time", box=None, pad_edge=False)
    for name in ways:
        table.add_row(name.replace("_", " "), f"{results[name]['times_real_time']:.0f}", f"{results[name]['cpu_times_real_time']:.0f}")
    console.print(table)
    write_json(folder / "bag.json", results)
    return results


def _write(folder: Path, cameras: Cameras, seconds: float) -> int:
    cell = load_cell()
    names = cell.arm_joint_names + cell.finger_joint_names
    positions = np.concatenate([Kinematics(cell).home(), np.zeros(len(cell.arms))])
    images = [serialized_image(cameras, number) for number in range(cameras.count)]
    events: list[tuple[float, int | None]] = [(k / JOINTS_HZ, None) for k in range(round(seconds * JOINTS_HZ))]
    events += [(k / cameras.hz, number) for k in range(round(seconds * cameras.hz)) for number in range(cameras.count)]
    with BagWriter(folder, {}) as writer:
        channels = [writer.add_topic(RecordedTopic(topic, IMAGE, large=True)) for topic in cameras.topics]
        joints = writer.add_topic(RecordedTopic("/joint_states", "sensor_msgs/msg/JointState"))
        for time_s, camera in sorted(events, key=lambda event: event[0]):
            time_ns = START_NS + round(time_s * 1e9)
            if camera is None:
                state = JointState(time_ns, names, positions, np.zeros(len(names)))
                writer.write(joints, time_ns, time_ns, serialize_message(joint_state_to_message(state)))
            else:
                writer.write(channels[camera], time_ns, time_ns, stamped(images[camera], time_ns))
                writer.wait_for_disk()
    if writer.error is not None:
        raise ValueError(f"the bag could not be written: {writer.error}")
    return writer.size


def bench_record(seconds: float, graph: bool, out: Path, console: Console) -> dict[str, Any]:
    """Record made-up cameras beside the graph at work; messages lost, and processor time of the recorder in percent of one core."""
    folder = new_results_dir(out)
    cameras = Cameras()
    domain_id = free_domain()
    environment = isolated_environment(domain_id)
    del environment["FASTRTPS_DEFAULT_PROFILES_FILE"]  # large images need shared memory; who sends and stores them sees to that
    run = DemoOptions()
    with ExitStack() as stack:
        if graph:
            session = stack.enter_context(GraphSession(launch_simulation(run, domain_id, None), folder / "nodes.log", domain_id))
            wait_until_active(session, console)
        command = [sys.executable, "-c", "from harmowam_bringup.cli import main; main()"]
        topics = [word for topic in cameras.topics for word in ("--topic", topic)]
        recorder = stack.enter_context(
            subprocess.Popen(
                [*command, "record", "--out", str(folder / "bag"), "--json", str(folder / "counts.json"), *topics], env=environment
            )
        )
        stack.callback(_interrupt, recorder)
        publisher = stack.enter_context(
            subprocess.Popen(
                [*command, "bench", "publish-cameras", "--seconds", str(seconds), "--json", "-"], env=environment, stdout=subprocess.PIPE
            )
        )
        stack.callback(_interrupt, publisher)
        process, cpu_s, began_s, faults = psutil.Process(recorder.pid), 0.0, 0.0, 0

        def on_wait() -> None:
            nonlocal cpu_s, began_s
            if not began_s and (folder / "bag").exists() and sum(path.stat().st_size for path in (folder / "bag").iterdir()) > 2**24:
                cpu_s, began_s = sum(process.cpu_times()[:2]), time.monotonic()  # images have begun to come

        if graph:
            instruction = sample_episode(run.task, run.environment, run.episode_seed).instruction
            faults = session.keep_executing(instruction, on_wait, lambda: publisher.poll() is not None, seconds + 60.0)
        while publisher.poll() is None:
            on_wait()
            time.sleep(0.1)
        percent = 100 * (sum(process.cpu_times()[:2]) - cpu_s) / (time.monotonic() - began_s)
        sent = json.loads(publisher.communicate()[0])
    counts = json.loads((folder / "counts.json").read_text())
    with Bag(folder / "bag") as bag:
        stored = {topic: bag.topics[topic].count for topic in cameras.topics}
        problems = bag.problems.to_json()
    dropped = sum(sent.values()) - sum(stored.values())
    results = {
        "seconds": seconds,
        "graph": graph,
        "faults": faults,
        "sent": sent,
        "recorded": stored,
        "dropped": dropped,
        "lost_by_dds": counts["lost"],
        "refused": counts["refused"],
        "messages": counts["messages"],
        "bytes": counts["bytes"],
        "recorder_cpu_percent": round(percent, 1),
        "problems": problems,
        "commit": commit(),
    }
    shutil.rmtree(folder / "bag")
    write_json(folder / "record.json", results)
    console.print(f"  {sum(sent.values())} images sent, {dropped} not recorded; lost on the way: {counts['lost'] or 'none'}")
    console.print(f"  {counts['messages']} messages of {len(counts['topics'])} topics, {counts['bytes'] / 2**20:.0f} MiB")
    console.print(f"  the recorder took {percent:.0f} % of one core")
    return results


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(30)
