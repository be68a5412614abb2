"""Made-up cameras, to measure what listens to them or stores them."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from harmowam_bringup.dds import expect_large_images
from harmowam_core.messages import image_to_message
from harmowam_core.qos import SENSOR

_STAMP = struct.Struct("<iI")
_STAMP_OFFSET = 4  # after the head of a serialized message


@dataclass(frozen=True)
class Cameras:
    """How many, how large, how often."""

    count: int = 3
    width: int = 640
    height: int = 480
    hz: float = 30.0

    @property
    def topics(self) -> list[str]:
        """Where their images are."""
        return [f"/bench/camera_{number}/color/image_raw" for number in range(self.count)]


def serialized_image(cameras: Cameras, number: int) -> bytearray:
    """An image of noise, which nothing can compress away."""
    pixels = np.random.default_rng(number).integers(0, 256, (cameras.height, cameras.width, 3), np.uint8)
    return bytearray(serialize_message(image_to_message(pixels, 0, f"camera_{number}")))


def stamped(image: bytearray, stamp_ns: int) -> bytes:
    """The same image, of another moment."""
    _STAMP.pack_into(image, _STAMP_OFFSET, stamp_ns // 10**9, stamp_ns % 10**9)
    return bytes(image)


def publish(cameras: Cameras, seconds: float) -> dict[str, int]:
    """Publish for a while, once every topic has a subscriber; returns how many images each got. TimeoutError if nobody comes in 30 s."""
    expect_large_images()
    rclpy.init()
    node = Node("made_up_cameras", enable_rosout=False, start_parameter_services=False)
    publishers = [node.create_publisher(Image, topic, SENSOR) for topic in cameras.topics]
    images = [serialized_image(cameras, number) for number in range(cameras.count)]
    try:
        end_s = time.monotonic() + 30
        while any(publisher.get_subscription_count() == 0 for publisher in publishers):
            if time.monotonic() > end_s:
                raise TimeoutError(f"nobody listens to {cameras.topics}")
            time.sleep(0.05)
        time.sleep(1.0)  # until both sides know each other
        sent = 0
        for _ in _beats(cameras.hz, seconds):
            for publisher, image in zip(publishers, images, strict=True):
                publisher.publish(stamped(image, time.time_ns()))
            sent += 1
        time.sleep(1.0)  # what is on its way arrives
        return dict.fromkeys(cameras.topics, sent)
    finally:
        node.destroy_node()
        rclpy.shutdown()


def _beats(hz: float, seconds: float) -> Iterator[None]:
    due_s = time.monotonic()
    end_s = due_s + seconds
    while due_s < end_s:
        time.sleep(max(0.0, due_s - time.monotonic()))
        yield
        due_s += 1.0 / hz
