"""The arm's meshes are built from an installed package, small, and where the links are."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from harmowam_sim import assets


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HARMOWAM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_built_once_small_and_true_to_the_original(empty_cache, monkeypatch):
    meshes = assets.franka_meshes()
    assert {mesh.part for mesh in meshes} == set(assets.PARTS)
    assert all(mesh.path.is_relative_to(empty_cache) for mesh in meshes)
    faces = {mesh.name: len(trimesh.load_mesh(mesh.path).faces) for mesh in meshes}
    assert sum(faces.values()) < 7000
    # The hand's outline, m, as its maker gives it.
    hand = np.array([trimesh.load_mesh(mesh.path).bounds for mesh in meshes if mesh.part == "hand"])
    assert hand[:, 0].min(axis=0) == pytest.approx([-0.0315, -0.1039, -0.0259], abs=0.004)
    assert hand[:, 1].max(axis=0) == pytest.approx([0.0315, 0.1006, 0.066], abs=0.004)

    monkeypatch.setattr(assets, "SOURCE", ("no_such_package", ""))
    assert assets.franka_meshes() == meshes  # from the cache


def test_a_missing_source_is_named_and_leaves_nothing(empty_cache, monkeypatch):
    monkeypatch.setattr(assets, "SOURCE", ("no_such_package", ""))
    with pytest.raises(assets.AssetError, match="no_such_package"):
        assets.franka_meshes()
    monkeypatch.setattr(assets, "SOURCE", ("numpy", "meshes"))
    with pytest.raises(assets.AssetError, match=r"link0\.dae"):
        assets.franka_meshes()
    assert not any(empty_cache.iterdir())
