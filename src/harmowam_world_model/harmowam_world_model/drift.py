"""Drift: how far what came is from what had been imagined. Plain Python, and next to free: every imagination begins with the code of what
is seen now, so two imaginations are all that a comparison needs.

The autoencoder's code moves only where the picture moves, so the error is taken token by token there, and held against how much the token,
or one beside it, was imagined to move at all: where arms and hands go, some error is usual, and where they hide something that is no
surprise; where nothing was imagined to happen, anything is. The worst square of 2 x 2 tokens counts. So a thing that moves right beside a
moving hand is not told apart from the hand.
"""

from __future__ import annotations

import hashlib
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harmowam_core.checkpoints import CheckpointError
from harmowam_core.stages import Drift, Imagination
from harmowam_world_model import WEIGHTS_FILE

CALIBRATION_FILE = "drift.json"
LOOK_BACK_S = 0.35
"""The newest imagination at least so old is judged: 0.4 s ago at 5 imaginations a second."""
STILL_NOISE = 0.1
"""Mean squared error of a token, in variances of the code, that is no news where nothing moves."""
KEPT = 16

Float32 = NDArray[np.float32]


class Calibration(BaseModel):
    """What is normal: ``scale`` is the percentile of ``raw_error`` over all comparisons of normal runs; scores are multiples of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float = Field(gt=0, allow_inf_nan=False)
    percentile: float = Field(gt=0, lt=100)
    comparisons: int = Field(gt=0)
    episodes: int = Field(gt=0)
    weights: str = Field(description="digest of the world model's weights that it holds for")


class DriftMonitor:
    """Fed with one imagination after the other, says how the one some tenths of a second ago has come true."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._past: deque[Imagination] = deque(maxlen=KEPT)

    def clear(self) -> None:
        """Another task: what was imagined for the last one means nothing."""
        self._past.clear()

    def update(self, now: Imagination) -> Drift | None:
        """Drift of what is seen now; None while nothing old enough, or nothing that reached as far as now, is known."""
        if self._past and now.stamp_ns <= self._past[-1].stamp_ns:  # time went back
            self._past.clear()
        old = next((past for past in reversed(self._past) if (now.stamp_ns - past.stamp_ns) * 1e-9 >= LOOK_BACK_S), None)
        self._past.append(now)
        if old is None:
            return None
        horizon_s = (now.stamp_ns - old.stamp_ns) * 1e-9
        if horizon_s > (len(old.latents) - 1) * old.frame_period_s:
            return None
        return Drift(now.stamp_ns, old.imagination_id, horizon_s, raw_error(old, now.latents[0], horizon_s) / self._scale)


def raw_error(imagination: Imagination, came: Float32, horizon_s: float) -> float:
    """Error of what was imagined for ``horizon_s`` ahead against the code (N, C) that came, before calibration."""
    step = horizon_s / imagination.frame_period_s
    below = min(int(step), len(imagination.latents) - 2)
    share = step - below
    expected = (1 - share) * imagination.latents[below] + share * imagination.latents[below + 1]  # (N, C)
    error = ((expected - came) ** 2).mean(-1)  # (N,)
    motion = ((imagination.latents - imagination.latents[0]) ** 2).mean(-1).max(0)
    grid = _grid(imagination)
    surprise = error.reshape(grid) / (STILL_NOISE + _dilated(motion.reshape(grid)))
    squares = (surprise[:-1, :-1] + surprise[1:, :-1] + surprise[:-1, 1:] + surprise[1:, 1:]) / 4
    return float(squares.max())


def _grid(imagination: Imagination) -> tuple[int, int]:
    """Rows and columns of the tokens, which have the frames' aspect."""
    height, width = imagination.frames.shape[1:3]
    tokens = imagination.latents.shape[1]
    rows = round((tokens * height / width) ** 0.5)
    if rows < 2 or tokens % rows or tokens // rows < 2:
        raise ValueError(f"{tokens} tokens do not lie on a grid of the aspect of {height}x{width} frames")
    return rows, tokens // rows


def _dilated(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """(R, C): the largest of each token and its neighbours."""
    rows, columns = values.shape
    padded = np.pad(values, 1, mode="edge")
    return np.max([padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)


def weights_digest(weights: Path) -> str:
    """Of a folder's world model; CheckpointError if it is not there."""
    path = weights / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}; run `harmowam train`, or check out the file from the repository")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def load_calibration(weights: Path) -> Calibration:
    """The calibration of a folder of weights; CheckpointError if there is none, or for another world model."""
    path = weights / CALIBRATION_FILE
    remedy = "run `harmowam calibrate-drift`"
    if not path.is_file():
        raise CheckpointError(f"no calibration of drift at {path}; {remedy}")
    try:
        calibration = Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"calibration of drift {path} is damaged; {remedy}: {error}") from error
    if calibration.weights != (found := weights_digest(weights)):
        raise CheckpointError(f"calibration of drift {path} holds for other weights ({calibration.weights}, now {found}); {remedy}")
    return calibration
