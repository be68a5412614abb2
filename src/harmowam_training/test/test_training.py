"""Data sets, hindsight labels, the loop's resume, intervals, and the evaluation's bookkeeping."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from harmowam_bringup.cli import app
from harmowam_core.checkpoints import CheckpointError
from harmowam_core.presets import PRESETS_DIR, load_preset
from harmowam_core.scene_view import SceneView
from harmowam_sim.demonstrators import MODEL_IMAGE_SIZES
from harmowam_sim.intervals import wilson
from harmowam_training import loop
from harmowam_training.config import StageConfig, load_training_config
from harmowam_training.dataset import Corpus, DatasetError, load_corpus, save_rollout, split_paths
from harmowam_training.evaluate import EpisodeResult, digest_of, expand, read_journal, summarise
from harmowam_training.hindsight import grasp_and_release, grounding_labels
from harmowam_training.kept_parts import kept_parts, weights_key
from harmowam_training.loop import Draws, Loop, made_from, steps_done
from harmowam_training.stage1 import prefer_labels, rearranged, train_autoencoder
from harmowam_training.stage2 import MOST_OVERLAY, overlaid, train_gate
from harmowam_training.straight_line import HOVER_M, StraightLineExpert


def rollout(steps: int = 40, instructions: tuple[str, ...] | None = None) -> SimpleNamespace:
    rng = np.random.default_rng(steps)
    commanded = np.ones((steps, 2), np.float32)
    commanded[10:30, 0] = 0
    opening = commanded.copy()
    opening[12:30, 0] = 0.4  # it holds something
    return SimpleNamespace(
        kind="play",
        success=None,
        instructions=instructions or ("put a on b",) * steps,
        frames={camera: rng.integers(0, 255, (steps, *size, 3), dtype=np.uint8) for camera, size in MODEL_IMAGE_SIZES.items()},
        arm_positions=np.zeros((steps, 14), np.float32),
        openings=opening,
        commanded_openings=commanded,
        positions=np.cumsum(rng.normal(size=(steps, 2, 3)), 0).astype(np.float32),
        orientations=np.tile(np.float32([1, 0, 0, 0]), (steps, 2, 1)),
        masked=np.zeros(steps, bool),
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    save_rollout(tmp_path / "a.safetensors", rollout(), seed="0")
    save_rollout(tmp_path / "b.safetensors", rollout(50, ("x",) * 20 + ("y",) * 30), seed="1")
    return load_corpus(sorted(tmp_path.glob("*.safetensors")))


def test_a_change_of_instruction_begins_another_rollout(corpus: Corpus) -> None:
    assert corpus.bounds() == [(0, 39), (40, 59), (60, 89)]
    assert corpus.instructions == ("put a on b", "x", "y")


def test_later_frames_stop_at_the_end(corpus: Corpus) -> None:
    assert corpus.later(np.array([37, 58]), 4).tolist() == [[38, 39, 39, 39], [59, 59, 59, 59]]


def test_masked_frames_hide_what_follows(corpus: Corpus) -> None:
    corpus.masked[5] = True
    assert corpus.unmasked_ahead(np.array([2, 5]), 4).tolist() == [[True, True, False, False], [False] * 4]


def test_hindsight_finds_grasp_and_release(corpus: Corpus) -> None:
    labels = grounding_labels(corpus)
    assert labels.known[:40].all()
    position = corpus.position[:40, 0]
    np.testing.assert_array_equal(labels.points[:11, 0], np.tile(position[10], (11, 1)))  # before: where it will grasp
    np.testing.assert_array_equal(labels.points[11:30, 0], position[11:30])  # then with the hand
    np.testing.assert_array_equal(labels.points[30:40, 0], np.tile(position[30], (10, 1)))  # then where it was left
    np.testing.assert_array_equal(labels.points[:40, 1], np.tile(position[30], (40, 1)))


def test_known_labels_replace_readings(corpus: Corpus) -> None:
    corpus.position[:40, 0] = np.linspace([0.4, 0.0, 0.1], [0.5, 0.3, 0.1], 40)
    corpus.position[:40, 1] = (0.5, -0.4, 0.3)
    view = SceneView(load_preset().load_cell().camera("scene"), (64, 80))
    labels = grounding_labels(corpus)
    pixels, points = torch.zeros(90, 2, 2), np.zeros((90, 2, 3), np.float32)
    prefer_labels(corpus, view, pixels, points)
    np.testing.assert_array_equal(points[:40], labels.points[:40])
    np.testing.assert_allclose(view.unproject(pixels.numpy(), labels.points[..., 2])[:40], labels.points[:40], atol=1e-4)
    assert not labels.known[40:60].any() and not points[40:60].any() and not pixels[40:60].any()  # no release: the reading stays


def test_rearranged_images_take_their_pixels_along() -> None:
    rows, columns = torch.meshgrid(torch.arange(64.0) + 0.5, torch.arange(80.0) + 0.5, indexing="ij")
    spots = torch.tensor([[[30.0, 20.0], [55.0, 44.0]]]).expand(32, -1, -1).clone()
    images = torch.stack([torch.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 8) for u, v in spots[0]])[None].expand(32, -1, -1, -1)
    images = torch.cat([images, torch.zeros(32, 1, 64, 80)], 1)
    moved, where, known = rearranged(images, spots, torch.ones(32, 2, dtype=torch.bool), torch.Generator().manual_seed(0))
    mass = moved[:, :2] / moved[:, :2].sum((2, 3), keepdim=True)
    centre = torch.stack([(mass * columns).sum((2, 3)), (mass * rows).sum((2, 3))], -1)
    inside = ((where > 8) & (where < torch.tensor([72.0, 56.0]))).all(-1)
    torch.testing.assert_close(centre[inside], where[inside], atol=0.1, rtol=0)
    assert 20 < inside.sum() < 64 and known[inside].all()
    sides = (where[:, 0, 0] < where[:, 1, 0]).float().mean()
    assert 0.2 < sides < 0.8  # some are mirrored, some are not
    far, _, gone = rearranged(images, spots * 0 - 100, torch.ones(32, 2, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert not gone.any() and far.shape == images.shape


def test_other_images_shine_through_every_third() -> None:
    wrists, others = torch.zeros(300, 2, 3, 4, 4), torch.ones(300, 2, 3, 4, 4)
    mixed = overlaid(wrists, others, torch.Generator().manual_seed(0)).amax((1, 2, 3, 4))
    assert (mixed.reshape(-1, 3)[:, 1:] == 0).all()
    assert 0.2 < mixed[::3].mean() < 0.3 and mixed.max() <= MOST_OVERLAY


def test_kept_parts_are_made_once_for_a_key(tmp_path: Path) -> None:
    made: list[int] = []

    def make(rows: np.ndarray) -> dict[str, torch.Tensor]:
        made.append(len(rows))
        return {"squares": torch.from_numpy(rows**2)}

    for key in ("a", "a", "b"):
        assert kept_parts(tmp_path / "x", key, 5, make)["squares"].tolist() == [0, 1, 4, 9, 16]
    assert made == [5, 5]
    layer = nn.Linear(2, 2)
    before = weights_key(layer, "rows")
    assert before == weights_key(layer, "rows") != weights_key(layer, "other rows")
    nn.init.zeros_(layer.bias)
    assert before != weights_key(layer, "rows")


def test_hindsight_needs_something_held() -> None:
    commanded = np.ones(40, np.float32)
    commanded[10:30] = 0
    assert grasp_and_release(commanded, np.where(commanded > 0, 1.0, 0.0).astype(np.float32)) is None  # closed on nothing
    assert grasp_and_release(np.ones(40, np.float32), np.ones(40, np.float32)) is None
    held = np.full(40, 0.5, np.float32)
    assert grasp_and_release(np.concatenate([np.zeros(20), np.ones(20)]).astype(np.float32), held) == (0, 20)


def test_damaged_and_missing_rollouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="harmowam train --stage collect"):
        split_paths(tmp_path, ["play"], 0.1)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DatasetError, match=r"bad\.safetensors"):
        load_corpus([tmp_path / "bad.safetensors"])


def test_split_keeps_the_last_for_validation(tmp_path: Path) -> None:
    for i in range(10):
        save_rollout(tmp_path / "play" / f"{i}.safetensors", rollout())
    training, validation = split_paths(tmp_path, ["play"], 0.2)
    assert [p.stem for p in validation] == ["8", "9"]
    assert not set(training) & set(validation)


def test_recipe_errors_name_the_field(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("preset: compact\n")
    with pytest.raises(ValueError, match="autoencoder"):
        load_training_config(path)
    assert load_training_config().experts.loss_weights.reactive == 0.1  # the paper's


def straight_fit(folder: Path, steps: int, stop_at: int | None = None) -> nn.Module:
    """Fit a line; stop in the middle if asked."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    fit = Loop("line", folder, module, StageConfig(steps=steps, batch=16, learning_rate=1e-2), 0, muon=lambda name: name.startswith("0."))

    def loss(draws: Draws) -> tuple[torch.Tensor, dict[str, float]]:
        if draws.step == stop_at:
            fit.save()
            raise KeyboardInterrupt
        x = torch.randn(16, 4, generator=draws.generator)
        noise = torch.randn(16) * float(draws.rng.uniform(0, 0.1))
        return (module(x)[:, 0] - x.sum(1) + noise).square().mean(), {}

    return fit.run(loss)


