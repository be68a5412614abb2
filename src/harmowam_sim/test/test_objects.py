"""The catalogue: what is held out is held out, what is to be grasped can be."""

import numpy as np
import pytest

from harmowam_sim import objects
from harmowam_sim.cell import SimCell
from harmowam_sim.objects import HELD_OUT_KINDS, KINDS, TRAIN_KINDS
from harmowam_sim.scene import Scene
from harmowam_sim.tasks import upright_cos

GRASPABLE = ("fruit", "can", "block", "ball", "cylinder")
MAX_GRASP_WIDTH_M = 0.055


def test_train_and_held_out_kinds_share_no_name() -> None:
    assert not TRAIN_KINDS.keys() & HELD_OUT_KINDS.keys()
    assert TRAIN_KINDS.keys() | HELD_OUT_KINDS.keys() == KINDS.keys()


def test_no_train_kind_looks_like_a_held_out_one() -> None:
    for held_out in HELD_OUT_KINDS.values():
        assert all(held_out.geoms != kind.geoms for kind in TRAIN_KINDS.values()), held_out.name


@pytest.mark.parametrize("kind", [k for k in KINDS.values() if k.category in GRASPABLE], ids=lambda k: k.name)
def test_graspable_kinds_fit_the_hand(kind: objects.ObjectKind) -> None:
    between_fingers = [geom for geom in kind.geoms if abs(geom.position[0]) < 0.02]
    sides = [abs(geom.position[1]) + (geom.size[1] if geom.kind in ("box", "ellipsoid") else geom.size[0]) for geom in between_fingers]
    assert 2 * max(sides) <= MAX_GRASP_WIDTH_M
    assert 0.012 <= kind.grasp_height <= kind.height
    # The palm, 5.6 cm above the tool's centre at most, stays clear of the top.
    assert kind.height - kind.grasp_height <= 0.04


@pytest.mark.parametrize("kind", [k for k in KINDS.values() if k.tall], ids=lambda k: k.name)
def test_obstacles_are_tall_and_can_be_knocked_over(kind: objects.ObjectKind) -> None:
    assert 0.16 <= kind.height <= 0.24
    assert 0.6 <= kind.mass_kg <= 1.5


@pytest.mark.parametrize("names", np.array_split(sorted(KINDS), 6), ids=lambda names: names[0])
def test_everything_stands_where_it_is_put(names: np.ndarray) -> None:
    spots = {name: (0.30 + 0.19 * (i % 3), -0.6 + 0.2 * (i // 3)) for i, name in enumerate(names)}
    with SimCell(Scene(tuple(KINDS[name].at(*spots[name]) for name in names))) as cell:
        cell.step(1.5)
        for name, spot in spots.items():
            position, _ = cell.object_pose(name)
            assert np.hypot(*(position[:2] - spot)) < 0.004, name
            assert abs(position[2]) < 0.003, name
            assert upright_cos(cell, name) > 0.985, name
            assert np.linalg.norm(cell.object_velocity(name)[0]) < 0.01, name
