"""The camera node over DDS, on software devices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, Image

from harmowam_bringup.cameras.camera_node import CameraNode
from harmowam_bringup.cameras.software import Feeder, SoftwareBus, SoftwareCamera
from harmowam_core import topics
from harmowam_core.health import Level
from harmowam_core.messages import image_from_message, stamp_from_message
from harmowam_core.qos import SENSOR
from harmowam_core.testing import graph, wait_for

NAMES = ("scene", "wrist_left", "wrist_right")


@contextmanager
def parameters(monkeypatch: pytest.MonkeyPatch, **values: object) -> Iterator[None]:
    """What the command line of the node would say."""
    init = rclpy.init
    words = [word for name, value in values.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
    with monkeypatch.context() as patch:
        patch.setattr(rclpy, "init", lambda args, **options: init(args=["--ros-args", *words], **options))
        yield


def devices(count: int) -> tuple[SoftwareBus, list[SoftwareCamera]]:
    bus, cameras = SoftwareBus(), [SoftwareCamera(str(101 + k), width=160, height=120) for k in range(count)]
    for camera in cameras:
        bus.plug(camera)
    return bus, cameras


def test_publishes_what_realsense_ros_would_and_survives_unplugging(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, cameras = devices(3)
    settings = {"serials": ["103", "101", "102"], "width": 160, "height": 120}
    with parameters(monkeypatch, **settings), graph(lambda: CameraNode(bus.context)) as (cell, [node]):
        for name in NAMES:
            cell.listen(Image, f"/camera/{name}/color/image_raw", SENSOR)
            cell.listen(CameraInfo, f"/camera/{name}/color/camera_info", SENSOR)
        feeder = Feeder(cameras)
        try:
            wait_for(lambda: all(len(cell.heard[topics.camera_image(name)]) > 5 for name in NAMES), "images of all cameras")
            pictures = {name: image_from_message(cell.heard[topics.camera_image(name)][-1]) for name in NAMES}
            sent = np.random.default_rng(0).integers(0, 255, (3, 120, 160, 3), np.uint8)
            for name, k in zip(NAMES, (2, 0, 1), strict=True):  # by serial number, not by the order of plugging in
                np.testing.assert_array_equal(pictures[name], sent[k])
            info = cell.heard["/camera/scene/color/camera_info"][-1]
            assert (info.header.frame_id, info.width, info.height) == ("scene_color_optical_frame", 160, 120)
            assert info.k.tolist() == [153.75, 0, 79.5, 0, 153.75, 59.5, 0, 0, 1] and info.distortion_model == "plumb_bob"
            stamps = [stamp_from_message(message.header.stamp) for message in cell.heard[topics.camera_image("scene")]]
            assert stamps == sorted(set(stamps)) and 0 <= time.time_ns() - stamps[-1] < 1e9
            wait_for(lambda: "scene dropped" in cell.diagnosis("cameras")[2], "counts")
            level, text, values = cell.diagnosis("cameras")
            assert level == Level.WARN and "the profile has nominal values of camera 'scene' alone" in text
            assert float(values["scene image rate (Hz)"]) > 0 and values["scene dropped"] == "0"

            bus.unplug(cameras[2])
            wait_for(lambda: "scene: no " in cell.diagnosis("cameras")[1], "fault of the camera that is away")
            assert cell.diagnosis("cameras")[0] == Level.ERROR
            others = len(cell.heard[topics.camera_image("wrist_left")])
            wait_for(lambda: len(cell.heard[topics.camera_image("wrist_left")]) > others + 5, "the other cameras go on")
            heard = len(cell.heard[topics.camera_image("scene")])
            plugged_s = time.monotonic()
            bus.plug(cameras[2])
            wait_for(lambda: len(cell.heard[topics.camera_image("scene")]) > heard, "images of the camera that is back", 5.0)
            assert time.monotonic() - plugged_s <= 2.0
            wait_for(lambda: cell.diagnosis("cameras")[2].get("scene reopened") == "1", "count")
            assert cell.diagnosis("cameras")[0] == Level.WARN
        finally:
            feeder.close()
        node.trigger_deactivate()
        assert not node._streams
        node.trigger_activate()  # streams again, from where it was left
        assert set(node._streams) == set(NAMES)
        node.trigger_deactivate()


def test_depth_has_topics_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, [camera] = devices(1)
    with (
        parameters(monkeypatch, cameras=["scene"], width=160, height=120, depth=True),
        graph(lambda: CameraNode(bus.context)) as (
            cell,
            [node],
        ),
    ):
        cell.listen(Image, "/camera/scene/aligned_depth_to_color/image_raw", SENSOR)
        wait_for(lambda: node.active, "active node")
        depth, k = np.full((120, 160), 750, np.uint16), 0

        def send() -> None:
            nonlocal k
            camera.send(np.zeros((120, 160, 3), np.uint8), 33.0 * (k := k + 1), depth)

        wait_for(lambda: cell.heard["/camera/scene/aligned_depth_to_color/image_raw"], "depth", meanwhile=send)
        message = cell.heard["/camera/scene/aligned_depth_to_color/image_raw"][-1]
        assert (message.encoding, message.step, message.header.frame_id) == ("16UC1", 320, "scene_color_optical_frame")
        node.trigger_deactivate()


@pytest.mark.parametrize(
    ("count", "settings", "told"),
    [
        (0, {}, "no RealSense camera is connected, camera 'scene' needs one; plug it into a USB 3 port"),
        (1, {}, "camera 'scene' has no serial number; write `serial:` into the cell profile, one of: 101 (Software D435)"),
        (1, {"cameras": ["scene"], "serials": ["9"]}, "camera 'scene': no device has serial 9; connected: 101 (Software D435)"),
        (2, {"cameras": ["scene"], "serials": ["101", "102"]}, "expected 1 different ones"),
        (2, {"cameras": ["scene", "wrist_left"], "serials": ["101", "101"]}, "expected 2 different ones"),
        (1, {"cameras": ["scene"], "width": 1280, "height": 720}, "does not stream color at 1280x720@30; it supports 160x120@30"),
    ],
)
def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch, count: int, settings: dict, told: str) -> None:
    bus, plugged = devices(count)
    with parameters(monkeypatch, autostart=False, **settings), graph(lambda: CameraNode(bus.context)) as (_, [node]):
        if node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert told in node.health.summary().message
        assert not node.active and len(plugged) == count
