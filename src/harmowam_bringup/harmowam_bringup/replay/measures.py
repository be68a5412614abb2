"""How far what the models said is from what came: actions, imagined frames, the gate. Plain arrays, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from harmowam_bringup.replay.recorded import Recorded
from harmowam_bringup.replay.stack import Step
from harmowam_core.stages import ActionChunk, Expert, Imagination, UInt8
from harmowam_gate.pose_path import PosePath

Float64 = NDArray[np.float64]
CHATTER_S = 0.5  # a phase that lasts less is chatter
GAP_PERIODS = 1.5  # between rows further apart, nobody knows what was executed
SAME_FRAME = 0.35  # share of the frame period by which a row may miss an imagined frame's time


@dataclass(frozen=True)
class ActionErrors:
    """Of one chunk against what was executed, for the K targets until the recording's end and the working arms; NaN where it has a gap.

    position_m, rotation_rad: (K,) means over the arms; gripper_wrong: (K,) share of the arms told the other half of the opening.
    """

    position_m: Float64
    rotation_rad: Float64
    gripper_wrong: Float64


@dataclass(frozen=True)
class StepErrors:
    """Errors of one step. psnr_db, ssim: of imagined frames 1 to K against those that came, NaN where none came at that time."""

    step: Step
    interaction: bool
    experts: dict[Expert, ActionErrors]
    psnr_db: Float64
    ssim: Float64
    seam_m: float

    @property
    def chosen(self) -> ActionErrors:
        """Those of the gated choice."""
        return self.experts[self.step.expert]


def action_errors(chunk: ActionChunk, executed: PosePath, arms: NDArray[np.int64]) -> ActionErrors:
    """Compare a chunk with the executed poses at the times its targets are due; NaN in gaps of the recording."""
    due, stamps = PosePath.of(chunk), executed.times_ns
    due_ns = due.times_ns[due.times_ns <= stamps[-1]]
    if not len(due_ns):
        nothing = np.zeros(0)
        return ActionErrors(nothing, nothing, nothing)
    k, was = len(due_ns), executed.at(due_ns)
    position = np.linalg.norm(due.positions[:k] - was.positions, axis=-1)[:, arms].mean(1)
    cosine = np.abs(np.sum(due.orientations[:k] * was.orientations, axis=-1))[:, arms]
    wrong = ((due.grippers[:k] > 0.5) != (was.grippers > 0.5))[:, arms].mean(1)
    after = np.clip(np.searchsorted(stamps, due_ns), 1, len(stamps) - 1)
    unknown = np.where(stamps[after] - stamps[after - 1] > GAP_PERIODS * chunk.period_s * 1e9, np.nan, 0.0)
    unknown[stamps[after] == due_ns] = 0.0
    return ActionErrors(position + unknown, 2 * np.arccos(np.clip(cosine, 0, 1)).mean(1) + unknown, wrong + unknown)


def image_errors(imagined: UInt8, came: Sequence[UInt8 | None]) -> tuple[Float64, Float64]:
    """PSNR (dB) and SSIM of (K, H, W, 3) imagined frames against those that came, NaN where none did; K values each."""
    psnr, ssim = np.full(len(imagined), np.nan), np.full(len(imagined), np.nan)
    for k, (frame, real) in enumerate(zip(imagined, came, strict=True)):
        if real is not None:
            same = bool((frame == real).all())
            psnr[k] = 99.0 if same else peak_signal_noise_ratio(real, frame, data_range=255)
            ssim[k] = structural_similarity(real, frame, channel_axis=-1, data_range=255)
    return psnr, ssim


def frames_that_came(imagination: Imagination, recorded: Recorded) -> list[UInt8 | None]:
    """The scene at the times of imagined frames 1 to K, None where no image came then."""
    stamps, period_ns = recorded.executed.times_ns, imagination.frame_period_s * 1e9
    wanted = imagination.stamp_ns + np.arange(1, len(imagination.frames)) * period_ns
    nearest = np.clip(np.searchsorted(stamps, wanted - period_ns / 2), 0, len(stamps) - 1)
    return [
        recorded.observations[row].image("scene") if abs(stamps[row] - time) <= SAME_FRAME * period_ns else None
        for row, time in zip(nearest, wanted, strict=True)
    ]


def judge(step: Step, recorded: Recorded, before: Step | None) -> StepErrors:
    """All errors of one step; ``before`` is the step that came before in the same task, if any."""
    psnr, ssim = image_errors(step.imagination.frames[1:], frames_that_came(step.imagination, recorded))
    experts = {expert: action_errors(chunk, recorded.executed, recorded.working) for expert, chunk in step.chunks.items()}
    return StepErrors(step, bool(recorded.labels[step.row]), experts, psnr, ssim, _seam_m(step, before, recorded.working))


def _seam_m(step: Step, before: Step | None, arms: NDArray[np.int64]) -> float:
    """How far the chosen chunk begins from where the one before it was going, m; NaN where the two do not meet."""
    if before is None:
        return float("nan")
    new, old = PosePath.of(step.chunks[step.expert]), PosePath.of(before.chunks[before.expert])
    if not old.times_ns[0] <= new.times_ns[0] <= old.times_ns[-1]:
        return float("nan")
    apart = np.linalg.norm(new.positions[0] - old.at(new.times_ns[:1]).positions[0], axis=-1)
    return float(apart[arms].max())


def summarise_actions(errors: Sequence[ActionErrors]) -> dict[str, float | None]:
    """Medians and 95th percentiles over steps of each chunk's mean; ``horizon``: at the last target of whole chunks."""
    whole = max((len(e.position_m) for e in errors), default=0)
    full = [e for e in errors if len(e.position_m) == whole and not np.isnan(e.position_m).all()]
    position = [known_mean(e.position_m) for e in full]
    at_horizon = [float(e.position_m[-1]) for e in full if not np.isnan(e.position_m[-1])]
    return {
        "steps": len(full),
        "position_cm": _percentile(position, 50, 100),
        "position_p95_cm": _percentile(position, 95, 100),
        "position_at_horizon_cm": _percentile(at_horizon, 50, 100),
        "rotation_deg": _percentile([known_mean(e.rotation_rad) for e in full], 50, 180 / np.pi),
        "gripper_wrong": round(float(np.mean([known_mean(e.gripper_wrong) for e in full])), 4) if full else None,
    }


