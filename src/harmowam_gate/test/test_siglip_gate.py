"""The paper-scale gate, with SigLIP's real class at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harmowam_core.checkpoints import CheckpointError, save_checkpoint
from harmowam_core.testing_wan import VISUAL_WIDTH, save_toy_vision, toy_observation, toy_preset
from harmowam_gate.siglip_gate import SiglipGate, load_siglip_gate

PRESET = toy_preset()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_scores_lie_between_0_and_1_and_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    save_toy_vision(tmp_path)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "gate.safetensors", SiglipGate(PRESET, 3, VISUAL_WIDTH), PRESET)
    gate = load_siglip_gate(PRESET, weights=tmp_path)
    observations = [toy_observation(PRESET, seed=seed) for seed in range(3)]
    scores = gate.score(observations)
    assert all(0 < score < 1 for score in scores) and len(set(scores)) == 3
    assert scores == pytest.approx([gate.score([o])[0] for o in observations], abs=1e-5)


def test_it_learns_to_tell_tokens_apart() -> None:
    torch.manual_seed(0)
    network, labels = SiglipGate(PRESET, 3, VISUAL_WIDTH), torch.tensor([0.0, 1] * 8)
    visual = torch.randn(16, 3, 16, VISUAL_WIDTH)
    visual[labels > 0, 1, 5, :4] += 4  # one small place in one camera
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(visual), labels)
        loss.backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert ((network(visual) > 0).float() == labels).all()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="hf download nobody/siglip"):
        load_siglip_gate(PRESET, weights=tmp_path)
    save_toy_vision(tmp_path)
    with pytest.raises(CheckpointError, match=r"no weights at .*gate\.safetensors"):
        load_siglip_gate(PRESET, weights=tmp_path)
