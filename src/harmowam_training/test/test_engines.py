"""The engines of every network are built for every backend, agree with PyTorch on what a cell shows, and can be listed and timed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
import typer
from rich.console import Console

from harmowam_core.backends import LEAST_COSINE, cache
from harmowam_core.presets import PresetError
from harmowam_training import engines
from harmowam_training.bench_backends import STAGES, measure
from harmowam_training.recorded import load_models, recorded_observations

NETWORKS = {"grounding", "frame_encoder", "sampler", "frame_decoder", "predictive_expert", "reactive_expert", "gate"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.timeout(1200)  # minutes, where the user's cache holds none of them
def test_all_engines_are_built_and_agree_on_recorded_observations() -> None:
    built = engines.build_engines("compact", engines.ENGINE_BACKENDS, None, None, (8, 9), Console(file=io.StringIO()), skip=False)
    assert {(row["network"], row["backend"]) for row in built["engines"]} == {(n, b) for n in NETWORKS for b in engines.ENGINE_BACKENDS}
    assert built["observations"] == 8 and not built["skipped"]
    for row in built["engines"]:
        if row["backend"] == "tensorrt" and not torch.cuda.is_available():
            assert row["kind"] == "tensorrt_rtx-sm89" and row["cosine"] is None
        else:
            assert row["cosine"] >= LEAST_COSINE and row["max_error"] < 0.1 * max(o["max_value"] for o in row["outputs"]), row
    kinds = {(manifest["network"], folder.name) for folder, manifest, fault in cache.entries() if not fault}
    assert {(n, kind) for n in NETWORKS for kind in ("onnx", "openvino")} <= kinds


def test_the_recorded_observations_are_those_of_two_demonstrations() -> None:
    seen = recorded_observations()
    assert len(seen) == 8 and len({o.instruction for o in seen}) == 2
    assert {o.image("scene").shape for o in seen} == {(64, 80, 3)}
    assert min(o.gripper.min() for o in seen) < 0.7 < max(o.gripper.max() for o in seen)  # some hold something


def test_every_stage_is_timed_and_every_network_compared() -> None:
    results = measure(("torch", "torch_bf16"), 2, [1], "compact", "cpu", Console(file=io.StringIO()))
    for stages in results["timings_ms"]["1"].values():
        assert set(stages) == set(STAGES) and all(0 < s["p50"] <= s["p95"] for s in stages.values())
    assert all(a["cosine"] == pytest.approx(1.0) for a in results["agreement"]["torch"].values())
    assert set(results["agreement"]["torch_bf16"]) == NETWORKS


def test_the_list_tells_what_is_damaged_and_prunes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "bad"):
        cache.Artefact(name, "onnx", tmp_path / name / "onnx", {"torch": torch.__version__}).ensure(lambda f: (f / "x").write_bytes(b"12"))
    (tmp_path / "bad" / "onnx" / "x").write_bytes(b"1")

    def listed(prune: bool) -> dict[str, str]:
        engines.list_engines(tmp_path, prune, "-")
        return {row["network"]: row["state"] for row in json.loads(capsys.readouterr().out)["engines"]}

    assert listed(True) == {"good": "current", "bad": "damaged: x has 1 bytes, 2 were written (deleted)"}
    assert listed(False) == {"good": "current"}


@pytest.mark.parametrize(("backend", "capability"), [("torch", "8.9"), ("abacus", "8.9"), ("onnx", "89")])
def test_bad_options_end_with_code_2(backend: str, capability: str) -> None:
    with pytest.raises(typer.Exit) as ended:
        engines.build("compact", backend, None, None, capability, "")
    assert ended.value.exit_code == 2


def test_all_or_one_backend_is_chosen() -> None:
    assert engines.chosen_backends("all") == engines.ENGINE_BACKENDS
    assert engines.chosen_backends("onnxruntime") == ("onnx",)


def test_a_compute_capability_is_major_and_minor() -> None:
    assert engines.capability_of("12.0") == (12, 0)
    for wrong in ("89", "8.", "a.b"):
        with pytest.raises(ValueError, match="expected major.minor"):
            engines.capability_of(wrong)


def test_the_paper_scale_preset_is_refused_with_the_reason() -> None:
    with pytest.raises(PresetError, match="its world model builds when it is loaded"):
        load_models("wan2_2_5b", "torch")
