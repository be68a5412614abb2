"""Which chunks are taken, and with which reason the others are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harmowam_core.stages import ActionChunk, Expert
from harmowam_core.status import Reason
from harmowam_gate.chunk_schedule import ChunkSchedule
from harmowam_gate.settings import ArbiterSettings

NOW_NS = 10_000_000_000
S = 1_000_000_000


def chunk(chunk_id=1, age_s=0.2, source=Expert.PREDICTIVE, horizon=12, arms=("left", "right")):
    positions = np.tile(np.float32([[0.4, 0.12, 0.3], [0.3, -0.42, 0.35]]), (horizon, 1, 1))[:, : len(arms)]
    positions[:, 0, 0] += 0.01 * np.arange(horizon)
    down = np.tile(np.float32([1, 0, 0, 0]), (horizon, len(arms), 1))
    return ActionChunk(NOW_NS - round(age_s * S), chunk_id, source, 0.1, arms, positions, down, np.ones((horizon, len(arms)), np.float32))


@pytest.fixture
def schedule(cell):
    return ChunkSchedule(cell, ArbiterSettings())


def moved(one, step, offset):
    positions = one.positions.copy()
    positions[step:, 0] += np.float32(offset)
    return replace(one, positions=positions)


def test_keeps_the_newest_of_each_expert(schedule):
    assert schedule.accept(chunk(1, 0.3), NOW_NS).ok
    assert schedule.accept(chunk(2, 0.1), NOW_NS).ok
    assert schedule.accept(chunk(2, 0.1, Expert.REACTIVE), NOW_NS).ok
    assert schedule.newest(Expert.PREDICTIVE).chunk_id == schedule.newest(Expert.REACTIVE).chunk_id == 2


def test_past_targets_are_discarded(schedule):
    schedule.accept(chunk(1, 0.65), NOW_NS)  # targets were due 0.55 s ago, ..., 0.05 s ago
    path = schedule.path(Expert.PREDICTIVE, NOW_NS)
    assert path.times_ns[0] == NOW_NS - round(0.25 * S)  # three of them tell noise from motion
    assert len(path.times_ns) == 9


def test_old_chunks_expire(schedule):
    schedule.accept(chunk(), NOW_NS)
    assert schedule.path(Expert.PREDICTIVE, NOW_NS + round(0.59 * S)) is not None
    assert schedule.path(Expert.PREDICTIVE, NOW_NS + round(0.61 * S)) is None
    assert schedule.path(Expert.REACTIVE, NOW_NS) is None


@pytest.mark.parametrize(
    ("bad", "reason", "text"),
    [
        (chunk(age_s=0.9), Reason.CHUNK_STALE, "0.90 s old"),
        (chunk(age_s=-0.2), Reason.MALFORMED, "in the future"),
        (chunk(arms=("left",)), Reason.MALFORMED, "arms"),
        (chunk(horizon=1), Reason.MALFORMED, "1 targets"),
        (moved(chunk(), 5, [0.2, 0, 0]), Reason.JUMP, "0.21 m apart"),
        (moved(chunk(), 0, [-0.3, 0, 0]), Reason.WORKSPACE, "0.100 m outside"),
    ],
)
def test_refusals_name_the_reason(schedule, bad, reason, text):
    verdict = schedule.accept(bad, NOW_NS)
    assert verdict.reason is reason and text in verdict.text
    assert schedule.newest(Expert.PREDICTIVE) is None


def test_a_turn_too_far_is_a_jump(schedule):
    one = chunk()
    orientations = one.orientations.copy()
    orientations[6:, 0] = np.float32([0, 1, 0, 0])
    assert schedule.accept(replace(one, orientations=orientations), NOW_NS).reason is Reason.JUMP


def test_the_other_sign_of_a_quaternion_is_no_turn(schedule):
    one = chunk()
    assert schedule.accept(replace(one, orientations=one.orientations * np.float32([[[1]]] * 6 + [[[-1]]] * 6)), NOW_NS).ok


def test_repeated_and_late_chunks_are_out_of_order(schedule):
    schedule.accept(chunk(5, 0.2), NOW_NS)
    for late in (chunk(5, 0.2), chunk(6, 0.3), chunk(4, 0.1)):
        assert schedule.accept(late, NOW_NS).reason is Reason.OUT_OF_ORDER
    assert schedule.newest(Expert.PREDICTIVE).chunk_id == 5


def test_an_expert_started_again_counts_from_the_beginning(schedule):
    schedule.accept(chunk(500, 0.2), NOW_NS)
    again = replace(chunk(1), stamp_ns=NOW_NS + 2 * S)
    assert schedule.accept(again, NOW_NS + 2 * S).ok


def test_targets_just_outside_move_onto_the_face(schedule, cell):
    low = moved(chunk(), 0, [0, 0, 0])
    low.positions[:, 0, 2] = cell.workspace.lower[2] - 0.02
    assert schedule.accept(low, NOW_NS).ok
    assert schedule.path(Expert.PREDICTIVE, NOW_NS).positions[:, 0, 2] == pytest.approx(cell.workspace.lower[2])


def test_clear_refuses_what_was_seen_before(schedule):
    schedule.clear(NOW_NS)
    assert schedule.accept(chunk(1, 0.2), NOW_NS).reason is Reason.NO_TASK
