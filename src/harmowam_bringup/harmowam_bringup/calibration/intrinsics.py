"""The lens that the board's views tell, beside the one that the device claims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from harmowam_bringup.calibration.hand_eye import View, board_pose, rms_px
from harmowam_bringup.cameras.lens import Lens

DOUBTFUL_RATIO, DOUBTFUL_PX = 1.5, 0.3


@dataclass(frozen=True)
class LensCheck:
    """rms reprojection of single views, px: with the given lens, and with the one fitted to the views."""

    given_px: float
    fitted_px: float
    fitted: Lens

    @property
    def doubt(self) -> str:
        """Why the given lens should not be believed; empty if it may."""
        if self.given_px <= max(DOUBTFUL_RATIO * self.fitted_px, DOUBTFUL_PX):
            return ""
        return f"the given lens leaves {self.given_px:.2f} px, one fitted to the views {self.fitted_px:.2f} px; use --intrinsics fitted"


def fit_lens(views: Sequence[View], size: tuple[int, int], guess: Lens | None = None) -> tuple[Lens, float]:
    """The plumb_bob lens of least reprojection error over the views, and that error, rms px."""
    points = [view.points.astype(np.float32) for view in views]
    pixels = [view.pixels.astype(np.float32) for view in views]
    begun = cv2.initCameraMatrix2D(points, pixels, size[::-1]) if guess is None else guess.k.copy()
    d = np.zeros(5) if guess is None or len(guess.d) != 5 else guess.d.copy()
    # k3 needs corners at the very edge of the image, which few recordings have.
    rms, k, bent, _, _ = cv2.calibrateCamera(points, pixels, size[::-1], begun, d, flags=cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_K3)
    return Lens(np.asarray(k, np.float64), np.ravel(bent).astype(np.float64), size), float(rms)


def check_lens(views: Sequence[View], lens: Lens) -> LensCheck:
    """Hold a lens to the views."""
    squares = [rms_px(view, lens, board_pose(view, lens)) ** 2 for view in views]
    fitted, fitted_px = fit_lens(views, lens.size, lens)
    return LensCheck(float(np.sqrt(np.average(squares, weights=[len(view.points) for view in views]))), fitted_px, fitted)
