"""The contract: validated, fitting the cell, and naming the topics that the graph has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.contract import CONTRACTS_DIR, ContractError, load_contract
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_from_message, image_to_message, joint_state_to_message, task_to_message
from harmowam_core.observation_feed import ObservationFeed
from harmowam_core.presets import load_preset
from harmowam_core.stages import JointState, StageError
from harmowam_core.status import Task

CELL, PRESET, CONTRACT = load_cell(), load_preset(), load_contract()
KINEMATICS = Kinematics(CELL)


def variant(path: Path, **changes: object) -> Path:
    """The contract with other values, by dotted name, in a file."""
    content = yaml.safe_load((CONTRACTS_DIR / "franka_dual.yaml").read_text())
    for name, value in changes.items():
        *folders, last = name.split("__")
        place = content
        for folder in folders:
            place = place[folder]
        place[last] = value
    file = path / "other.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_contract_names_what_the_graph_publishes() -> None:
    assert {camera: source.topic for camera, source in CONTRACT.observation.images.items()} == {
        camera.name: topics.camera_image(camera.name) for camera in CELL.cameras
    }
    assert CONTRACT.observation.joints.topic == topics.JOINT_STATES and CONTRACT.observation.instruction.topic == topics.TASK
    assert CONTRACT.action.openings.topic == CELL.controllers.gripper_topic
    assert CONTRACT.sizes(PRESET) == {"scene": PRESET.scene_size, "wrist_left": PRESET.wrist_size, "wrist_right": PRESET.wrist_size}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observation__images__scene": {"topic": "no slash", "size": "scene_size"}}, "images.scene.topic"),
        ({"observation__images__scene": {"topic": "/a", "size": "huge"}}, "images.scene.size"),
        ({"observation__images__scene": {"topic": "/joint_states", "size": "scene_size"}}, "names a topic twice"),
        ({"action__poses": {"topic": "/other"}}, "action.poses.topic is '/other'"),
        ({"period_s": 0}, "period_s"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_invalid_contract_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ContractError, match=words):
        load_contract(variant(tmp_path, **change))
    with pytest.raises(ContractError, match="known: .'franka_dual'"):
        load_contract("none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell": "other"}, "is for cell 'other'"),
        ({"period_s": 0.05}, "has a period of 0.05 s, preset 'compact' of 0.1 s"),
        ({"observation__joints__names": {"elbow": "x"}}, "renames joints .'elbow'"),
        ({"observation__images": {"front": {"topic": "/front", "size": "scene_size"}}}, "no camera 'front'"),
    ],
)
def test_what_does_not_fit_the_cell_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises((ContractError, KeyError), match=words):
        ObservationFeed(load_contract(variant(tmp_path, **change)), PRESET)


def test_renamed_joints_and_topics_are_followed(tmp_path: Path) -> None:
    names = {name: f"driver_{name}" for name in CELL.arm_joint_names}
    changed = variant(tmp_path, observation__joints={"topic": "/driver/joints", "names": names}, action__poses={"topic": "/driver/joints"})
    feed = ObservationFeed(load_contract(changed), PRESET, ["scene"], kinematics=KINEMATICS)
    positions = np.concatenate([KINEMATICS.home() + 0.1, [0.04, 0.0]])
    state = JointState(10**9, (*names.values(), *CELL.finger_joint_names), positions, np.zeros(16))
    feed.put("/driver/joints", joint_state_to_message(state))
    feed.put(topics.TASK, task_to_message(Task(10**9, 1, "stack the cans")))
    assert feed.put(topics.camera_image("scene"), image_to_message(np.zeros((128, 160, 3), np.uint8), 10**9, "")) == 10**9
    observation = feed.observation(10**9)
    assert observation.instruction == "stack the cans" and observation.gripper.tolist() == [1.0, 0.0]
    assert observation.ee_position == pytest.approx(KINEMATICS.forward(KINEMATICS.home() + 0.1)[0], abs=1e-6)
    assert feed.assembler.joints_at(10**9) == pytest.approx(positions)
    assert feed.assembler.covers(10**9) and not feed.assembler.covers(10**9 + 1)
    with pytest.raises(KeyError, match="no topic '/joint_states'"):
        feed.put("/joint_states", joint_state_to_message(state))
    with pytest.raises(ContractError, match="no topic for cameras .'front'"):
        ObservationFeed(CONTRACT, PRESET, ["front"])


def test_compressed_images_are_decoded() -> None:
    import cv2
    from sensor_msgs.msg import CompressedImage

    image = np.zeros((128, 160, 3), np.uint8)
    image[:, 80:] = (250, 120, 10)
    data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    assert np.abs(image_from_message(CompressedImage(format="rgb8; jpeg compressed bgr8", data=data)).astype(int) - image).mean() < 3
    with pytest.raises(StageError, match="cannot be decoded"):
        image_from_message(CompressedImage(format="jpeg", data=data[:20]))
    with pytest.raises(StageError, match="0 bytes cannot"):
        image_from_message(CompressedImage(format="jpeg"))
