"""Which cameras still see: pictures that stopped, and pictures that keep coming but do not change though the arms move."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harmowam_core.cell import Cell

Float64 = NDArray[np.float64]


@dataclass
class _Seen:
    """A camera's last picture, and since when its pixels are the same; tools (A, 3): where they were then, None until that is known."""

    stamp_ns: int
    digest: int
    since_ns: int
    tools: Float64 | None = None


class ImageWatch:
    """Cameras count from their first picture on. Times ns."""

    def __init__(self, cell: Cell) -> None:
        everyone = tuple(range(len(cell.arms)))
        self._sees = {c.name: everyone if c.mounted_on is None else (cell.arm_names.index(c.mounted_on),) for c in cell.cameras}
        self._seen: dict[str, _Seen] = {}
        self._tools: Float64 | None = None

    def on_tools(self, stamp_ns: int, tools: Float64) -> None:
        """Where the tools (A, 3) are measured to be, m.

        A picture counts for the first place measured after it was taken: of a place from before, an arm that has come to rest meanwhile
        would seem to have moved for ever, under a picture that has no reason to change.
        """
        self._tools = tools
        for seen in self._seen.values():
            if seen.tools is None and stamp_ns >= seen.since_ns:
                seen.tools = tools

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

    def frozen_s(self, moved_m: float) -> dict[str, float]:
        """How long each camera's fresh pictures have been the same though a tool it sees has moved by ``moved_m``; else 0."""
        return {camera: self._unchanged_s(camera, seen, moved_m) for camera, seen in self._seen.items()}

    def _unchanged_s(self, camera: str, seen: _Seen, moved_m: float) -> float:
        if seen.tools is None or self._tools is None:
            return 0.0
        way_m = np.linalg.norm(self._tools - seen.tools, axis=-1)[list(self._sees[camera])].max()
        return (seen.stamp_ns - seen.since_ns) * 1e-9 if way_m >= moved_m else 0.0
