"""The cache notices what is absent, stale or damaged, says so, and builds it anew."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from harmowam_core.backends import Network, cache


def network(width: int = 3, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return Network("line", nn.Linear(width, width).eval(), (torch.zeros(1, width),))


def write(folder: Path) -> None:
    (folder / "engine").write_bytes(b"0123456789")


@pytest.fixture
def built(tmp_path: Path) -> cache.Artefact:
    found = cache.artefact(network(), "kind", ("torch",), tmp_path)
    assert found.fault() == "absent" and found.ensure(write)
    return found


def refuse(folder: Path) -> None:
    pytest.fail("built again")


def test_what_is_current_is_not_built_again(built: cache.Artefact) -> None:
    assert built.fault() == "" and not built.ensure(refuse)
    assert built.file("engine").read_bytes() == b"0123456789"


def test_other_weights_and_shapes_have_folders_of_their_own(built: cache.Artefact, tmp_path: Path) -> None:
    for other in (network(seed=1), network(width=4), Network("line", network().module, (torch.zeros(2, 3),))):
        assert cache.artefact(other, "kind", ("torch",), tmp_path).fault() == "absent"
    assert cache.artefact(network(), "kind", ("torch",), tmp_path).fault() == ""


def damage_truncate(folder: Path) -> None:
    (folder / "engine").write_bytes(b"01234")


def damage_flip(folder: Path) -> None:
    (folder / "engine").write_bytes(b"0123456780")


def damage_delete(folder: Path) -> None:
    (folder / "engine").unlink()


def damage_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"network": ')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage_truncate, "damaged: engine has 5 bytes, 10 were written"),
        (damage_flip, "damaged: engine is not what was written"),
        (damage_delete, "damaged: engine is missing"),
        (damage_manifest, "damaged: no readable manifest.json"),
    ],
)
def test_damage_is_said_and_mended(built: cache.Artefact, caplog: pytest.LogCaptureFixture, spoil, message: str) -> None:
    spoil(built.folder)
    assert built.fault() == message
    with caplog.at_level(logging.WARNING, "harmowam.engines"):
        assert built.ensure(write)
    assert f"kind of line is {message}; building it anew" in caplog.text
    assert built.fault() == ""


def test_another_version_or_other_code_makes_it_stale(built: cache.Artefact, caplog: pytest.LogCaptureFixture) -> None:
    path = built.file("manifest.json")
    manifest = json.loads(path.read_text())
    manifest["made_with"]["torch"] = "1.0"
    path.write_text(json.dumps(manifest))
    assert built.fault() == f"stale: torch 1.0 -> {torch.__version__}"
    with caplog.at_level(logging.WARNING, "harmowam.engines"):
        assert built.ensure(write)
    assert "stale: torch 1.0" in caplog.text
    changed = cache.Artefact(built.network, built.kind, built.folder, built.made_with | {"code": "other"})
    assert changed.fault().startswith("stale: code ")


def test_a_build_that_fails_leaves_what_was_there(built: cache.Artefact) -> None:
    damage_truncate(built.folder)

    def fail(folder: Path) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        built.ensure(fail)
    assert built.file("engine").read_bytes() == b"01234" and built.fault().startswith("damaged")
    assert [path.name for path in built.folder.parent.iterdir() if path.is_dir()] == ["kind"]


def test_entries_tell_and_remove_what_is_bad(built: cache.Artefact, tmp_path: Path) -> None:
    [(folder, manifest, fault)] = cache.entries(tmp_path)
    assert (folder, manifest["network"], fault) == (built.folder, "line", "")
    damage_flip(folder)
    [(_, _, fault)] = cache.entries(tmp_path)
    assert fault.startswith("damaged")
    cache.remove(folder)
    assert not list(cache.entries(tmp_path))
