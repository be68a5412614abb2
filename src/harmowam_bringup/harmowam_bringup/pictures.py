"""Picks pictures out of a recording: what was seen at a moment, and what had been imagined for it."""

from __future__ import annotations

import base64
import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image

from harmowam_bringup.recording import Picture, Received, Recording
from harmowam_core.images import prepare_image
from harmowam_core.stages import Imagination, UInt8

T = TypeVar("T")

STRIP_FRAMES = (0, 3, 6, 9, 12)
"""Frames of an imagination that are shown."""


def nearest(pictures: Sequence[Received[Picture]], stamp_ns: int) -> Picture:
    """The picture taken closest to a time; pictures are in order and not empty."""
    index = bisect_left(pictures, stamp_ns, key=lambda item: item.value.stamp_ns)
    around = pictures[max(0, index - 1) : index + 1]
    return min((item.value for item in around), key=lambda picture: abs(picture.stamp_ns - stamp_ns))


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Up to ``count`` of the items, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


@dataclass(frozen=True)
class Comparison:
    """One imagination beside what the scene camera saw at the same moments, frames at the model's size.

    imagined, came: (K, H, W, 3) uint8 for STRIP_FRAMES; error: mean absolute difference of the last pair, in [0, 255].
    """

    stamp_ns: int
    imagined: UInt8
    came: UInt8
    error: float


def compare(imagination: Imagination, scene: Sequence[Received[Picture]]) -> Comparison:
    """Pair the shown frames of an imagination with the recorded scene images."""
    shown = [k for k in STRIP_FRAMES if k < len(imagination.frames)]
    size = imagination.frames.shape[1:3]
    stamps = [imagination.stamp_ns + round(k * imagination.frame_period_s * 1e9) for k in shown]
    came = np.stack([prepare_image(nearest(scene, stamp).image, size) for stamp in stamps])
    imagined = imagination.frames[shown]
    error = float(np.abs(imagined[-1].astype(np.int16) - came[-1].astype(np.int16)).mean())
    return Comparison(imagination.stamp_ns, imagined, came, error)


def comparisons(recording: Recording, count: int) -> list[Comparison]:
    """Up to ``count`` of them, evenly spread over the imaginations whose whole future was seen."""
    scene = recording.pictures.get("scene", [])
    if not scene:
        return []
    last_ns = scene[-1].value.stamp_ns
    whole = [
        item.value
        for item in recording.imaginations
        if item.value.stamp_ns + (len(item.value.frames) - 1) * item.value.frame_period_s * 1e9 <= last_ns
    ]
    return [compare(imagination, scene) for imagination in evenly(whole, count)]


def data_uri(image: UInt8, scale: int = 1) -> str:
    """(H, W, 3) uint8 as a PNG inside a ``data:`` address, enlarged ``scale`` times without smoothing."""
    picture = Image.fromarray(image)
    buffer = io.BytesIO()
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
