"""Presets of both families, and the paper's figures in the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harmowam_core.presets import PRESETS_DIR, CompactPreset, PresetError
from harmowam_core.wan_preset import WanPreset, load_any_preset


def test_the_papers_figures() -> None:
    preset = load_any_preset("wan2_2_5b")
    assert isinstance(preset, WanPreset)
    assert (preset.scene_size, preset.frames, preset.denoising_steps, preset.horizon) == ((256, 320), 13, 5, 12)
    assert (preset.grid, preset.tokens, preset.latent_frames) == ((8, 10), 80, 4)
    assert (preset.predictive.depth, preset.video.hidden_dim) == (28, 3072)


def test_the_family_chooses_the_schema() -> None:
    assert isinstance(load_any_preset("compact"), CompactPreset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scene_size": [250, 320]}, "scene_size"),
        ({"frames": 12, "horizon": 11}, "1 more than a multiple of 4"),
        ({"horizon": 10}, "frames - 1"),
        ({"family": "other"}, "family"),
        ({"colour": "blue"}, "colour"),
        ({"predictive": {"dim": 10, "depth": 1, "heads": 3, "train_timesteps": 10, "denoising_steps": 1}}, "multiple of heads"),
        ({"reactive": {"channels": 10, "dilations": [1, 2, 3], "orientations": 1, "hidden": 1}}, "multiple of the 3 dilations"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((PRESETS_DIR / "wan2_2_5b.yaml").read_text()) | changes))
    with pytest.raises(PresetError, match=f"mine.yaml(.|\n)*{message}"):
        load_any_preset(path)


def test_only_what_shapes_weights_is_in_the_fingerprint() -> None:
    preset = load_any_preset("wan2_2_5b")
    assert isinstance(preset, WanPreset)
    assert preset.model_copy(update={"denoising_steps": 10}).fingerprint() == preset.fingerprint()
    assert preset.model_copy(update={"horizon": 24}).fingerprint() != preset.fingerprint()


def test_unknown_presets_list_the_known() -> None:
    with pytest.raises(PresetError, match=r"compact.*wan2_2_5b"):
        load_any_preset("huge")
