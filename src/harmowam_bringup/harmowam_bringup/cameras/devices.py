"""RealSense devices through pyrealsense2: which are there, and streaming from one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyrealsense2 as rs
from numpy.typing import NDArray

from harmowam_bringup.cameras.lens import Lens, lens_of

QUEUE = 16
"""Frames that may wait for us; at 30 Hz, half a second."""


class CameraError(ValueError):
    """A camera is missing or cannot do what it is asked to; the message says what to do."""


@dataclass(frozen=True)
class DeviceInfo:
    """A connected device as it describes itself."""

    serial: str
    name: str
    usb: str
    firmware: str


@dataclass(frozen=True)
class StreamSettings:
    """What to stream. ``exposure_us`` and ``white_balance_k``: 0 for automatic."""

    width: int = 640
    height: int = 480
    rate_hz: int = 30
    depth: bool = False
    exposure_us: int = 0
    white_balance_k: int = 0


@dataclass(frozen=True)
class Frame:
    """One moment of a camera; arrays belong to the caller.

    color: (H, W, 3) uint8 RGB; depth_mm: (H, W) uint16 millimetres, aligned to colour, None without depth or where its frame was lost.
    """

    number: int
    device_ms: float
    color: NDArray[np.uint8]
    depth_mm: NDArray[np.uint16] | None


def list_devices(context: Any) -> list[DeviceInfo]:
    """All connected devices, by serial number."""
    found = []
    for device in context.query_devices():
        try:
            found.append(DeviceInfo(*(_info(device, key) for key in ("serial_number", "name", "usb_type_descriptor", "firmware_version"))))
        except RuntimeError:  # unplugged while we asked
            continue
    return sorted(found, key=lambda device: device.serial)


def _info(device: Any, key: str) -> str:
    field = getattr(rs.camera_info, key)
    return str(device.get_info(field)) if device.supports(field) else "unknown"


def choose_serial(camera: str, serial: str, connected: Sequence[DeviceInfo], cameras: int) -> str:
    """The serial of a camera: as given; or the only device's where one camera alone is wanted. CameraError says what is missing."""
    listed = ", ".join(f"{device.serial} ({device.name})" for device in connected)
    if not connected:
        raise CameraError(
            f"no RealSense camera is connected, camera '{camera}' needs {serial or 'one'}; "
            "plug it into a USB 3 port ('harmowam cameras' lists them)"
        )
    if serial:
        if serial not in [device.serial for device in connected]:
            raise CameraError(f"camera '{camera}': no device has serial {serial}; connected: {listed}")
        return serial
    if cameras == len(connected) == 1:
        return connected[0].serial
    raise CameraError(f"camera '{camera}' has no serial number; write `serial:` into the cell profile, one of: {listed}")


