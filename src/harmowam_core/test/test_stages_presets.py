"""Stage values refuse nonsense; presets, cells, checkpoints and images say what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harmowam_core.cell import load_cell
from harmowam_core.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from harmowam_core.images import prepare_image
from harmowam_core.instructions import InstructionEncoder
from harmowam_core.presets import PRESETS_DIR, PresetError, load_preset
from harmowam_core.scene_view import SceneView
from harmowam_core.stages import ActionChunk, Expert, JointTrajectory, StageError


def chunk(**changes: object) -> ActionChunk:
    values: dict = {
        "stamp_ns": 5,
        "chunk_id": 1,
        "source": Expert.REACTIVE,
        "period_s": 0.1,
        "arms": ("left", "right"),
        "positions": np.zeros((12, 2, 3), np.float32),
        "orientations": np.tile(np.float32([1, 0, 0, 0]), (12, 2, 1)),
        "grippers": np.ones((12, 2), np.float32),
    }
    return ActionChunk(**(values | changes))


def test_chunk_times() -> None:
    assert chunk().target_time_ns(0) == 5 + 100_000_000
    assert chunk().horizon == 12


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"positions": np.zeros((12, 1, 3), np.float32)}, "positions"),
        ({"positions": np.full((12, 2, 3), np.nan, np.float32)}, "positions"),
        ({"orientations": np.zeros((12, 2, 4), np.float32)}, "orientations"),
        ({"grippers": np.full((12, 2), 1.5, np.float32)}, "grippers"),
        ({"period_s": float("nan")}, "period_s"),
        ({"grippers": np.ones((3, 2), np.float32)}, "grippers"),
    ],
)
def test_malformed_chunk_is_named(changes: dict, named: str) -> None:
    with pytest.raises(StageError, match=named):
        chunk(**changes)


def test_trajectory_times_must_increase() -> None:
    zeros = np.zeros((2, 1))
    with pytest.raises(StageError, match="strictly increasing"):
        JointTrajectory(0, ("a",), np.array([0.1, 0.1]), zeros, zeros, zeros)


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(PresetError, match="compact"):
        load_preset("enormous")


@pytest.mark.parametrize(
    ("key", "value", "said"), [("horizon", 3, "horizon"), ("scene_size", [63, 80], "multiple of 8"), ("colour", "red", "colour")]
)
def test_invalid_preset_names_the_field(tmp_path, key: str, value: object, said: str) -> None:
    content = yaml.safe_load((PRESETS_DIR / "compact.yaml").read_text()) | {key: value}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(PresetError, match=said):
        load_preset(path)


def test_checkpoint_round_trip_and_errors(tmp_path) -> None:
    preset, path = load_preset(), tmp_path / "x.safetensors"
    module = nn.Linear(3, 2)
    with pytest.raises(CheckpointError, match="no weights at"):
        load_checkpoint(path, module, preset)
    save_checkpoint(path, module, preset, note="a")
    other = nn.Linear(3, 2)
    assert load_checkpoint(path, other, preset)["note"] == "a"
    assert other.weight.dtype == module.weight.dtype
    np.testing.assert_allclose(other.weight.detach(), module.weight.detach(), rtol=1e-3)
    with pytest.raises(CheckpointError, match="expected"):
        load_checkpoint(path, nn.Linear(4, 2), preset)
    with pytest.raises(CheckpointError, match="missing"):
        load_checkpoint(path, nn.Sequential(nn.Linear(3, 2)), preset)
    with pytest.raises(CheckpointError, match="another version"):
        load_checkpoint(path, other, preset.model_copy(update={"denoising_steps": 9}))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path, other, preset)


def test_prepare_image_crops_to_the_aspect() -> None:
    wide = np.zeros((480, 640, 3), np.uint8)
    wide[:, 20:620] = 200  # the 4:5 part of a 3:4 image
    assert (prepare_image(wide, (64, 80)) == 200).all()
    with pytest.raises(ValueError, match="smaller than"):
        prepare_image(np.zeros((32, 40, 3), np.uint8), (64, 80))


@given(st.floats(0.3, 0.7), st.floats(-0.2, 0.4), st.floats(0.0, 0.3))
def test_scene_view_unprojects_what_it_projects(x: float, y: float, z: float) -> None:
    view = SceneView(load_cell().camera("scene"), (64, 80))
    np.testing.assert_allclose(view.unproject(view.project([x, y, z]), z), [x, y, z], atol=1e-9)


def test_cell_refuses_an_arm_that_does_not_exist() -> None:
    cell = load_cell()
    broken = cell.model_dump()
    broken["cameras"][1]["mounted_on"] = "third"
    with pytest.raises(ValueError, match="third"):
        type(cell).model_validate(broken)


def test_paraphrases_are_nearer_than_other_tasks() -> None:
    encoder = InstructionEncoder(load_preset().instruction_encoder)
    a, same, other = encoder.encode(
        ["put the yellow banana on the plate", "place the yellow banana onto the plate", "stack the red can on the blue can"]
    )[:, 0]

    def similarity(x, y) -> float:
        return float((x @ y) / (x.norm() * y.norm()))

    assert similarity(a, same) > similarity(a, other) + 0.2
    with pytest.raises(ValueError, match="empty"):
        encoder.encode([" "])


def test_stage_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        chunk().chunk_id = 3  # type: ignore[misc]
    assert replace(chunk(), chunk_id=3).chunk_id == 3
