"""``harmowam watch``: a graph or a bag in Rerun, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rerun as rr
from rich.console import Console
from rich.progress import Progress
from sensor_msgs.msg import Image

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.message_types import IMAGES, type_of
from harmowam_bringup.bags.problems import print_problems
from harmowam_bringup.watch.blueprint import watch_blueprint
from harmowam_bringup.watch.feeds import PERIOD_S, Feed, feeds, show, with_compressed
from harmowam_bringup.watch.rerun_log import APPLICATION, RerunLog
from harmowam_bringup.watch.viewer import saving, viewer
from harmowam_core.cell import Cell

NICENESS = 10
"""Watching gives way to the graph."""


def watch(cell: Cell, console: Console, *, bag: Path | None, web: bool, save: Path | None, port: int, seconds: float) -> None:
    """Show a bag, or the running graph for ``seconds`` (0: until interrupted); ViewerError or BagError say what is in the way."""
    os.nice(NICENESS)
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the viewer must not outlive its terminal
        signal.signal(number, signal.default_int_handler)
    stream = rr.RecordingStream(APPLICATION)
    with saving(stream, save) if save is not None else viewer(stream, web=web, port=port) as where:
        stream.send_blueprint(watch_blueprint(cell))
        log, shown = RerunLog(stream, cell), feeds(cell)
        console.print(f"  look at {where}" if save is None else f"  saving to {where}")
        try:
            if bag is None:
                _watch_graph(shown, log, seconds, console)
            else:
                _watch_bag(bag, with_compressed(shown), log, console)
                if save is None:
                    stream.flush()
                    console.print("  all of the bag is there; Ctrl-C ends the viewer")
                    time.sleep(seconds or 10**9)
        except KeyboardInterrupt:
            console.print("  ended")


def _watch_graph(shown: dict[str, Feed], log: RerunLog, seconds: float, console: Console) -> None:
    from harmowam_bringup.watch.live import listening

    started_s = time.monotonic()
    heard = False
    with listening(shown) as take:
        while not seconds or time.monotonic() - started_s < seconds:
            for topic, time_ns, message in take():
                show(shown[topic], log, topic, message, time_ns)
                heard = True
            if not heard and time.monotonic() - started_s > 5.0:
                console.print("  [yellow]nothing is heard; is a graph running in this ROS domain? (harmowam up sim.launch.yaml)[/yellow]")
                heard = True
            time.sleep(PERIOD_S)


def _watch_bag(path: Path, shown: dict[str, Feed], log: RerunLog, console: Console) -> None:
    kinds = {topic: IMAGES if feed.kind is Image else (type_of(feed.kind),) for topic, feed in shown.items()}
    with Bag(path) as bag, Progress(console=console, transient=True) as progress:
        bar = progress.add_task("reading", total=max(1, bag.ended_ns - bag.started_ns))
        for topic, time_ns, message in thinned(((item.topic, item.time_ns, item.message) for item in bag.messages(kinds)), shown):
            show(shown[topic], log, topic, message, time_ns)
            progress.update(bar, completed=time_ns - bag.started_ns)
        problems, started_ns = list(bag.problems), bag.started_ns
    print_problems(problems, started_ns, console)


def thinned(messages: Iterator[tuple[str, int, Any]], shown: dict[str, Feed]) -> Iterator[tuple[str, int, Any]]:
    """Of feeds that keep the newest alone, no more than one message a period."""
    last_ns: dict[str, int] = {}
    for topic, time_ns, message in messages:
        if shown[topic].kept > 1 or time_ns - last_ns.get(topic, -(10**18)) >= 0.9 * PERIOD_S * 1e9:
            last_ns[topic] = time_ns
            yield topic, time_ns, message
