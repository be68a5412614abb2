"""``harmowam record``: a graph's topics into a rosbag2, until it is interrupted."""

from __future__ import annotations

import errno
import json
import math
import shutil
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.table import Table

from harmowam_bringup.bags.bag_writer import BagWriter
from harmowam_bringup.bags.graph_recorder import GraphRecorder, graph_topics
from harmowam_bringup.dds import expect_large_images
from harmowam_bringup.session import GraphError
from harmowam_core.cell import Cell, load_cell
from harmowam_core.contract import contract_for
from harmowam_core.results import commit
from harmowam_core.wan_preset import load_any_preset

LOW_DISK_BYTES = 2**30
LOW_DISK_S = 120.0
"""A disk is low when less than both is left."""
PLAIN_PERIOD_S = 10.0


@dataclass(frozen=True)
class RecordOptions:
    """What to record; ``topics`` beyond the graph's, ``everything``: all there are. Ends after ``seconds`` (0: when interrupted).

    cell: of a robot that runs without the policy; everything is recorded then, and preset and contract are nobody's.
    """

    out: Path
    topics: tuple[str, ...] = ()
    everything: bool = False
    jpeg: bool = False
    preset: str = "compact"
    contract: str = ""
    seconds: float = 0.0
    cell: str = ""


def describe(preset_name: str, contract_name: str = "", cell_name: str = "") -> dict[str, str]:
    """What a bag's metadata says of the stack, or of a cell without one; tasks and calibration are added while recording."""
    if cell_name:
        return _of_cell(load_cell(cell_name))
    preset = load_any_preset(preset_name)
    contract = contract_for(preset, contract_name)
    return {
        "preset": preset_name,
        "contract": contract.name,
        "contract_content": json.dumps(contract.model_dump(mode="json")),
        **_of_cell(preset.load_cell()),
    }


def _of_cell(cell: Cell) -> dict[str, str]:
    return {
        "cell": cell.name,
        "cell_profile": json.dumps(cell.model_dump(mode="json")),
        "commit": commit(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
    }


class DiskFullError(GraphError):
    """The recording ended because the disk did not take more."""


def record(options: RecordOptions, console: Console) -> dict[str, Any]:
    """Record until SIGINT, SIGTERM, the end of the time or of the disk; returns counts. ValueError if the folder exists, DiskFullError."""
    wanted = None
    if not options.everything and not options.cell:
        preset = load_any_preset(options.preset)
        wanted = graph_topics(contract_for(preset, options.contract), preset.load_cell()) | set(options.topics)
    try:
        writer = BagWriter(options.out, describe(options.preset, options.contract, options.cell))
    except FileExistsError as error:
        raise ValueError(f"{options.out} exists already; name a new folder with --out") from error
    except OSError as error:
        raise DiskFullError(f"{options.out} cannot be written: {error}") from error
    interrupts: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):  # noted, so that no message is cut in half
        signal.signal(number, lambda number, _: interrupts.append(number))
    expect_large_images()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node("recorder", enable_rosout=False, start_parameter_services=False)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    recorder = GraphRecorder(node, writer, wanted, jpeg=options.jpeg)
    display = _Display(recorder, writer, console)
    try:
        with display:
            end_s = time.monotonic() + (options.seconds or math.inf)
            while not interrupts and writer.error is None and time.monotonic() < end_s:
                executor.spin_once(timeout_sec=0.1)
                display.update()
    finally:
        recorder.stop()
        writer.close()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return _conclude(options, recorder, writer, console)


def _conclude(options: RecordOptions, recorder: GraphRecorder, writer: BagWriter, console: Console) -> dict[str, Any]:
    lost = {topic: counter.lost for topic, counter in recorder.counters.items() if counter.lost}
    result = {
        "bag": str(options.out),
        "bytes": writer.size,
        "messages": sum(writer.counts.values()),
        "lost": lost,
        "refused": writer.refused,
        "topics": writer.counts,
    }
    missing = sum(lost.values()) + writer.refused
    console.print(f"{options.out}: {result['messages']} messages, {writer.size / 2**20:.1f} MiB, {missing} lost")
    if writer.error is not None:
        full = writer.error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "the disk is full" if full else f"the disk failed ({writer.error})"
        raise DiskFullError(f"recording ended: {why}. {options.out} holds what came before; free space on it and start again")
    return result


class _Display:
    """Counters by topic while recording: a live table in a terminal, else a line now and then."""

    def __init__(self, recorder: GraphRecorder, writer: BagWriter, console: Console) -> None:
        self._recorder, self._writer, self._console = recorder, writer, console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._seen: dict[str, int] = {}
        self._shown_s = self._printed_s = self._began_s = time.monotonic()
        self._warned = self._said_slow = False

    def __enter__(self) -> None:
        self._console.print(f"recording to {self._writer.folder}, until Ctrl-C")
        if self._live is not None:
            self._live.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._live is not None:
            self._live.__exit__(*error)

    def update(self) -> None:
        """Show what came, at most once a second; look after the disk."""
        now_s = time.monotonic()
        since_s = now_s - self._shown_s
        if since_s < 1.0:
            return
        self._shown_s = now_s
        free = shutil.disk_usage(self._writer.folder).free
        rate = self._writer.size / (now_s - self._began_s)
        if not self._warned and free < LOW_DISK_BYTES and free < LOW_DISK_S * rate:
            self._warned = True
            self._console.print(f"[yellow]the disk is low: {free / 2**20:.0f} MiB are left, for {free / rate:.0f} s[/yellow]")
        if self._writer.refused and not self._said_slow:
            self._said_slow = True
            self._console.print(
                "[yellow]the disk is too slow for what comes: messages are being dropped; record fewer topics, or JPEG[/yellow]"
            )
        counters = self._recorder.counters
        if self._live is not None:
            table = Table("topic", "messages", "a second", "lost", box=None, pad_edge=False)
            for name, counter in sorted(counters.items()):
                rate_hz = (counter.received - self._seen.get(name, 0)) / since_s
                table.add_row(name, str(counter.received), f"{rate_hz:.1f}", str(counter.lost or ""))
            table.caption = f"{self._writer.size / 2**20:.0f} MiB written, {free / 2**30:.1f} GiB free"
            self._live.update(table, refresh=True)
        elif now_s - self._printed_s >= PLAIN_PERIOD_S:
            self._printed_s = now_s
            received, lost = (sum(getattr(counter, what) for counter in counters.values()) for what in ("received", "lost"))
            self._console.print(f"  {received} messages of {len(counters)} topics, {self._writer.size / 2**20:.0f} MiB, {lost} lost")
        self._seen = {name: counter.received for name, counter in counters.items()}
