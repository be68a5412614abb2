"""Assembling observations: nearest in time, at the models' sizes, refusing what is missing or too old."""

from __future__ import annotations

import numpy as np
import pytest

from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.observation import NotReadyError, ObservationAssembler
from harmowam_core.stages import JointState, StageError

CELL = load_cell()
KINEMATICS = Kinematics(CELL)
SIZES = {"scene": (64, 80), "wrist_left": (48, 48), "wrist_right": (48, 48)}
NAMES = CELL.finger_joint_names + CELL.arm_joint_names  # not the cell's own order, on purpose
MS = 1_000_000


def grey(value: int, height: int = 128, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def joints(stamp_ns: int, offset: float = 0.0, fingers: float = 0.02) -> JointState:
    positions = np.concatenate([np.full(2, fingers), KINEMATICS.home() + offset])
    return JointState(stamp_ns, NAMES, positions, np.zeros(16))


@pytest.fixture
def assembler() -> ObservationAssembler:
    """Images and joint states at 0, 100, 200 ms, grey value and joint offset telling them apart."""
    assembler = ObservationAssembler(CELL, KINEMATICS, SIZES)
    assembler.set_instruction("stack the cans")
    for k in range(3):
        assembler.add_joint_state(joints(k * 100 * MS, offset=0.01 * k))
        for camera in SIZES:
            assembler.add_image(camera, grey(10 * k), k * 100 * MS)
    return assembler


def test_joins_what_is_nearest_in_time(assembler: ObservationAssembler) -> None:
    observation = assembler.assemble(110 * MS)
    assert {name: (image.shape, int(image.flat[0])) for name, image in observation.images.items()} == {
        "scene": ((64, 80, 3), 10), "wrist_left": ((48, 48, 3), 10), "wrist_right": ((48, 48, 3), 10),
    }  # fmt: skip
    positions, orientations = KINEMATICS.forward(KINEMATICS.home() + 0.01)
    assert observation.ee_position == pytest.approx(positions, abs=1e-6)
    assert observation.ee_orientation == pytest.approx(orientations, abs=1e-6)
    assert observation.gripper == pytest.approx([0.5, 0.5])
    assert (observation.stamp_ns, observation.instruction) == (110 * MS, "stack the cans")


def test_openings_beyond_the_travel_are_its_ends(assembler: ObservationAssembler) -> None:
    assembler.add_joint_state(joints(210 * MS, fingers=CELL.finger_travel + 1e-4))
    assert assembler.assemble(210 * MS).gripper.tolist() == [1.0, 1.0]


def test_old_images_are_refused_by_name(assembler: ObservationAssembler) -> None:
    for k in range(3, 9):
        assembler.add_joint_state(joints(k * 100 * MS))
        for camera in ("scene", "wrist_right"):
            assembler.add_image(camera, grey(0), k * 100 * MS)
    with pytest.raises(NotReadyError, match=r"camera 'wrist_left' is 0\.600 s"):
        assembler.assemble(800 * MS)


def test_a_second_ago_is_still_there_at_30_hz(assembler: ObservationAssembler) -> None:
    for k in range(60):
        assembler.add_joint_state(joints(300 * MS + k * 33 * MS))
        for camera in SIZES:
            assembler.add_image(camera, grey(k), 300 * MS + k * 33 * MS)
    assert int(assembler.assemble(300 * MS + 20 * 33 * MS).image("scene").flat[0]) == 20
    with pytest.raises(NotReadyError):
        assembler.assemble(0)  # more than two seconds ago


def test_missing_inputs_are_named() -> None:
    assembler = ObservationAssembler(CELL, KINEMATICS, SIZES)
    with pytest.raises(NotReadyError, match="camera 'scene' yet"):
        assembler.assemble(0)
    for camera in SIZES:
        assembler.add_image(camera, grey(0), 0)
    with pytest.raises(NotReadyError, match="joint state yet"):
        assembler.assemble(0)


def test_clear_forgets(assembler: ObservationAssembler) -> None:
    assembler.clear()
    with pytest.raises(NotReadyError):
        assembler.assemble(100 * MS)


def test_wrong_inputs_are_refused(assembler: ObservationAssembler) -> None:
    with pytest.raises(KeyError, match="no camera 'front'"):
        assembler.add_image("front", grey(0), 0)
    with pytest.raises(StageError, match=r"lacks .*left_fr3_joint1"):
        assembler.add_joint_state(JointState(0, ("a",), np.zeros(1), np.zeros(1)))
    with pytest.raises(StageError, match="camera 'scene': camera image is 32x32"):
        assembler.add_image("scene", grey(0, 32, 32), 300 * MS)
    with pytest.raises(KeyError, match="no camera 'front'"):
        ObservationAssembler(CELL, KINEMATICS, {"front": (48, 48)})


def test_what_is_of_another_time_is_dropped_though_the_clock_was_set_back(assembler: ObservationAssembler) -> None:
    """Nothing grows for an hour because stamps are an hour younger than before."""
    for stamp_ns in (*range(3_600_000 * MS, 3_601_000 * MS, 100 * MS), *range(0, 10_000 * MS, 100 * MS)):
        for camera in assembler.cameras:
            assembler.add_image(camera, np.zeros((480, 640, 3), np.uint8), stamp_ns)
    assert all(len(kept) <= 21 for kept in assembler._images.values())
