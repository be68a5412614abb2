"""Gate labels and network."""

import numpy as np
import torch

from harmowam_core.presets import load_preset
from harmowam_core.stages import Observation
from harmowam_gate.gate_network import GateNetwork, GatePolicy
from harmowam_gate.labels import GateLabelSettings, gripper_events, interaction_labels


def test_events_are_both_ways() -> None:
    commanded = np.float32([1, 1, 0, 0, 0, 1, 1])
    assert gripper_events(commanded).tolist() == [2, 5]


def test_labels_need_nearness_in_time_height_and_beside() -> None:
    steps = 120
    commanded = np.ones((steps, 2), np.float32)
    commanded[60:, 0] = 0
    positions = np.full((steps, 2, 3), 0.3, np.float32)
    positions[50:80, 0, 2] = 0.05
    positions[76:80, 0, 0] = 0.37
    labels = interaction_labels(commanded, positions)
    assert labels[50:76].all()
    assert not labels[:50].any() and not labels[76:].any()
    narrow = interaction_labels(commanded, positions, GateLabelSettings(window=3))
    assert narrow.nonzero()[0].tolist() == list(range(57, 64))


def test_either_arm_triggers() -> None:
    commanded, positions = np.ones((50, 2), np.float32), np.full((50, 2, 3), 0.05, np.float32)
    commanded[25:, 1] = 0
    assert interaction_labels(commanded, positions)[25]


def test_no_event_is_all_transit() -> None:
    assert not interaction_labels(np.ones((30, 2), np.float32), np.zeros((30, 2, 3), np.float32)).any()


def test_score_is_a_probability_and_deterministic() -> None:
    torch.manual_seed(0)
    preset = load_preset()
    policy = GatePolicy(preset, GateNetwork(preset))
    rng = np.random.default_rng(0)
    images = {"scene": rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)}
    images |= {name: rng.integers(0, 255, (48, 48, 3), dtype=np.uint8) for name in policy.wrists}
    pose = (np.zeros((2, 3), np.float32), np.tile(np.float32([1, 0, 0, 0]), (2, 1)), np.ones(2, np.float32))
    seen = Observation(1, images, *pose, "go")
    first, second = policy.score([seen, seen])
    assert 0 < first < 1
    assert abs(first - second) < 1e-6
