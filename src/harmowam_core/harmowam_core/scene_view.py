"""The calibrated scene camera at the size the models see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmowam_core.cell import Camera
from harmowam_core.images import crop_box


@dataclass(frozen=True)
class SceneView:
    """Projection between the base frame (m) and pixels (u right, v down) of a model image of ``size`` (height, width)."""

    camera: Camera
    size: tuple[int, int]

    def _crop(self) -> tuple[tuple[int, int], float]:
        top, left, height, _ = crop_box(self.camera.height, self.camera.width, *self.size)
        return (left, top), self.size[0] / height

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Base-frame points (..., 3), m, to pixels (..., 2)."""
        corner, scale = self._crop()
        return (self.camera.project(np.asarray(points, np.float64)) - corner) * scale

    def unproject(self, pixels: ArrayLike, height_m: ArrayLike) -> NDArray[np.float64]:
        """Pixels (..., 2) and heights above the base plane (...) to base-frame points (..., 3), m."""
        corner, scale = self._crop()
        return self.camera.unproject(np.asarray(pixels, np.float64) / scale + corner, np.asarray(height_m, np.float64))
