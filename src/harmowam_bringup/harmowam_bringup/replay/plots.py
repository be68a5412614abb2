"""Plots of the offline report, each an SVG text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from harmowam_bringup.palette import CAME, EXPERT_COLOURS, IMAGINED, INK
from harmowam_bringup.plots import ABOVE, figure_of, svg
from harmowam_bringup.replay.measures import StepErrors, known_mean
from harmowam_core.stages import Expert


def _times_s(judged: Sequence[StepErrors]) -> list[float]:
    first_ns = judged[0].step.imagination.stamp_ns
    return [(e.step.imagination.stamp_ns - first_ns) * 1e-9 for e in judged]


def _shade_interaction(axis: Axes, judged: Sequence[StepErrors], times_s: Sequence[float]) -> None:
    axis.fill_between(
        times_s, 0, 1, where=[e.interaction for e in judged], step="post", transform=axis.get_xaxis_transform(), color=CAME, alpha=0.13,
        linewidth=0, label="interaction (label)",
    )  # fmt: skip


def errors_over_time(judged: Sequence[StepErrors]) -> str:
    """Mean position error of each step's chunks, both experts and the gated choice, on the labels."""
    figure, (axis,) = figure_of(1, 3.0)
    times = _times_s(judged)
    _shade_interaction(axis, judged, times)
    for expert in Expert:
        values = [100 * known_mean(e.experts[expert].position_m) for e in judged]
        axis.plot(times, values, color=EXPERT_COLOURS[expert], linewidth=1.1, label=expert.value)
    chosen = [100 * known_mean(e.chosen.position_m) for e in judged]
    axis.plot(times, chosen, color=INK, linewidth=0, marker=".", markersize=4, label="chosen")
    axis.set(ylabel="error of the chunk (cm)", ylim=(0, None))
    axis.legend(**ABOVE, ncols=4)
    return svg(figure)


def gate_over_time(judged: Sequence[StepErrors]) -> str:
    """The gate's score and whose chunk would be followed, on the labels."""
    figure, (axis,) = figure_of(1, 2.4)
    times = _times_s(judged)
    _shade_interaction(axis, judged, times)
    axis.plot(times, [e.step.score for e in judged], color=INK, linewidth=1.2, label="score")
    for expert in Expert:
        at = [t for t, e in zip(times, judged, strict=True) if e.step.expert is expert]
        axis.plot(at, np.full(len(at), -0.06), color=EXPERT_COLOURS[expert], linewidth=0, marker="s", markersize=3, label=expert.value)
    axis.set(ylabel="gate", ylim=(-0.12, 1.05))
    axis.legend(**ABOVE, ncols=4)
    return svg(figure)


def over_horizon(runs: Sequence[tuple[str, Sequence[StepErrors]]], period_s: float) -> str:
    """PSNR, SSIM and end-effector error of what was imagined, median and middle half, against how far ahead; a line a run."""
    figure, axes = figure_of(3, 5.4)
    lines = _colours(len(runs))
    for colour, (name, judged) in zip(lines, runs, strict=True):
        whole = max(len(e.experts[Expert.REACTIVE].position_m) for e in judged)
        pulled = (
            [e.psnr_db for e in judged],
            [e.ssim for e in judged],
            [100 * e.experts[Expert.REACTIVE].position_m for e in judged if len(e.experts[Expert.REACTIVE].position_m) == whole],
        )
        for axis, listed in zip(axes, pulled, strict=True):
            columns = [column[~np.isnan(column)] for column in np.array(listed).T]
            ahead = [(k + 1) * period_s for k, column in enumerate(columns) if len(column)]
            low, middle, high = (
                np.array([np.percentile(column, q) for column in columns if len(column)]) if ahead else np.zeros(0) for q in (25, 50, 75)
            )
            axis.plot(ahead, middle, color=colour, marker=".", label=name)
            axis.fill_between(ahead, low, high, color=colour, alpha=0.15, linewidth=0)
    for axis, label in zip(axes, ("PSNR (dB)", "SSIM", "end effector (cm)"), strict=True):
        axis.set_ylabel(label)
    axes[-1].set_xlabel("imagined ahead (s)")
    axes[0].legend(**ABOVE, ncols=max(len(runs), 1))
    return svg(figure)


def _colours(count: int) -> list[str]:
    """One a run."""
    return [(IMAGINED, "#b5493a", "#3a7ca5", CAME, "#e07b39", INK)[k % 6] for k in range(count)]