def test_an_interrupted_loop_goes_on_as_if_nothing_happened(tmp_path: Path) -> None:
    whole = straight_fit(tmp_path / "whole", 200)
    with pytest.raises(KeyboardInterrupt):
        straight_fit(tmp_path / "parts", 200, stop_at=23)
    resumed = straight_fit(tmp_path / "parts", 200)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    rows = (tmp_path / "whole" / "line.csv").read_text().splitlines()
    assert rows[0] == "step,figure,value"
    assert float(rows[-1].split(",")[2]) < float(rows[1].split(",")[2])


def train_stage(stage: str, corpus: Corpus, folder: Path, seed: int = 0, steps: int = 3) -> dict[str, torch.Tensor]:
    """Returns what the stage's loop ends with."""
    config = StageConfig(steps=steps, batch=4, learning_rate=1e-3)
    if stage == "autoencoder":
        train_autoencoder(load_preset(), config, corpus, folder, seed)
    else:
        train_gate(load_preset(), config, corpus, corpus, folder, seed)
    return load_file(folder / f"{stage}.checkpoint.safetensors")


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is saved, and the one after so many is never done."""
    done = iter(range(steps))

    def average_gradients(_: nn.Module) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "CHECKPOINT_PERIOD_S", -1)
    monkeypatch.setattr(loop, "average_gradients", average_gradients)


@pytest.mark.parametrize("stage", ["autoencoder", "gate"])
def test_an_interrupted_stage_goes_on_as_if_nothing_happened(
    corpus: Corpus, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_stage(stage, corpus, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        interrupt_after(2, patched)
        train_stage(stage, corpus, tmp_path / "parts")
    assert steps_done(tmp_path / "parts", stage) == 2
    torch.testing.assert_close(train_stage(stage, corpus, tmp_path / "parts"), whole)


@pytest.mark.parametrize(("changed", "named"), [({"seed": 1}, "seed"), ({"steps": 2}, "recipe"), ({}, "made from")])
def test_a_checkpoint_of_another_training_is_refused(corpus: Corpus, tmp_path: Path, changed: dict[str, int], named: str) -> None:
    train_stage("autoencoder", corpus, tmp_path, steps=1)
    if not changed:
        corpus.position[0] += 1
    with pytest.raises(CheckpointError, match=rf"autoencoder\.checkpoint\.safetensors is of another training \({named}\); delete it"):
        train_stage("autoencoder", corpus, tmp_path, **{"steps": 1} | changed)


def test_a_checkpoint_that_does_not_say_what_it_is_of_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    save_file(train_stage("autoencoder", corpus, tmp_path, steps=1), tmp_path / "autoencoder.checkpoint.safetensors")
    with pytest.raises(CheckpointError, match="recipe, seed, made from"):
        train_stage("autoencoder", corpus, tmp_path, steps=1)


def test_another_model_upstream_is_another_origin(corpus: Corpus) -> None:
    layer = nn.Linear(2, 2)
    before = made_from(load_preset(), corpus, layer)
    assert before == made_from(load_preset(), corpus, layer)
    nn.init.zeros_(layer.weight)
    assert before != made_from(load_preset(), corpus, layer)


def test_every_seed_process_and_step_draws_differently() -> None:
    every = [Draws.of(0, 0, 0), Draws.of(1, 0, 0), Draws.of(0, 1, 0), Draws.of(0, 0, 1)]
    assert len({draws.rng.random() for draws in every}) == len({draws.generator.initial_seed() for draws in every}) == 4


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    module = nn.Linear(1, 1)
    nan = Loop("nan", tmp_path, module, StageConfig(steps=3, batch=1, learning_rate=1e-2), 0)
    with pytest.raises(FloatingPointError, match="step 0"):
        nan.run(lambda _: (module.weight.sum() * float("nan"), {}))


@pytest.mark.parametrize(("share", "trials", "low", "high"), [(0.5, 100, 0.4038, 0.5962), (1.0, 50, 0.9286, 1.0), (0.0, 50, 0.0, 0.0714)])
def test_wilson_interval(share: float, trials: int, low: float, high: float) -> None:
    assert wilson(share, trials) == pytest.approx((low, high), abs=2e-4)


def result(seed: int, score: float, **changes: object) -> EpisodeResult:
    values: dict = {
        "policy": "harmowam", "task": "pick_fruit", "environment": "in_domain", "start": "home", "seed": seed, "score": score,
        "success": score == 1, "transit": 1.0, "interaction": None, "failure": None, "obstacle": seed % 2 == 0,
        "duration_s": 9.0, "stages": {}, "weights": "a",
    }  # fmt: skip
    return EpisodeResult(**(values | changes))


def test_summary_of_cells() -> None:
    cells = summarise([result(0, 1.0), result(1, 0.5), result(2, 0.0, environment="position")])
    assert [(c["environment"], c["episodes"], c["score"]) for c in cells] == [("in_domain", 2, 0.75), ("position", 1, 0.0)]
    assert cells[0]["interaction"] is None
    assert cells[0]["free"] == {"successes": 0, "episodes": 1} and cells[0]["obstacle"] == {"successes": 1, "episodes": 1}
    json.dumps(cells)


def test_seeds_that_have_no_such_episode_count_nowhere() -> None:
    nothing = {"unusable": "the target could not be brought to the goal"}
    cells = summarise([result(0, 1.0), result(1, 0.0, **nothing), result(2, 0.0, environment="position", **nothing)])
    assert [(c["environment"], c["episodes"], c["unusable"], c["score"]) for c in cells] == [("in_domain", 1, 1, 1.0)]


def test_a_torn_journal_line_is_run_again(tmp_path: Path) -> None:
    from dataclasses import asdict

    path = tmp_path / "x.jsonl"
    whole = json.dumps(asdict(result(3, 1.0)))
    path.write_text(whole + "\n" + whole[:20])
    assert read_journal(path) == [result(3, 1.0)]
    with path.open("a") as file:
        file.write(whole + "\n")
    assert read_journal(path) == [result(3, 1.0)] * 2, "what comes after the torn line stands by itself"


def test_other_weights_presets_and_time_limits_have_another_digest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no weights in"):
        digest_of("compact", tmp_path)
    (tmp_path / "gate.safetensors").write_bytes(b"1")
    first = digest_of("compact", tmp_path)
    assert digest_of("compact", tmp_path) == first
    assert digest_of("compact", tmp_path, 60.0) != first
    mine = tmp_path / "mine.yaml"
    mine.write_text((PRESETS_DIR / "compact.yaml").read_text().replace("denoising_steps: 5", "denoising_steps: 2"))
    assert digest_of(str(mine), tmp_path) != first
    (tmp_path / "gate.safetensors").write_bytes(b"2")
    assert digest_of("compact", tmp_path) != first


@pytest.mark.parametrize("words", [("--preset", "no_such"), ("--weights", "."), ("--task", "juggle")])
def test_evaluate_answers_bad_input_with_a_sentence(words: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(app, ["evaluate", *words])
    assert said.exit_code == 2 and "Traceback" not in said.output


def test_unknown_names_list_the_known() -> None:
    assert expand("all", ("a", "b"), "task") == ("a", "b")
    with pytest.raises(typer.BadParameter, match="known: a, b, all"):
        expand("c", ("a", "b"), "task")


def test_straight_line_stops_at_the_hover_point() -> None:
    from harmowam_core.stages import GroundedPoint, Imagination, Observation

    down = np.tile(np.float32([1, 0, 0, 0]), (2, 1))
    seen = Observation(1, {}, np.float32([[0.4, 0.1, 0.3], [0.3, -0.4, 0.3]]), down, np.ones(2, np.float32), "go")
    point = np.float32([0.45, 0.1, 0.05])
    points = tuple(GroundedPoint(n, np.zeros(2, np.float32), point, 1.0) for n in ("target", "goal"))
    dream = Imagination(
        1, 5, np.zeros((13, 8, 8, 3), np.uint8), 0.1, np.zeros((13, 80, 12), np.float32), np.zeros((80, 8), np.float32), points
    )
    chunk = StraightLineExpert(("left", "right"), 12).act([seen], [dream])[0]
    np.testing.assert_allclose(chunk.positions[-1, 0], point + np.float32([0, 0, HOVER_M]), atol=1e-6)
    np.testing.assert_allclose(chunk.positions[:, 1], np.tile(seen.ee_position[1], (12, 1)))
    steps = np.linalg.norm(np.diff(chunk.positions[:, 0], axis=0), axis=1)
    assert steps.max() <= 0.0161