class ColorCamera:
    """One device, streaming from construction to ``close``. CameraError if it is not there or refuses the settings."""

    lens: Lens

    def __init__(self, context: Any, serial: str, settings: StreamSettings) -> None:
        device = next((d for d in context.query_devices() if _info(d, "serial_number") == serial), None)
        if device is None:
            raise CameraError(f"no device has serial {serial}; is it plugged in?")
        self._settings = settings
        self._sensors: list[Any] = []
        self._align = rs.align(rs.stream.color) if settings.depth else None
        self._source: Any = rs.syncer(QUEUE) if settings.depth else rs.frame_queue(QUEUE)
        wanted = [(rs.stream.color, rs.format.rgb8)] + ([(rs.stream.depth, rs.format.z16)] if settings.depth else [])
        try:
            self.lens, self._depth_unit_mm = self._open(device, wanted)
            for sensor in self._sensors:
                sensor.start(self._source)
        except RuntimeError as error:
            self.close()
            remedy = "is another program using it, are librealsense's udev rules installed?"
            raise CameraError(f"device {serial} does not start: {error}; {remedy}") from error
        except BaseException:
            self.close()
            raise

    def _open(self, device: Any, wanted: Sequence[tuple[Any, Any]]) -> tuple[Lens, float]:
        """Open the sensors of the wanted streams, some of which have both; returns the colour lens and the unit of depth, mm."""
        sensors = device.query_sensors()
        profiles: dict[int, list[Any]] = {}
        unit_mm = 1.0
        for stream, pixel_format in wanted:
            index, profile = self._profile(device, sensors, stream, pixel_format)
            profiles.setdefault(index, []).append(profile)
            if stream == rs.stream.color:
                self._configure(sensors[index])
                lens = lens_of(profile.as_video_stream_profile().intrinsics)
            elif sensors[index].supports(rs.option.depth_units):
                unit_mm = sensors[index].get_option(rs.option.depth_units) * 1e3
        for index, chosen in profiles.items():
            sensors[index].open(chosen)
            self._sensors.append(sensors[index])
        return lens, unit_mm

    def _profile(self, device: Any, sensors: Sequence[Any], stream: Any, pixel_format: Any) -> tuple[int, Any]:
        """The sensor's index and the profile of a stream at the settings' size and rate; CameraError names those the device has."""
        supported = set()
        s = self._settings
        for index, sensor in enumerate(sensors):
            for profile in sensor.get_stream_profiles():
                if profile.stream_type() == stream and profile.format() == pixel_format and profile.is_video_stream_profile():
                    video = profile.as_video_stream_profile()
                    mode = (video.width(), video.height(), profile.fps())
                    if mode == (s.width, s.height, s.rate_hz):
                        return index, profile
                    supported.add(mode)
        name = f"{_info(device, 'name')} {_info(device, 'serial_number')}"
        if not supported:
            raise CameraError(f"{name} has no {stream.name} stream; choose another camera{' or depth off' if self._align else ''}")
        modes = ", ".join(f"{width}x{height}@{rate}" for width, height, rate in sorted(supported))
        wanted = f"{s.width}x{s.height}@{s.rate_hz}"
        usb = _info(device, "usb_type_descriptor")
        hint = "" if usb.startswith("3") else f"; it is on USB {usb}, more are supported on a USB 3 port"
        raise CameraError(f"{name} does not stream {stream.name} at {wanted}; it supports {modes}{hint}")

    def _configure(self, sensor: Any) -> None:
        """Exposure, white balance and the raw hardware clock, as far as the sensor has them."""
        s = self._settings
        automatic = [("enable_auto_exposure", "exposure", s.exposure_us), ("enable_auto_white_balance", "white_balance", s.white_balance_k)]
        for switch, option, value in automatic:
            self._set(sensor, switch, float(value == 0), needed=value != 0)
            if value:
                # Colour sensors count exposure in units of 100 us; where the depth sensor has the colour too (D405), in us.
                unit = 100 if option == "exposure" and not sensor.is_depth_sensor() else 1
                self._set(sensor, option, value / unit, needed=True)
        # Exposure must not lengthen the frame period, and time is mapped by our own filter.
        self._set(sensor, "auto_exposure_priority", 0.0)
        self._set(sensor, "global_time_enabled", 0.0)

    def _set(self, sensor: Any, name: str, value: float, *, needed: bool = False) -> None:
        option = getattr(rs.option, name)
        if not sensor.supports(option):
            if needed:
                raise CameraError(f"the camera has no option '{name}'; leave it automatic")
            return
        limits = sensor.get_option_range(option)
        if not limits.min <= value <= limits.max:
            raise CameraError(f"option '{name}' is {value:g}, the camera takes [{limits.min:g}, {limits.max:g}]")
        sensor.set_option(option, value)

    def read(self, timeout_s: float) -> Frame | None:
        """The next frame; None if none comes in time. It waits without holding Python's lock."""
        if self._align is None:
            ok, frame = self._source.try_wait_for_frame(round(timeout_s * 1e3))
            return self._frame(frame, None) if ok else None
        ok, frames = self._source.try_wait_for_frames(round(timeout_s * 1e3))
        if not ok:
            return None
        frames = frames.as_frameset()
        color, depth = frames.get_color_frame(), frames.get_depth_frame()
        if not color:  # a depth frame without its colour frame: wait for the next pair
            return self.read(timeout_s)
        if not depth:
            return self._frame(color, None)
        frames = self._align.process(frames).as_frameset()
        return self._frame(frames.get_color_frame(), frames.get_depth_frame())

    def _frame(self, color: Any, depth: Any) -> Frame:
        depth_mm: NDArray[np.uint16] | None = None
        if depth is not None:
            raw = np.asanyarray(depth.get_data())
            depth_mm = raw.copy() if self._depth_unit_mm == 1.0 else np.round(raw * self._depth_unit_mm).astype(np.uint16)
        return Frame(color.get_frame_number(), color.get_timestamp(), np.array(color.get_data()), depth_mm)

    def close(self) -> None:
        """Stop streaming; also where the device is gone already."""
        for sensor in self._sensors:
            for end in (sensor.stop, sensor.close):
                try:
                    end()
                except RuntimeError:  # it was not started, or its device is unplugged
                    continue
        self._sensors = []
