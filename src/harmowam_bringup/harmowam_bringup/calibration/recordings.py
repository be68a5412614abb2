"""What was recorded for a calibration: images, each with where the tool was; from a rosbag2 or from a folder."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader, ReaderError
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image, JointState

from harmowam_bringup.calibration.hand_eye import Float64
from harmowam_bringup.cameras.lens import Lens
from harmowam_core import topics
from harmowam_core.cell import Cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import image_from_message, joint_state_from_message, stamp_from_message

STILL_NS = 300_000_000
STILL_RAD = 5e-4
"""Within STILL_NS before and after an image no joint may have moved further."""
NEW_POSE_RAD = 0.02
POSES_FILE, LENS_FILE = "poses.json", "camera_info.json"


@dataclass(frozen=True)
class Picture:
    """An image (H, W, 3) or (H, W) uint8 and the tool's pose (4, 4) in the base frame."""

    name: str
    image: NDArray[np.uint8]
    tool: Float64


@dataclass(frozen=True)
class Recorded:
    """Pictures of still poses, and the lens that the camera claims to have, if it was recorded."""

    pictures: list[Picture]
    lens: Lens | None


def load(path: Path, camera: str, arm: str, cell: Cell) -> Recorded:
    """Read a recording of ``camera`` and of the tool of ``arm``. ValueError says what it lacks."""
    if not path.exists():
        raise FileNotFoundError(f"no recording at {path}")
    if path.is_dir() and (path / POSES_FILE).is_file():
        return _from_folder(path, arm, cell)
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise ValueError(
            f"{path} is neither a rosbag2 (no metadata.yaml) nor a folder of images (no {POSES_FILE}); see docs/calibration.md"
        )
    return _from_bag(path, camera, arm, cell)


def _from_folder(path: Path, arm: str, cell: Cell) -> Recorded:
    kinematics = Kinematics(cell)
    pictures = []
    for number, entry in enumerate(json.loads((path / POSES_FILE).read_text())):
        where = f"{path / POSES_FILE}, entry {number}"
        try:
            name = entry["image"]
            if "joints" in entry:
                tool = _tool(kinematics, cell, arm, np.array(entry["joints"], np.float64))
            else:
                tool = _pose(np.array(entry["position"], np.float64), np.array(entry["orientation"], np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{where}: expected image and joints ({len(cell.joints)} rad, in the profile's order), "
                f"or image, position and orientation: {error}"
            ) from error
        image = cv2.imread(str(path / name), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise ValueError(f"{where}: cannot read the image {path / name}")
        pictures.append(Picture(name, np.asarray(image, np.uint8), tool))
    lens = path / LENS_FILE
    if not lens.is_file():
        return Recorded(pictures, None)
    info = json.loads(lens.read_text())
    return Recorded(
        pictures, Lens(np.reshape(np.array(info["k"], np.float64), (3, 3)), np.array(info["d"]), (info["height"], info["width"]))
    )


def _from_bag(path: Path, camera: str, arm: str, cell: Cell) -> Recorded:
    kinds = {
        topics.camera_image(camera): Image.__name__,
        topics.camera_info(camera): CameraInfo.__name__,
        topics.JOINT_STATES: JointState.__name__,
    }
    images: list[tuple[int, bytes]] = []
    states: list[tuple[int, dict[str, float]]] = []
    lens: Lens | None = None
    try:
        with Reader(path) as bag:
            wanted = [c for c in bag.connections if c.topic in kinds and c.msgtype == f"sensor_msgs/msg/{kinds[c.topic]}"]
            if missing := {topics.camera_image(camera), topics.JOINT_STATES} - {c.topic for c in wanted}:
                raise ValueError(f"{path} has no messages on {' and '.join(sorted(missing))}; it has {sorted(bag.topics)}")
            for connection, _, data in bag.messages(connections=wanted):
                if connection.topic == topics.JOINT_STATES:
                    state = joint_state_from_message(deserialize_message(bytes(data), JointState))
                    states.append((state.stamp_ns, dict(zip(state.names, state.positions.tolist(), strict=True))))
                elif connection.topic == topics.camera_info(camera):
                    lens = lens or _lens(deserialize_message(bytes(data), CameraInfo))
                else:
                    images.append((stamp_from_message(deserialize_message(bytes(data), Image).header.stamp), bytes(data)))
    except (ReaderError, RuntimeError) as error:  # RuntimeError: what ROS raises for bytes that are no message
        raise ValueError(f"{path} is not a readable rosbag2: {error}") from error
    return Recorded(_still_pictures(images, sorted(states, key=lambda item: item[0]), arm, cell), lens)


def _still_pictures(images: list[tuple[int, bytes]], states: list[tuple[int, dict[str, float]]], arm: str, cell: Cell) -> list[Picture]:
    """One picture of each pose in which the arm stood still."""
    kinematics = Kinematics(cell)
    names = cell.arms[cell.arm_names.index(arm)].named(cell.joints)
    stamps = [stamp_ns for stamp_ns, _ in states]
    positions = np.array([[state.get(name, np.nan) for name in names] for _, state in states])
    if np.isnan(positions).any():
        raise ValueError(f"{topics.JOINT_STATES} lacks {[n for n, q in zip(names, positions.T, strict=True) if np.isnan(q).any()]}")
    pictures: list[Picture] = []
    last = np.full(len(names), np.inf)
    for stamp_ns, data in images:
        first, end = bisect_left(stamps, stamp_ns - STILL_NS), bisect_left(stamps, stamp_ns + STILL_NS)
        if end - first < 3 or first == 0 or end == len(stamps):
            continue
        around = positions[first:end]
        mean = around.mean(0)
        if np.ptp(around, axis=0).max() > STILL_RAD or np.abs(mean - last).max() < NEW_POSE_RAD:
            continue
        last = mean
        picture = image_from_message(deserialize_message(data, Image))
        pictures.append(Picture(f"{stamp_ns / 1e9:.2f} s", picture, _tool(kinematics, cell, arm, mean)))
    return pictures


def _tool(kinematics: Kinematics, cell: Cell, arm: str, joints: Float64) -> Float64:
    """(4, 4) of an arm's tool with its joints (J,) rad; the other arms may be anywhere. ValueError unless there are J."""
    index = cell.arm_names.index(arm)
    all_joints = kinematics.home().reshape(len(cell.arms), -1)
    if joints.shape != all_joints[index].shape:
        raise ValueError(f"joints are {joints.shape}, expected ({len(cell.joints)},)")
    all_joints[index] = joints
    positions, orientations = kinematics.forward(all_joints.ravel())
    return _pose(positions[index], orientations[index])


def _pose(position: NDArray[Any], orientation: NDArray[Any]) -> Float64:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_quat(orientation).as_matrix(), position
    return pose


def _lens(info: CameraInfo) -> Lens | None:
    """The lens of a camera_info; None where it says nothing."""
    d = np.array(info.d, np.float64)
    if not info.k[0] > 0:
        return None
    if info.distortion_model not in ("", "plumb_bob", "rational_polynomial") or len(d) not in (0, 5, 8):
        raise ValueError(
            f"camera_info has distortion model '{info.distortion_model}' with {len(d)} values; expected plumb_bob or rational_polynomial"
        )
    return Lens(np.array(info.k).reshape(3, 3), d if len(d) else np.zeros(5), (info.height, info.width))
