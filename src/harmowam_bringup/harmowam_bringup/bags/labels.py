"""``harmowam labels``: a recording's interaction and transit, by the same rule that teaches the gate."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harmowam_bringup.bags.bag import Bag
from harmowam_bringup.bags.problems import Trouble, print_problems
from harmowam_bringup.bags.progress import following
from harmowam_bringup.bags.rows import Motion, read_motion
from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.contract import Contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import gate_state_from_message
from harmowam_core.stages import Phase, StageError
from harmowam_gate.labels import GateLabelSettings, gripper_events, interaction_labels

TIMELINE_CHARACTERS = 100
NAMES = {True: Phase.INTERACTION.value, False: Phase.TRANSIT.value}


def label_bag(path: Path, contract: Contract, cell: Cell, console: Console) -> tuple[dict[str, Any], Motion]:
    """Labels ready for JSON, and the motion they come from. Times are seconds since the recording's first message."""
    settings = GateLabelSettings()
    with Bag(path) as bag, ExitStack() as stack:
        stack.callback(lambda: print_problems(bag.problems, bag.started_ns, console))  # also where they leave nothing to label
        with following(console, path.name) as progress:
            motion = read_motion(bag, contract, cell, Kinematics(cell), progress)
        labels = interaction_labels(motion.commanded, motion.positions, settings)
        times_s = (motion.times_ns - bag.started_ns) / 1e9
        events: list[dict[str, Any]] = [
            {"time_s": round(float(times_s[frame]), 3), "arm": arm, "closes": bool(motion.commanded[frame, number] < 0.5)}
            for number, arm in enumerate(cell.arm_names)
            for frame in gripper_events(motion.commanded[:, number])
        ]
        found = {
            "bag": str(path),
            "started_ns": bag.started_ns,
            "period_s": contract.period_s,
            "settings": asdict(settings),
            "times_s": [round(float(time_s), 3) for time_s in times_s],
            "interaction": [bool(label) for label in labels],
            "segments": _segments(times_s, labels, contract.period_s),
            "events": sorted(events, key=lambda event: event["time_s"]),
            "gate": _agreement(bag, motion, labels),
            "problems": bag.problems.to_json(),
        }
    return found, motion


def _segments(times_s: np.ndarray, labels: np.ndarray, period_s: float) -> list[dict[str, Any]]:
    found = []
    for label, group in groupby(range(len(labels)), key=lambda frame: bool(labels[frame])):
        frames = list(group)
        end_s = times_s[frames[-1] + 1] if frames[-1] + 1 < len(labels) else times_s[frames[-1]] + period_s
        found.append({"phase": NAMES[label], "start_s": round(float(times_s[frames[0]]), 3), "end_s": round(float(end_s), 3)})
    return found


def _agreement(bag: Bag, motion: Motion, labels: np.ndarray) -> dict[str, Any] | None:
    """How often the gate that ran in the recording agreed, where there was one with a task."""
    agreed: list[bool] = []
    for item in bag.messages({topics.GATE_STATE: ("harmowam_msgs/msg/GateState",)}):
        try:
            state = gate_state_from_message(item.message)
        except StageError as error:
            bag.problems.add(Trouble.REFUSED, item.topic, str(error), item.time_ns)
            continue
        frame = int(np.searchsorted(motion.times_ns, item.time_ns)) - 1
        if state.task_id and 0 <= frame < len(labels):
            agreed.append((state.phase is Phase.INTERACTION) == bool(labels[frame]))
    return {"states": len(agreed), "agreement": round(float(np.mean(agreed)), 4)} if agreed else None


def print_labels(found: dict[str, Any], console: Console) -> None:
    """The timeline, then its pieces and events."""
    labels = np.array(found["interaction"])
    at = np.linspace(0, len(labels) - 1, min(TIMELINE_CHARACTERS, len(labels))).round().astype(int)
    line = Text()
    for frame in at:
        line.append("█" if labels[frame] else "─", "magenta" if labels[frame] else "cyan")
    console.print(line)
    console.print(f"{found['times_s'][0]:.1f} s to {found['times_s'][-1]:.1f} s; █ interaction ({labels.mean():.0%}), ─ transit")
    table = Table("phase", "from", "to", box=None, pad_edge=False)
    for segment in found["segments"]:
        table.add_row(segment["phase"], f"{segment['start_s']:.1f} s", f"{segment['end_s']:.1f} s")
    console.print(table)
    for event in found["events"]:
        console.print(f"  {event['time_s']:.1f} s: {event['arm']} gripper {'closes' if event['closes'] else 'opens'}")
    if found["gate"]:
        console.print(f"the gate that ran agreed with {found['gate']['agreement']:.1%} of {found['gate']['states']} states")


def plot_labels(found: dict[str, Any], motion: Motion, cell: Cell, path: Path) -> None:
    """Heights and openings over time, interaction shaded, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    heights, openings = figure.subplots(2, 1, sharex=True)
    times_s = np.array(found["times_s"])
    for number, arm in enumerate(cell.arm_names):
        heights.plot(times_s, 100 * motion.positions[:, number, 2], label=arm)
        openings.plot(times_s, motion.commanded[:, number], label=f"{arm}, commanded")
        openings.plot(times_s, motion.openings[:, number], "--", linewidth=1, label=f"{arm}, measured")
    for axes in (heights, openings):
        for segment in found["segments"]:
            if segment["phase"] == Phase.INTERACTION.value:
                axes.axvspan(segment["start_s"], segment["end_s"], color="tab:pink", alpha=0.25, linewidth=0)
        axes.legend(loc="upper right", fontsize="small")
    heights.set_ylabel("tool height, cm")
    heights.set_title("interaction is shaded")
    openings.set_ylabel("gripper opening")
    openings.set_xlabel("time, s")
    figure.savefig(path, dpi=110)
