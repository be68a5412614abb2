"""Which cameras still see: pictures that stopped, and pictures that keep coming but do not change though the arms move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell

Float64 = NDArray[np.float64]


@dataclass
class _Seen:
    """A camera's last picture, and since when its pixels are the same; tools (A, 3): where they were then, None until that is known.

    left_ns: since when one of them is elsewhere.
    """

    stamp_ns: int
    digest: int
    since_ns: int
    tools: Float64 | None = None
    left_ns: int | None = None


class ImageWatch:
    """Cameras count from their first picture on. Times ns."""

    def __init__(self, cell: Cell) -> None:
        everyone = tuple(range(len(cell.arms)))
        self._sees = {c.name: everyone if c.mounted_on is None else (cell.arm_names.index(c.mounted_on),) for c in cell.cameras}
        self._seen: dict[str, _Seen] = {}

    def on_tools(self, stamp_ns: int, tools: Float64, moved_m: float) -> None:
        """Where the tools (A, 3) are measured to be, m; moved by ``moved_m``, a picture of them changes.

        A picture counts for the first place measured after it was taken: of a place from before, an arm that has come to rest meanwhile
        would seem to have moved for ever, under a picture that has no reason to change.
        """
        for camera, seen in self._seen.items():
            if seen.tools is None:
                seen.tools = tools if stamp_ns >= seen.since_ns else None
            elif np.linalg.norm(tools - seen.tools, axis=-1)[list(self._sees[camera])].max() < moved_m:
                seen.left_ns = None
            elif seen.left_ns is None:
                seen.left_ns = stamp_ns

    def on_image(self, camera: str, stamp_ns: int, digest: int) -> None:
        """A picture; ``digest`` of its pixels. KeyError for a camera that the cell hasn't."""
        seen = self._seen.get(camera)
        if seen is None or digest != seen.digest:
            self._sees[camera]  # KeyError
            self._seen[camera] = _Seen(stamp_ns, digest, stamp_ns)
            return
        seen.stamp_ns = max(stamp_ns, seen.stamp_ns)

    def ages_s(self, now_ns: int) -> dict[str, float]:
        """Of each camera's last picture."""
        return {camera: (now_ns - seen.stamp_ns) * 1e-9 for camera, seen in self._seen.items()}

    def frozen_s(self) -> dict[str, float]:
        """How long each camera's fresh pictures have been the same since a tool it sees had moved; else 0.

        By the pictures' stamps: the last one of an arm at rest shows nothing of a motion that has just begun.
        """
        return {camera: 0.0 if seen.left_ns is None else max(seen.stamp_ns - seen.left_ns, 0) * 1e-9 for camera, seen in self._seen.items()}
