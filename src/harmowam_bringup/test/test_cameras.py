"""Cameras through librealsense's own interface, on software devices: settings, clocks, unplugging, lenses, clear errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import pyrealsense2 as rs
import pytest

from harmowam_bringup.cameras.device_clock import DeviceClock
from harmowam_bringup.cameras.devices import CameraError, ColorCamera, DeviceInfo, StreamSettings, choose_serial, list_devices
from harmowam_bringup.cameras.lens import disagreement, lens_of
from harmowam_bringup.cameras.software import BASELINE_M, FOCAL_PX, Feeder, SoftwareBus, SoftwareCamera, pinhole
from harmowam_bringup.cameras.streaming import Counts, StreamingCamera
from harmowam_core.cell import Calibration, load_cell
from harmowam_core.testing import wait_for

SMALL = StreamSettings(width=160, height=120, rate_hz=30)
MS = 1_000_000


def small(serial: str = "101", **options: object) -> SoftwareCamera:
    return SoftwareCamera(serial, width=160, height=120, **options)


def picture(value: int) -> np.ndarray:
    return np.full((120, 160, 3), value, np.uint8)


@contextmanager
def opened(camera: SoftwareCamera, settings: StreamSettings = SMALL) -> Iterator[ColorCamera]:
    bus = SoftwareBus()
    bus.plug(camera)
    stream = ColorCamera(bus.context, camera.serial, settings)
    yield stream
    stream.close()


# ---- devices ---------------------------------------------------------------------------------------------------------------


def test_lists_devices_by_serial() -> None:
    bus = SoftwareBus()
    cameras = [small("102", usb="2.1"), small("101")]
    for camera in cameras:
        bus.plug(camera)
    assert list_devices(bus.context) == [
        DeviceInfo("101", "Software D435", "3.2", "5.16.0.1"),
        DeviceInfo("102", "Software D435", "2.1", "5.16.0.1"),
    ]
    bus.unplug(cameras[1])
    assert [device.serial for device in list_devices(bus.context)] == ["102"]


def test_frames_come_as_they_were_sent() -> None:
    camera = small()
    with opened(camera) as stream:
        gradient = np.arange(120 * 160 * 3, dtype=np.uint32).astype(np.uint8).reshape(120, 160, 3)
        camera.send(gradient, 12.5)
        frame = stream.read(1.0)
        assert frame is not None and (frame.number, frame.device_ms, frame.depth_mm) == (1, 12.5, None)
        np.testing.assert_array_equal(frame.color, gradient)
        camera.send(picture(9), 45.8)
        assert frame.color[0, 0, 2] == 2  # what was read is ours
        assert stream.read(1.0).number == 2
        assert stream.read(0.02) is None


def test_depth_is_aligned_to_colour() -> None:
    camera = small()
    with opened(camera, StreamSettings(160, 120, 30, depth=True)) as stream:
        depth = np.zeros((120, 160), np.uint16)
        depth[:, 40:80] = 750  # mm
        got = None
        for k in range(5):  # librealsense's syncer takes a few frames to pair streams
            camera.send(picture(k), k * 33.0, depth)
            frame = stream.read(0.5)
            got = frame if frame is not None and frame.depth_mm is not None else got
        assert got is not None and got.depth_mm.dtype == np.uint16 and got.depth_mm.shape == got.color.shape[:2]
        shift_px = round(FOCAL_PX / 4 * BASELINE_M / 0.75)
        assert shift_px == 3
        columns = np.flatnonzero((got.depth_mm == 750).mean(axis=0) > 0.5)
        assert (columns.min(), columns.max()) == (40 + shift_px, 79 + shift_px)
        assert set(np.unique(got.depth_mm)) == {0, 750}


def test_options_are_set_where_the_sensor_has_them() -> None:
    camera = small()
    for name, low, high, value in (("enable_auto_exposure", 0, 1, 1), ("exposure", 1, 10_000, 156), ("white_balance", 2800, 6500, 4600),
                                   ("enable_auto_white_balance", 0, 1, 1), ("global_time_enabled", 0, 1, 1)):  # fmt: skip
        limits = rs.option_range()
        limits.min, limits.max, limits.default, limits.step = low, high, value, 1
        camera.color.add_option(getattr(rs.option, name), limits)
    with opened(camera, StreamSettings(160, 120, 30, exposure_us=8000)):
        options = {
            name: camera.color.get_option(getattr(rs.option, name))
            for name in ("enable_auto_exposure", "exposure", "white_balance", "enable_auto_white_balance", "global_time_enabled")
        }
    assert options == {"enable_auto_exposure": 0, "exposure": 80, "white_balance": 4600, "enable_auto_white_balance": 1,
                       "global_time_enabled": 0}  # fmt: skip
    with (
        pytest.raises(CameraError, match=r"'white_balance' is 9000, the camera takes \[2800, 6500\]"),
        opened(camera, StreamSettings(160, 120, 30, white_balance_k=9000)),
    ):
        pass
    with (
        pytest.raises(CameraError, match="no option 'enable_auto_exposure'; leave it automatic"),
        opened(small("102"), StreamSettings(160, 120, 30, exposure_us=8000)),
    ):
        pass


def test_a_resolution_it_lacks_is_answered_with_those_it_has() -> None:
    with (
        pytest.raises(CameraError, match=r"Software D435 101 does not stream color at 640x480@30; it supports 160x120@30$"),
        opened(small(), StreamSettings()),
    ):
        pass
    with (
        pytest.raises(CameraError, match=r"it is on USB 2\.1, more are supported on a USB 3 port"),
        opened(small(usb="2.1"), StreamSettings()),
    ):
        pass


def test_a_serial_is_chosen_or_asked_for() -> None:
    one, other = DeviceInfo("101", "D435", "3.2", "5"), DeviceInfo("102", "D405", "3.2", "5")
    assert choose_serial("scene", "102", [one, other], 3) == "102"
    assert choose_serial("scene", "", [one], 1) == "101"
    with pytest.raises(CameraError, match=r"no RealSense camera is connected, camera 'scene' needs 7; plug it into a USB 3 port"):
        choose_serial("scene", "7", [], 1)
    with pytest.raises(CameraError, match=r"camera 'scene': no device has serial 7; connected: 101 \(D435\), 102 \(D405\)"):
        choose_serial("scene", "7", [one, other], 1)
    for connected, cameras in (([one, other], 1), ([one], 2)):
        with pytest.raises(CameraError, match="has no serial number; write `serial:` into the cell profile, one of: 101"):
            choose_serial("scene", "", connected, cameras)


def test_colour_and_depth_of_one_sensor() -> None:
    """As on a D405."""
    camera = SoftwareCamera("101", width=160, height=120, one_sensor=True)
    with opened(camera, StreamSettings(160, 120, 30, depth=True)) as stream:
        for k in range(5):
            camera.send(picture(k), k * 33.0, np.full((120, 160), 750, np.uint16))
            frame = stream.read(0.5)
        assert frame is not None and frame.depth_mm is not None and int(frame.color[0, 0, 0]) == frame.number - 1


def test_a_device_in_use_is_named() -> None:
    camera = small()
    with opened(camera) as first:
        bus = SoftwareBus()
        bus.plug(camera)
        with pytest.raises(CameraError, match="device 101 does not start: .*is another program using it"):
            ColorCamera(bus.context, "101", SMALL)
        camera.send(picture(3), 0.0)
        assert first.read(1.0) is not None


# ---- lens ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [rs.distortion.brown_conrady, rs.distortion.inverse_brown_conrady, rs.distortion.modified_brown_conrady])
def test_plumb_bob_sees_as_the_device_says(model: rs.distortion) -> None:
    """Held to librealsense's own geometry: a pixel's ray, projected by OpenCV, is that pixel again."""
    lens = pinhole(640, 480)
    lens.model, lens.coeffs = model, [-0.05, 0.03, 0.001, -0.0007, -0.01]
    ours = lens_of(lens)
    for pixel in ([0.0, 0.0], [600.0, 30.0], [320.0, 450.0], [639.0, 479.0]):
        ray = np.array(rs.rs2_deproject_pixel_to_point(lens, pixel, 1.0))
        back, _ = cv2.projectPoints(ray[None, None], np.zeros(3), np.zeros(3), ours.k, ours.d)
        assert back.ravel() == pytest.approx(pixel, abs=0.1)


def test_fish_eyes_are_refused() -> None:
    lens = pinhole(640, 480)
    lens.model, lens.coeffs = rs.distortion.kannala_brandt4, [0.1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="fish-eyes are not supported"):
        lens_of(lens)


def test_the_profile_and_the_device_must_agree() -> None:
    lens = lens_of(pinhole(640, 480))
    nominal = load_cell().camera("scene")
    assert "nominal values of camera 'scene' alone" in disagreement(nominal, lens)

    def profile(height: int, width: int, focal_px: float):
        calibration = Calibration(fx=focal_px, fy=focal_px, cx=319.5, cy=239.5, position=nominal.position, orientation=(1.0, 0, 0, 0))
        return nominal.model_copy(update={"height": height, "width": width, "calibration": calibration})

    assert disagreement(profile(480, 640, 617.0), lens) == ""
    assert "calibrated at 1280x720, the stream is 640x480" in disagreement(profile(720, 1280, 617.0), lens)
    assert "19.5 pixels off the device's in a corner" in disagreement(profile(480, 640, 645.0), lens)


# ---- clock -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift_ppm", [-80.0, 0.0, 120.0])
def test_stamps_follow_the_capture_despite_jitter_and_drift(drift_ppm: float) -> None:
    """Delays of 4 ms at least, 6 ms on average, one in fifty 30 to 80 ms late; the constant 4 ms cannot be known."""
    rng = np.random.default_rng(1)
    clock, errors, last_ns = DeviceClock(), [], -1
    for k in range(30 * 60):
        capture_ns = 1_700_000_000 * 10**9 + k * 33_333_333
        device_ms = 5e5 + k * 33.333333 * (1 + drift_ppm * 1e-6)
        delay_ms = 4 + rng.exponential(2) + (rng.uniform(30, 80) if rng.random() < 0.02 else 0)
        stamp_ns = clock.stamp_ns(device_ms, capture_ns + round(delay_ms * MS))
        assert stamp_ns > last_ns
        last_ns = stamp_ns
        errors.append((stamp_ns - capture_ns) / MS - 4)
    assert np.abs(errors[60:]).max() < 0.5, "ms, after two seconds"


def test_a_new_device_clock_is_followed_at_once_and_time_never_goes_back() -> None:
    clock = DeviceClock()
    stamps = [clock.stamp_ns(k * 33.0, 10**12 + k * 33 * MS) for k in range(100)]
    again = [clock.stamp_ns(5.0 + k * 33.0, 10**12 + (k + 160) * 33 * MS) for k in range(3)]  # the device counts from zero again
    assert stamps == sorted(set(stamps)) and again[0] == 10**12 + 160 * 33 * MS
    back = [clock.stamp_ns(5.0 + k * 33.0, 10**12 - 10**10 + k * 33 * MS) for k in range(3, 6)]  # our clock was set back by ten seconds
    assert again[-1] < back[0] < back[1] < back[2] and back[2] - again[-1] == 3


def test_late_frames_move_no_clock_and_a_clock_set_forward_is_followed() -> None:
    clock = DeviceClock()
    stamps = [clock.stamp_ns(k * 33.0, 10**12 + k * 33 * MS + (2000 * MS if k == 60 else 0)) for k in range(100)]
    assert np.diff(stamps).tolist() == [33 * MS] * 99  # one came two seconds late
    ahead = [clock.stamp_ns(k * 33.0, 10**13 + k * 33 * MS) for k in range(100, 112)]
    assert ahead[8] == 10**12 + 108 * 33 * MS and ahead[9:] == [10**13 + k * 33 * MS for k in (109, 110, 111)]


# ---- streaming -------------------------------------------------------------------------------------------------------------


def test_missing_numbers_are_dropped_frames() -> None:
    counts = Counts()
    for number in (1, 2, 5, 6, 1, 2):  # 3 and 4 are missing; then the device counts anew
        counts.see(number)
    assert (counts.frames, counts.dropped) == (6, 2)


def test_unplugged_and_plugged_in_again() -> None:
    bus, camera = SoftwareBus(), small()
    bus.plug(camera)
    got: list[tuple[float, int]] = []
    troubles: list[str] = []
    stream = StreamingCamera(bus.context, "101", SMALL, lambda f, stamp_ns, lens: got.append((time.monotonic(), stamp_ns)), troubles.append)
    feeder = Feeder([camera])
    try:
        wait_for(lambda: len(got) > 10, "frames")
        bus.unplug(camera)
        wait_for(lambda: len(troubles) == 2, "loss noticed", 5.0)
        assert "no frame from 101 for 1.0 s; is it unplugged?" in troubles[0] and "no device has serial 101" in troubles[1]
        before = len(got)
        plugged_s = time.monotonic()
        bus.plug(camera)
        wait_for(lambda: len(got) > before, "recovery", 5.0)
        assert got[before][0] - plugged_s <= 2.0
        wait_for(lambda: troubles[-1] == "", "good news")
        assert stream.counts.reopened == 1
        wait_for(lambda: len(got) > before + 10, "more frames")
    finally:
        stream.close()
        feeder.close()
    stamps = [stamp_ns for _, stamp_ns in got]
    assert stamps == sorted(set(stamps))
    assert stream.counts.dropped == 0


def test_a_failing_consumer_is_reported_and_does_not_end_the_stream() -> None:
    bus, camera = SoftwareBus(), small()
    bus.plug(camera)
    fail, troubles, seen = Event(), [], []
    fail.set()

    def consume(frame, stamp_ns, lens) -> None:
        if fail.is_set():
            raise KeyError("publisher")
        seen.append(frame.number)

    stream = StreamingCamera(bus.context, "101", SMALL, consume, troubles.append)
    feeder = Feeder([camera])
    try:
        wait_for(lambda: troubles, "report")
        assert "101 failed: KeyError: 'publisher'; opening it again" in troubles[0]
        fail.clear()
        wait_for(lambda: seen, "frames again")
    finally:
        stream.close()
        feeder.close()


def test_a_recording_plays_back_through_the_same_interface(tmp_path: Path) -> None:
    """librealsense's recorder (.db3 in this version, .bag before) writes what a software device sends; a recording is a device again."""
    camera, path = small(), tmp_path / "recorded.db3"
    bus = SoftwareBus()
    bus.plug(camera)
    device = next(iter(bus.context.query_devices()))
    recorder = rs.recorder(str(path), device)
    sensor = next(s for s in recorder.query_sensors() if s.get_stream_profiles()[0].stream_type() == rs.stream.color)
    queue = rs.frame_queue(50)
    sensor.open(sensor.get_stream_profiles()[0])
    sensor.start(queue)
    for k in range(20):
        camera.send(picture(10 * k), k * 33.0)
        assert queue.try_wait_for_frame(1000)[0]
        time.sleep(0.03)  # played back as fast as it was recorded
    sensor.stop()
    sensor.close()
    recorder.pause()
    del sensor, recorder, queue

    context = rs.context()
    playback = context.load_device(str(path))  # the context alone would not keep it
    stream = ColorCamera(context, "101", SMALL)
    frames = list(iter(lambda: stream.read(1.0), None))
    stream.close()
    assert playback.file_name() == str(path)
    assert len(frames) >= 15  # played in real time: a busy machine may miss some
    assert [(f.number, int(f.color[0, 0, 0])) for f in frames] == [(f.number, 10 * (f.number - 1)) for f in frames]