def summarise_gate(judged: Sequence[StepErrors]) -> dict[str, Any]:
    """Accuracy against the automatic labels, confusion, changes of phase, and how many of them were chatter."""
    said = np.array([e.step.score > 0.5 for e in judged])
    phases = np.array([e.step.expert is Expert.PREDICTIVE for e in judged])
    truth = np.array([e.interaction for e in judged])
    stamps = np.array([e.step.imagination.stamp_ns for e in judged])
    changes = np.flatnonzero(np.diff(phases.astype(np.int8))) + 1
    lasted_s = np.diff(stamps[changes]) * 1e-9
    confusion = {
        f"{'interaction' if real else 'transit'}_called_{'interaction' if called else 'transit'}": int(
            ((truth == real) & (said == called)).sum()
        )
        for real in (False, True)
        for called in (False, True)
    }
    return {
        "accuracy": round(float((said == truth).mean()), 4),
        "accuracy_of_phase": round(float((phases == truth).mean()), 4),
        "confusion": confusion,
        "switches": len(changes),
        "label_switches": int(np.abs(np.diff(truth.astype(np.int8))).sum()),
        "chatter": int((lasted_s < CHATTER_S).sum()),
    }


def summarise(judged: Sequence[StepErrors], recorded: Recorded) -> dict[str, Any]:
    """All figures of one recording under one set of weights; stable keys, None where nothing could be measured."""
    parts = {"all": list(judged), "transit": [e for e in judged if not e.interaction], "interaction": [e for e in judged if e.interaction]}
    actions = {
        name: {phase: summarise_actions([pick(e) for e in chosen]) for phase, chosen in parts.items()}
        for name, pick in (
            *((expert.value, lambda e, expert=expert: e.experts[expert]) for expert in Expert),
            ("chosen", lambda e: e.chosen),
        )
    }
    gate = summarise_gate(judged)
    reactive = [e.experts[Expert.REACTIVE].position_m for e in judged]
    whole = max(len(e) for e in reactive)
    seams = [e.seam_m for e in judged if not np.isnan(e.seam_m)]
    metres = {f"{name}_error_m": _metres(actions[name]["all"]["position_cm"]) for name in actions}
    return {
        **metres,
        "gate_accuracy": gate["accuracy"],
        "steps": len(judged),
        "actions": actions,
        "imagination": {
            "psnr_db": _medians([e.psnr_db for e in judged]),
            "ssim": _medians([e.ssim for e in judged]),
            "end_effector_cm": _medians([100 * e for e in reactive if len(e) == whole]),
        },
        "gate": gate,
        "seams_cm": {f"p{q}": _percentile(seams, q, 100) for q in (50, 95, 100)},
        "auditor": recorded.auditor,
        "working_arms": [judged[0].step.chunks[Expert.REACTIVE].arms[arm] for arm in recorded.working],
    }


def known_mean(values: Float64) -> float:
    """The mean of what is not NaN; NaN if nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _metres(cm: float | None) -> float | None:
    return None if cm is None else round(cm / 100, 6)


def _medians(listed: Sequence[Float64]) -> list[float | None]:
    """Column by column, NaN left out."""
    if not listed:
        return []
    table = np.array(listed)
    return [round(float(np.median(column[~np.isnan(column)])), 4) if (~np.isnan(column)).any() else None for column in table.T]


def _percentile(values: Sequence[float], q: float, scale: float) -> float | None:
    return round(float(np.percentile(values, q)) * scale, 4) if values else None
