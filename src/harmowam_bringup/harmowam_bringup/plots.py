"""Plots of a recording for the report, each an SVG text."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harmowam_bringup.faults.resources import Sample
from harmowam_bringup.palette import EXPERT_COLOURS, FAINT, INK
from harmowam_bringup.recording import Recording
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics

MOST_POINTS = 800
WIDTH_IN = 11.0
ABOVE: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "fontsize": 8, "frameon": False}
_ARM_COLOURS = ("#7b4fa0", "#2f7d4f", "#b5493a", "#3a7ca5")

mpl.rcParams.update({"svg.fonttype": "none", "font.size": 9, "axes.edgecolor": FAINT, "axes.labelcolor": INK})


def figure_of(rows: int, height_in: float) -> tuple[Figure, list[Axes]]:
    """A figure of the report's width with rows that share the time axis."""
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color=FAINT, linewidth=0.5)
    axes[-1].set_xlabel("time (s)")
    return figure, axes


def svg(figure: Figure) -> str:
    """The figure as text, the same for the same figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _thin(items: Sequence[Any]) -> Sequence[Any]:
    return items[:: math.ceil(len(items) / MOST_POINTS) or 1]


def _shade_experts(axis: Axes, recording: Recording) -> None:
    """Background in the colour of the expert that the arm follows."""
    gate = recording.gate
    start = 0
    for index in range(1, len(gate) + 1):
        if index == len(gate) or gate[index].value.expert != gate[start].value.expert:
            begin, end = (recording.since_start_s(gate[k].received_ns) for k in (start, min(index, len(gate) - 1)))
            axis.axvspan(begin, end, color=EXPERT_COLOURS[gate[start].value.expert], alpha=0.18, linewidth=0)
            start = index


def gate_timeline(recording: Recording) -> str:
    """Gate score over time on the colour of the expert in charge; changes of sub-stage are marked."""
    figure, (axis,) = figure_of(1, 2.8)
    _shade_experts(axis, recording)
    gate = _thin(recording.gate)
    axis.plot([recording.since_start_s(g.received_ns) for g in gate], [g.value.score for g in gate], color=INK, linewidth=1.2)
    axis.set(ylim=(-0.03, 1.03), ylabel="gate score")
    stage = ""
    for item in recording.scores:
        if item.value.get("sub_stage", stage) != stage:
            stage = item.value["sub_stage"]
            at = recording.since_start_s(item.received_ns)
            axis.axvline(at, color=INK, linewidth=0.8, linestyle=":")
            axis.text(at, 1.0, f" {stage}", rotation=90, va="top", fontsize=7, color=INK)
    for expert, colour in EXPERT_COLOURS.items():
        axis.fill_between([], [], color=colour, alpha=0.4, label=expert.value if expert is not None else "none")
    axis.legend(**ABOVE, ncols=3)
    return svg(figure)


def joint_positions(recording: Recording, cell: Cell) -> str:
    """Measured joint angles, one row an arm."""
    figure, axes = figure_of(len(cell.arms), 2.2 * len(cell.arms))
    states = _thin(recording.joint_states)
    times = [recording.since_start_s(item.received_ns) for item in states]
    for arm, axis in zip(cell.arms, axes, strict=True):
        for joint, name in zip(cell.joints, arm.named(cell.joints), strict=True):
            axis.plot(times, [item.value.positions[item.value.names.index(name)] for item in states], linewidth=1, label=joint)
        axis.set_ylabel(f"{arm.name} (rad)")
    axes[0].legend(**ABOVE, ncols=7)
    return svg(figure)


def tcp_path(recording: Recording, cell: Cell) -> str:
    """Measured tool positions in the base frame, one row an axis, on the colour of the expert in charge."""
    figure, axes = figure_of(3, 4.6)
    times, positions = tcp_positions(recording, cell)
    for row, axis in enumerate(axes):
        _shade_experts(axis, recording)
        for index, arm in enumerate(cell.arms):
            axis.plot(times, positions[:, index, row], color=_ARM_COLOURS[index % len(_ARM_COLOURS)], linewidth=1.2, label=arm.name)
        axis.set_ylabel(f"{'xyz'[row]} (m)")
    axes[0].legend(**ABOVE, ncols=2)
    return svg(figure)


def tcp_positions(recording: Recording, cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(T,) s since the start and (T, A, 3) m, by forward kinematics of the joint states, thinned."""
    kinematics = Kinematics(cell)
    states = _thin(recording.joint_states)
    positions = [
        kinematics.forward([item.value.positions[item.value.names.index(name)] for name in cell.arm_joint_names])[0] for item in states
    ]
    times = [recording.since_start_s(item.received_ns) for item in states]
    return np.array(times), np.array(positions).reshape(-1, len(cell.arms), 3)


def latency_histogram(latencies_ms: dict[str, list[float]]) -> str:
    """How long after its observation each stage came out."""
    figure, (axis,) = figure_of(1, 2.4)
    shown = {name: values for name, values in latencies_ms.items() if values}
    most = max((float(np.percentile(values, 99)) for values in shown.values()), default=1.0)
    bins = np.linspace(0, most * 1.1, 60).tolist()
    for name, values in shown.items():
        axis.hist(values, bins=bins, histtype="step", linewidth=1.4, label=f"{name.replace('_', ' ')} (n={len(values)})")
    axis.set(xlabel="ms since the observation", ylabel="count")
    if shown:
        axis.legend(fontsize=8)
    return svg(figure)


def write_soak_plot(path: Path, samples: Mapping[str, Sequence[Sample]], faults: int) -> None:
    """Memory and threads of every process over a soak, as a picture."""
    figure, (memory, threads) = figure_of(2, 6.0)
    for name, seen in samples.items():
        times_min = [sample.time_s / 60 for sample in seen]
        memory.plot(times_min, [sample.memory_mb for sample in seen], linewidth=1, label=name)
        threads.plot(times_min, [sample.threads for sample in seen], linewidth=1, label=name)
    memory.set_ylabel("resident memory (MB)")
    threads.set_ylabel("threads")
    threads.set_xlabel(f"time (min), {faults} faults")
    if samples:
        memory.legend(ncols=5, **ABOVE)
    figure.savefig(path, dpi=120)
