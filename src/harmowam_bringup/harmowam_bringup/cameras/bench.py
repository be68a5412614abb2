"""`harmowam bench camera-node`: processor time and lost frames of the camera node, on three software devices."""

from __future__ import annotations

import json as json_module
import multiprocessing
import struct
import time
from functools import partial
from multiprocessing.connection import Connection
from threading import Event, Thread
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

from harmowam_core.results import write_json

CAMERAS = ("scene", "wrist_left", "wrist_right")
WARM_UP_S = 3.0
PERIOD_NS = 1e9 / 30
MAX_CPU_PERCENT = 60.0


def camera_node(
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to measure.")] = 120.0,
    json: Annotated[str, typer.Option("--json", metavar="[FILE]", help="Write as JSON to FILE; without FILE to standard output.")] = "",
) -> None:
    """Three 640x480 software cameras at 30 Hz through the camera node: processor share, frames dropped; exit 1 above the limits."""
    console = Console(stderr=json == "-", highlight=False, soft_wrap=True)
    result = measure(seconds, console)
    write_json(json, result)
    met = result["cpu_percent"] <= MAX_CPU_PERCENT and result["dropped"] == 0
    raise typer.Exit(0 if met else 1)


def measure(seconds: float, console: Console) -> dict[str, Any]:
    """Run the node in this process, count its messages by a subscriber in another.

    ``cpu_percent`` is this process's share of one core without the thread that feeds the devices, which hardware would do.
    ``dropped``: images that are missing at the subscriber, by the gaps between stamps; ``dropped_by_the_node``: those of them that the
    node never saw, because it was too slow to fetch them.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rich.progress import Progress

    from harmowam_bringup.cameras.camera_node import CameraNode
    from harmowam_bringup.cameras.software import Feeder, SoftwareBus, SoftwareCamera
    from harmowam_bringup.dds import expect_large_images
    from harmowam_bringup.session import free_domain

    domain = free_domain()
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    expect_large_images()  # as the node's own main does, and as who listens to full-size images should
    counter = spawn.Process(target=_count, args=(domain, there), daemon=True)
    counter.start()
    bus = SoftwareBus()
    devices = [SoftwareCamera(str(101 + k)) for k in range(len(CAMERAS))]
    for device in devices:
        bus.plug(device)
    serials = json_module.dumps([device.serial for device in devices])
    rclpy.init(args=["--ros-args", "-p", f"serials:={serials}", "--log-level", "error"], domain_id=domain)
    node, executor, ended = CameraNode(bus.context), SingleThreadedExecutor(), Event()
    executor.add_node(node)

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)

    spinner = Thread(target=spin, daemon=True)
    spinner.start()
    feeder = Feeder(devices)
    try:
        here.recv()  # the subscriber is up
        end_s = time.monotonic() + 20.0
        while not node.active and time.monotonic() < end_s:
            time.sleep(0.05)
        if not node.active:
            raise RuntimeError(f"the camera node did not come up: {node.health.summary().message}")
        time.sleep(WARM_UP_S)
        process = psutil.Process()
        before = _state(feeder, process, here)
        missed = sum(stream.counts.dropped for stream in node._streams.values())
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("streaming", total=seconds)
            began_s = time.monotonic()
            while (passed_s := time.monotonic() - began_s) < seconds:
                progress.update(task, completed=passed_s)
                time.sleep(min(0.5, seconds - passed_s))
        after = _state(feeder, process, here)
        missed = sum(stream.counts.dropped for stream in node._streams.values()) - missed
    finally:
        feeder.close()
        ended.set()
        spinner.join()
        node.trigger_deactivate()
        here.send("end")
        counter.join(timeout=10.0)
        node.destroy_node()
        rclpy.try_shutdown()
    took_s = after["at_s"] - before["at_s"]
    received = {name: after["received"][name] - before["received"][name] for name in CAMERAS}
    processor_s, feeding_s = after["processor_s"] - before["processor_s"], after["feeding_s"] - before["feeding_s"]
    result = {
        "seconds": round(took_s, 2),
        "cameras": len(CAMERAS),
        "sent": (after["sent"] - before["sent"]) * len(CAMERAS),
        "received": sum(received.values()),
        "rate_hz": {name: round(count / took_s, 2) for name, count in received.items()},
        "dropped": sum(after["gaps"][name] - before["gaps"][name] for name in CAMERAS),
        "dropped_by_the_node": missed,
        "cpu_percent": round(100 * (processor_s - feeding_s) / took_s, 1),
        "cpu_percent_with_feeding": round(100 * processor_s / took_s, 1),
    }
    console.print(
        f"{result['received']} of {result['sent']} images received, {result['dropped']} dropped; "
        f"{result['cpu_percent']} % of one core ({result['cpu_percent_with_feeding']} % with the thread that stands in for the hardware)"
    )
    return result


def _state(feeder: Any, process: psutil.Process, counter: Connection) -> dict[str, Any]:
    counter.send("report")
    received, gaps = counter.recv()
    times = process.cpu_times()
    return {
        "at_s": time.monotonic(),
        "processor_s": times.user + times.system,
        "feeding_s": feeder.processor_s,
        "sent": feeder.sent,
        "received": received,
        "gaps": gaps,
    }


def _count(domain: int, pipe: Connection) -> None:
    """The subscriber's process: on request, how many images have come, and how many are missing by the gaps between stamps."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from harmowam_core import topics

    # Best effort, as the graph's nodes listen, but deep: a reader that was not scheduled for a while is no loss of the node's.
    every_message = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
    rclpy.init(args=[], domain_id=domain)
    node = rclpy.create_node("counter")
    received, gaps, last_ns = dict.fromkeys(CAMERAS, 0), dict.fromkeys(CAMERAS, 0), dict.fromkeys(CAMERAS, 0)

    def on_image(name: str, data: bytes) -> None:
        seconds, nanoseconds = struct.unpack_from("<iI", data, 4)  # after the encapsulation; images stay serialized
        stamp_ns = seconds * 10**9 + nanoseconds
        if last_ns[name]:
            gaps[name] += max(0, round((stamp_ns - last_ns[name]) / PERIOD_NS) - 1)
        last_ns[name] = stamp_ns
        received[name] += 1

    for name in CAMERAS:
        node.create_subscription(Image, topics.camera_image(name), partial(on_image, name), every_message, raw=True)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    pipe.send("up")
    while True:
        executor.spin_once(timeout_sec=0.1)
        if pipe.poll():
            if pipe.recv() == "end":
                break
            pipe.send((dict(received), dict(gaps)))
    node.destroy_node()
    rclpy.try_shutdown()
