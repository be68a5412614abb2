"""A camera that keeps streaming: opened again whenever it was unplugged or fell silent. Plain Python, a thread a camera."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

from harmowam_bringup.cameras.device_clock import DeviceClock
from harmowam_bringup.cameras.devices import ColorCamera, Frame, StreamSettings
from harmowam_bringup.cameras.lens import Lens

POLL_S = 0.4
"""How often a camera that is away is looked for; opening one takes about a second on USB."""
SILENCE_S = 1.0
FIRST_FRAME_S = 5.0
"""So long without a frame, and a camera is taken for gone: while it streams, and after it was opened."""


@dataclass
class Counts:
    """What a camera has been through. ``dropped``: frames whose numbers were never seen."""

    frames: int = 0
    dropped: int = 0
    reopened: int = 0
    last_number: int | None = field(default=None, repr=False)

    def see(self, number: int) -> None:
        """Count a frame by its number; one that is not larger than the last begins a new count."""
        if self.last_number is not None and number > self.last_number:
            self.dropped += number - self.last_number - 1
        self.last_number = number
        self.frames += 1


class StreamingCamera:
    """Streams in a thread until ``close``.

    on_frame(frame, stamp_ns, lens) gets every frame; on_trouble(text) is called when the camera is gone, with an empty text at its
    first frame thereafter. Both are called in the thread. now_ns: the clock that stamps follow. The first opening happens in the
    constructor, so that a camera that is not there, or settings it cannot do, are the caller's CameraError.
    """

    def __init__(
        self,
        context: Any,
        serial: str,
        settings: StreamSettings,
        on_frame: Callable[[Frame, int, Lens], None],
        on_trouble: Callable[[str], None],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.counts = Counts()
        self._context, self._serial, self._settings = context, serial, settings
        self._on_frame, self._on_trouble, self._now_ns = on_frame, on_trouble, now_ns
        self._clock = DeviceClock()
        self._told = ""
        self._ended = Event()
        camera = ColorCamera(context, serial, settings)
        self.lens = camera.lens
        self._thread = Thread(target=self._run, args=(camera,), name=f"camera {serial}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop streaming and wait for the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self, camera: ColorCamera | None) -> None:
        while not self._ended.is_set():
            if camera is not None:
                self._stream(camera)
            camera = self._reopen()

    def _stream(self, camera: ColorCamera) -> None:
        heard_s, patience_s = time.monotonic(), FIRST_FRAME_S
        try:
            while not self._ended.is_set():
                frame = camera.read(0.1)
                arrival_ns = self._now_ns()
                if frame is not None:
                    heard_s, patience_s = time.monotonic(), max(SILENCE_S, 3 / self._settings.rate_hz)
                    self.counts.see(frame.number)
                    self._on_frame(frame, self._clock.stamp_ns(frame.device_ms, arrival_ns), camera.lens)
                    self._tell("")
                elif time.monotonic() - heard_s > patience_s:
                    self._tell(f"no frame from {self._serial} for {patience_s:.1f} s; is it unplugged? looking for it")
                    return
        except Exception as error:  # librealsense raises RuntimeError when a device goes; nothing may end this thread
            self._tell(f"{self._serial} failed: {type(error).__name__}: {error}; opening it again")
        finally:
            camera.close()

    def _reopen(self) -> ColorCamera | None:
        """Wait for the device to be back; None when ended."""
        while not self._ended.wait(POLL_S):
            try:
                camera = ColorCamera(self._context, self._serial, self._settings)
            except (ValueError, RuntimeError) as error:
                self._tell(str(error))
                continue
            self.counts.reopened += 1
            self.counts.last_number = None
            return camera
        return None

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._on_trouble(text)
