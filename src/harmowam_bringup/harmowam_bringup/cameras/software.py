"""Software devices of librealsense: cameras without hardware behind the real interface, for tests and benchmarks."""

from __future__ import annotations

import time
from threading import Event, Thread
from typing import Any

import numpy as np
import pyrealsense2 as rs
from numpy.typing import NDArray

FOCAL_PX = 615.0  # at 640 pixels
BASELINE_M = 0.015
"""The colour lens is this far to the left of the depth camera, as on a D435."""


class SoftwareBus:
    """A context into which software devices are plugged.

    The context holds its devices weakly: one is connected for as long as the list of the event that announced it is kept.
    """

    def __init__(self) -> None:
        self.context: Any = rs.context()
        self._plugged: dict[str, list[Any]] = {}
        self._announced: list[Any] = []
        self.context.set_devices_changed_callback(lambda event: self._announced.append(event.get_new_devices()))

    def plug(self, camera: SoftwareCamera) -> None:
        """Connect a camera; it is found by query_devices afterwards."""
        camera.device.add_to(self.context)
        self._plugged[camera.serial], self._announced = self._announced, []
        camera.plugged.set()

    def unplug(self, camera: SoftwareCamera) -> None:
        """Disconnect a camera: it is no longer found, and sends no frames."""
        camera.plugged.clear()
        del self._plugged[camera.serial]


class SoftwareCamera:
    """A D435-like device with a colour stream and a depth stream of one size and rate, fed by ``send``."""

    def __init__(
        self,
        serial: str,
        *,
        width: int = 640,
        height: int = 480,
        rate_hz: int = 30,
        usb: str = "3.2",
        one_sensor: bool = False,
    ) -> None:
        self.serial, self.size, self.rate_hz = serial, (height, width), rate_hz
        self.plugged = Event()
        self.number = 0
        self.device: Any = rs.software_device()
        described = {"serial_number": serial, "name": "Software D435", "usb_type_descriptor": usb, "firmware_version": "5.16.0.1"}
        for key, value in described.items():
            self.device.register_info(getattr(rs.camera_info, key), value)
        self.intrinsics = pinhole(width, height)
        self.color = self.device.add_sensor("RGB Camera")
        self.depth = self.color if one_sensor else self.device.add_sensor("Stereo Module")
        self._color_profile = self._stream(self.color, rs.stream.color, rs.format.rgb8, 3, 0)
        self._depth_profile = self._stream(self.depth, rs.stream.depth, rs.format.z16, 2, 1)
        self._depth_profile.register_extrinsics_to(self._color_profile, aside(BASELINE_M))
        self.depth.add_read_only_option(rs.option.depth_units, 0.001)
        self.device.create_matcher(rs.matchers.default)

    def _stream(self, sensor: Any, kind: Any, pixel_format: Any, bytes_a_pixel: int, index: int) -> Any:
        stream = rs.video_stream()
        height, width = self.size
        stream.type, stream.index, stream.uid = kind, 0, int(self.serial) * 2 + index
        stream.width, stream.height, stream.fps, stream.bpp, stream.fmt = width, height, self.rate_hz, bytes_a_pixel, pixel_format
        stream.intrinsics = self.intrinsics
        return sensor.add_video_stream(stream).as_video_stream_profile()

    def send(self, color: NDArray[np.uint8], device_ms: float, depth_mm: NDArray[np.uint16] | None = None) -> None:
        """Deliver a frame to who listens; numbers count up from 1. Nothing is delivered while the camera is unplugged."""
        self.number += 1
        if not self.plugged.is_set():
            return
        self._inject(self.color, self._color_profile, color, 3, device_ms)
        if depth_mm is not None:
            self._inject(self.depth, self._depth_profile, depth_mm, 2, device_ms)

    def _inject(self, sensor: Any, profile: Any, pixels: NDArray[Any], bytes_a_pixel: int, device_ms: float) -> None:
        frame = rs.software_video_frame()
        frame.pixels, frame.bpp, frame.stride = pixels, bytes_a_pixel, self.size[1] * bytes_a_pixel
        frame.timestamp, frame.domain, frame.frame_number, frame.profile = (
            device_ms,
            rs.timestamp_domain.hardware_clock,
            self.number,
            profile,
        )
        sensor.on_video_frame(frame)


class Feeder:
    """Sends a changing picture from each camera at its rate, in a thread of its own, until ``close``."""

    def __init__(self, cameras: list[SoftwareCamera]) -> None:
        self._cameras = cameras
        self._ended = Event()
        self.sent = 0
        self.processor_s = 0.0
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (len(self._cameras), *self._cameras[0].size, 3), np.uint8)
        period_s = 1.0 / self._cameras[0].rate_hz
        began_s = time.monotonic()
        while not self._ended.wait(max(0.0, began_s + self.sent * period_s - time.monotonic())):
            for camera, picture in zip(self._cameras, noise, strict=True):
                camera.send(picture, self.sent * period_s * 1e3)
            self.sent += 1
            self.processor_s = time.thread_time()

    def close(self) -> None:
        """Stop sending."""
        self._ended.set()
        self._thread.join()


def pinhole(width: int, height: int) -> Any:
    """Intrinsics of a centred pin hole."""
    intrinsics = rs.intrinsics()
    intrinsics.width, intrinsics.height = width, height
    intrinsics.fx = intrinsics.fy = FOCAL_PX * width / 640
    intrinsics.ppx, intrinsics.ppy = (width - 1) / 2, (height - 1) / 2
    intrinsics.model, intrinsics.coeffs = rs.distortion.brown_conrady, [0.0] * 5
    return intrinsics


def aside(x_m: float) -> Any:
    """Extrinsics to a stream in whose frame everything is ``x_m`` further right."""
    extrinsics = rs.extrinsics()
    extrinsics.rotation = [1.0, 0, 0, 0, 1, 0, 0, 0, 1]
    extrinsics.translation = [x_m, 0.0, 0.0]
    return extrinsics
