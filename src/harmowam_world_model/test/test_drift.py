"""Drift: nothing where all came as imagined, much where something moved that was not, little where motion was expected anyway."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmowam_core.checkpoints import CheckpointError
from harmowam_core.presets import load_preset
from harmowam_core.stages import Imagination
from harmowam_world_model.drift import DriftMonitor, load_calibration, raw_error

PERIOD_S, START_NS = 0.1, 10**9
WEIGHTS = load_preset().weights_dir()


def imagination(stamp_s: float, latents: np.ndarray, number: int = 1) -> Imagination:
    frames = np.zeros((13, 64, 80, 3), np.uint8)
    return Imagination(START_NS + round(stamp_s * 1e9), number, frames, PERIOD_S, latents.astype(np.float32), np.zeros((80, 4), np.float32))


def still(seed: int = 0) -> np.ndarray:
    """(13, 80, 16): nothing is imagined to move."""
    return np.repeat(np.random.default_rng(seed).normal(size=(1, 80, 16)), 13, 0)


def moving(token: int, speed: float) -> np.ndarray:
    """As ``still``, one token changes by ``speed`` a frame."""
    latents = still()
    latents[:, token] += speed * np.arange(13)[:, None]
    return latents


def test_what_came_as_imagined_is_no_drift() -> None:
    monitor = DriftMonitor(scale=1.0)
    latents = moving(33, 0.3)
    assert monitor.update(imagination(0.0, latents, 7)) is None
    assert monitor.update(imagination(0.2, latents[2:3].repeat(13, 0), 8)) is None  # nothing old enough yet
    drift = monitor.update(imagination(0.4, latents[4:5].repeat(13, 0), 9))
    assert drift is not None and drift.score == pytest.approx(0, abs=1e-6)
    assert (drift.imagination_id, drift.stamp_ns) == (7, START_NS + 400_000_000) and drift.horizon_s == pytest.approx(0.4)


def test_between_two_frames_the_mean_is_expected() -> None:
    latents = moving(33, 0.3)
    assert raw_error(imagination(0.0, latents), (latents[4] + latents[5]).astype(np.float32) / 2, 0.45) == pytest.approx(0, abs=1e-6)
    assert raw_error(imagination(0.0, latents), latents[12].astype(np.float32), 1.2) == pytest.approx(0, abs=1e-6)


@given(st.integers(0, 79), st.integers(0, 79))
def test_an_error_counts_fully_where_nothing_was_imagined_to_move_and_little_beside_motion(token: int, elsewhere: int) -> None:
    latents = moving(token, 0.3)
    came = latents[4].astype(np.float32)
    came[elsewhere] += 1.0
    error = raw_error(imagination(0.0, latents), came, 0.4)
    away = np.abs(np.subtract(np.divmod(token, 10), np.divmod(elsewhere, 10))).max()
    expected = 1 / (4 * (0.1 + (3.6**2 if away <= 1 else 0)))  # a quarter of the square; the token moves by 12 x 0.3 in all
    assert error == pytest.approx(expected, rel=1e-3)


def test_a_hidden_thing_is_no_drift_where_the_hand_was_imagined() -> None:
    """A hand that comes a little early covers what lies there: large in the code, but where motion was expected."""
    latents = still()
    for token in (33, 34, 43, 44):
        latents[4:, token] += 2.0  # the hand is imagined to arrive in frame 4
    early = latents[4].astype(np.float32)
    assert raw_error(imagination(0.0, latents), early, 0.3) < 1.0
    assert raw_error(imagination(0.0, still()), early, 0.3) > 30.0


def test_a_gap_or_a_step_back_in_time_starts_anew() -> None:
    monitor = DriftMonitor(scale=1.0)
    monitor.update(imagination(0.0, still()))
    assert monitor.update(imagination(1.5, still(1))) is None  # further than anything was imagined
    assert monitor.update(imagination(0.5, still(2))) is None
    assert monitor.update(imagination(1.0, still(2))).score == pytest.approx(0, abs=1e-6)
    monitor.clear()
    assert monitor.update(imagination(1.5, still(3))) is None


def test_tokens_that_are_no_grid_are_refused() -> None:
    odd = Imagination(1, 1, np.zeros((13, 64, 80, 3), np.uint8), 0.1, np.zeros((13, 79, 4), np.float32), np.zeros((79, 4), np.float32))
    with pytest.raises(ValueError, match="79 tokens"):
        raw_error(odd, odd.latents[0], 0.4)


def test_the_calibration_that_ships_holds_for_the_weights_that_ship() -> None:
    calibration = load_calibration(WEIGHTS)
    assert calibration.episodes >= 20 and calibration.comparisons > 20 * calibration.episodes and calibration.percentile == 99


def test_a_calibration_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no calibration of drift at .*calibrate-drift"):
        load_calibration(tmp_path)
    shutil.copy(WEIGHTS / "drift.json", tmp_path)
    with pytest.raises(CheckpointError, match="no weights at"):
        load_calibration(tmp_path)
    (tmp_path / "world_model.safetensors").write_bytes(b"others")
    with pytest.raises(CheckpointError, match="holds for other weights"):
        load_calibration(tmp_path)
    facts = json.loads((tmp_path / "drift.json").read_text())
    (tmp_path / "drift.json").write_text(json.dumps({**facts, "scale": 0}))
    with pytest.raises(CheckpointError, match="is damaged"):
        load_calibration(tmp_path)
