"""RealSense cameras of the cell as one node: colour images, camera info, depth aligned to colour; the topics of realsense-ros.

One node for all of them: a process a camera would pay Python's and DDS's own cost three times, and the work itself (copying pixels
into messages) is the same.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pyrealsense2 as rs
from sensor_msgs.msg import CameraInfo, Image

from harmowam_bringup.cameras.devices import StreamSettings, choose_serial, list_devices
from harmowam_bringup.cameras.lens import Lens, disagreement
from harmowam_bringup.cameras.streaming import Frame, StreamingCamera
from harmowam_bringup.dds import expect_large_images
from harmowam_core import messages, topics
from harmowam_core.cell import load_cell
from harmowam_core.health import Level
from harmowam_core.lifecycle import ManagedNode, run
from harmowam_core.qos import SENSOR

COUNTS_PERIOD_S = 0.5


class CameraNode(ManagedNode):
    """Publishes what the cell's cameras see. ``context``: librealsense's, given by tests."""

    def __init__(self, context: Any = None) -> None:
        self._given_devices = context
        super().__init__("cameras")

    def declare(self) -> None:
        """The cell's cameras, and how to stream."""
        d = StreamSettings()
        self.parameter(
            "cell", "franka_dual", "Cell profile by name, or path of a profile; it has the cameras' serial numbers.", read_only=True
        )
        self.parameter("cameras", [""], "Cameras of the cell to start; empty: all.", read_only=True)
        self.parameter("serials", [""], "Serial numbers instead of the profile's, in the order of `cameras`.", read_only=True)
        self.parameter("width", d.width, "Pixels of a row.", lower=64, upper=3840, read_only=True)
        self.parameter("height", d.height, "Rows.", lower=48, upper=2160, read_only=True)
        self.parameter("rate", d.rate_hz, "Images a second.", lower=1, upper=90, read_only=True)
        self.parameter("depth", d.depth, "Publish depth aligned to colour as well.", read_only=True)
        self.parameter("exposure_us", d.exposure_us, "Exposure of colour, us; 0: automatic.", lower=0, upper=1_000_000, read_only=True)
        self.parameter("white_balance_k", d.white_balance_k, "White balance, K; 0: automatic.", lower=0, upper=10_000, read_only=True)

    def configure(self) -> None:
        """Find the devices; nothing streams yet. Errors name what is plugged in, and what to do."""
        cell = load_cell(self._value("cell"))
        names = [name for name in self._value("cameras") if name] or [camera.name for camera in cell.cameras]
        serials = [serial for serial in self._value("serials") if serial] or [cell.camera(name).serial or "" for name in names]
        if len(serials) != len(names) or len(set(serials) - {""}) != len([serial for serial in serials if serial]):
            raise ValueError(f"serials are {serials}, expected {len(names)} different ones, one for each of {names}")
        settings = ("width", "height", "rate", "depth", "exposure_us", "white_balance_k")
        self._settings = StreamSettings(*(self._value(name) for name in settings))
        self._profiles = {name: cell.camera(name) for name in names}
        self._devices = self._given_devices if self._given_devices is not None else rs.context()
        connected = list_devices(self._devices)
        self._serials = {name: choose_serial(name, serial, connected, len(names)) for name, serial in zip(names, serials, strict=True)}
        self._images = {name: self.create_lifecycle_publisher(Image, topics.camera_image(name), SENSOR) for name in names}
        self._infos = {name: self.create_lifecycle_publisher(CameraInfo, topics.camera_info(name), SENSOR) for name in names}
        self._depths = {
            name: self.create_lifecycle_publisher(Image, topics.camera_depth(name), SENSOR) for name in names if self._settings.depth
        }
        self._depth_infos = {
            name: self.create_lifecycle_publisher(CameraInfo, topics.camera_depth_info(name), SENSOR) for name in self._depths
        }

    def activate(self) -> None:
        """Stream."""
        self._streams: dict[str, StreamingCamera] = {}
        try:
            for name, serial in self._serials.items():
                deliver, trouble = partial(self._publish, name), partial(self._trouble, name)
                stream = StreamingCamera(self._devices, serial, self._settings, deliver, trouble, self.now_ns)
                self._streams[name] = stream
                if problem := disagreement(self._profiles[name], stream.lens):
                    self.get_logger().warning(problem)
                    self.health.fault(f"{name} calibration", problem, Level.WARN)
                s = self._settings
                self.get_logger().info(f"camera '{name}' is device {serial}: {s.width}x{s.height}@{s.rate_hz}")
            self.create_timer(COUNTS_PERIOD_S, self._report)
        except Exception:
            self.deactivate()
            raise

    def deactivate(self) -> None:
        """Stop streaming."""
        for name, stream in self._streams.items():
            stream.close()
            self.health.clear(name)
            self.health.clear(f"{name} calibration")
        self._streams = {}

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _publish(self, name: str, frame: Frame, stamp_ns: int, lens: Lens) -> None:
        """Called in the camera's thread."""
        started_s = time.perf_counter()
        optical = messages.optical_frame(name)
        info = messages.camera_info(name, lens.size, lens.k, lens.d, stamp_ns)
        self._images[name].publish(messages.image_to_message(frame.color, stamp_ns, optical))
        self._infos[name].publish(info)
        if frame.depth_mm is not None:
            self._depths[name].publish(messages.depth_to_message(frame.depth_mm, stamp_ns, optical))
            self._depth_infos[name].publish(info)
        self.health.event(f"{name} image")
        self.health.latency(f"{name} publishing", time.perf_counter() - started_s)

    def _trouble(self, name: str, text: str) -> None:
        """Called in the camera's thread; an empty text means that the camera is back."""
        if text:
            self.get_logger().error(f"camera '{name}': {text}")
            self.health.fault(name, text)
        else:
            self.get_logger().info(f"camera '{name}' streams again")
            self.health.clear(name)

    def _report(self) -> None:
        for name, stream in self._streams.items():
            counts = stream.counts
            self.health.value(f"{name} frames", counts.frames)
            self.health.value(f"{name} dropped", counts.dropped)
            self.health.value(f"{name} reopened", counts.reopened)


def main() -> None:
    """Run the node."""
    expect_large_images()
    run(CameraNode)


if __name__ == "__main__":
    main()
