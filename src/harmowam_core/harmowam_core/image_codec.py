"""Pixels of a sensor_msgs/Image in its own encoding: by cv_bridge where it is installed and agrees with our decoder, else by ours.

The two are compared once, for each encoding and byte order apart.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from harmowam_core.stages import StageError

ENCODINGS: dict[str, tuple[str, int]] = {
    "rgb8": ("u1", 3),
    "bgr8": ("u1", 3),
    "rgba8": ("u1", 4),
    "bgra8": ("u1", 4),
    "mono8": ("u1", 1),
    "16UC1": ("u2", 1),
    "32FC1": ("f4", 1),
}
"""Encoding to the type of a value and the values a pixel has."""
_Kind = tuple[str, bool]
"""Encoding, big-endian."""


def pixels(message: Image) -> NDArray[Any]:
    """(H, W) or (H, W, C) in the message's encoding and native byte order; it may share the message's memory.

    ``is_bigendian`` is about values of several bytes; rows may be padded. StageError names what is malformed.
    """
    pixel_bytes = _check(message)
    bridge = _bridge()[0].get(_kind(message))
    # cv_bridge reads a row as whole pixels; other paddings are ours alone.
    if bridge is not None and message.step % pixel_bytes == 0:
        return np.asarray(bridge(message))
    return _decode(message)


def decoder_in_use() -> str:
    """What decodes, for the log: cv_bridge, or our decoder, for what, and why."""
    admitted, refused = _bridge()
    if not refused:
        return "cv_bridge"
    why = next(iter(refused.values()))
    if not admitted:
        return f"harmowam_core ({why})"
    ours = ", ".join(f"{encoding} {'big' if bigendian else 'little'}-endian" for encoding, bigendian in refused)
    return f"cv_bridge, and by harmowam_core for {ours} ({why})"


def _kind(message: Image) -> _Kind:
    return message.encoding, bool(message.is_bigendian)


def _check(message: Image) -> int:
    if message.encoding not in ENCODINGS:
        raise StageError(f"image.encoding is '{message.encoding}', expected one of {sorted(ENCODINGS)}")
    value, channels = ENCODINGS[message.encoding]
    pixel_bytes = np.dtype(value).itemsize * channels
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0:
        raise StageError(f"image is {width}x{height}, expected at least one pixel")
    if step < width * pixel_bytes:
        raise StageError(f"image.step is {step}, expected at least {width * pixel_bytes} for {width} {message.encoding} pixels")
    if len(message.data) != height * step:
        raise StageError(f"image.data has {len(message.data)} bytes, expected {height * step} for {height} rows of {step}")
    return pixel_bytes


def _decode(message: Image) -> NDArray[Any]:
    name, channels = ENCODINGS[message.encoding]
    dtype = np.dtype(name).newbyteorder(">" if message.is_bigendian else "<")
    shape = (message.height, message.width, channels)
    strides = (message.step, dtype.itemsize * channels, dtype.itemsize)
    values: NDArray[Any] = np.ndarray(shape, dtype, message.data, strides=strides)
    return (values[:, :, 0] if channels == 1 else values).astype(dtype.newbyteorder("="), copy=False)


def samples() -> list[Image]:
    """Small messages of every encoding and byte order, with and without padding to whole pixels."""
    random = np.random.default_rng(0)
    found = []
    for encoding, (name, channels) in ENCODINGS.items():
        for bigendian in (False, True):
            for padding in (0, 2):
                dtype = np.dtype(name).newbyteorder(">" if bigendian else "<")
                values = random.integers(0, 256 if name == "u1" else 60_000, (3, 4 + padding, channels)).astype(dtype)
                step = (4 + padding) * channels * dtype.itemsize
                found.append(
                    Image(height=3, width=4, encoding=encoding, is_bigendian=bigendian, step=step, data=array("B", values.tobytes()))
                )
    return found


@cache
def _bridge() -> tuple[dict[_Kind, Callable[[Image], NDArray[Any]]], dict[_Kind, str]]:
    """cv_bridge's decoder for every encoding and byte order of which it gives what ours gives; and why not, for the others."""
    kinds = dict.fromkeys(map(_kind, samples()))
    try:
        from cv_bridge import CvBridge

        decode = CvBridge().imgmsg_to_cv2
    except Exception as error:  # the ROS 1 package of that name, or one built for another NumPy, fails in many ways
        absent = isinstance(error, ModuleNotFoundError)
        return {}, dict.fromkeys(kinds, "cv_bridge is not installed" if absent else f"cv_bridge does not load: {error}")
    refused: dict[_Kind, str] = {}
    for message in samples():
        kind = _kind(message)
        what = f"{message.encoding}, big-endian {message.is_bigendian}, step {message.step}"
        try:
            theirs = np.asarray(decode(message, "passthrough"))
        except Exception as error:
            refused.setdefault(kind, f"cv_bridge fails on {what}: {error}")
            continue
        ours = _decode(message)
        if theirs.shape != ours.shape or theirs.dtype.kind != ours.dtype.kind or not np.array_equal(theirs, ours):
            refused.setdefault(kind, f"cv_bridge decodes {what} differently")
    return {kind: lambda message: np.asarray(decode(message, "passthrough")) for kind in kinds if kind not in refused}, refused
