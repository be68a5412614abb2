"""From pictures to a calibrated camera and its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harmowam_bringup.calibration.board import Board, BoardFinder
from harmowam_bringup.calibration.hand_eye import MIN_VIEWS, Solution, View, solve
from harmowam_bringup.calibration.intrinsics import LensCheck, check_lens, fit_lens
from harmowam_bringup.calibration.recordings import Picture
from harmowam_bringup.cameras.lens import Lens

DOUBTFUL_SIGMA_MM, DOUBTFUL_SIGMA_DEG = 2.0, 0.2


@dataclass(frozen=True)
class Result:
    """A solved calibration. ``intrinsics``: given or fitted; ``without_board``: pictures in which it was not found."""

    solution: Solution
    lens: Lens
    intrinsics: Literal["given", "fitted"]
    check: LensCheck
    without_board: tuple[str, ...]

    @property
    def doubt(self) -> str:
        """Why the result should not be trusted; empty if it may."""
        doubts = [self.check.doubt] if self.intrinsics == "given" else []
        s = self.solution
        if s.sigma_mm > DOUBTFUL_SIGMA_MM or s.sigma_deg > DOUBTFUL_SIGMA_DEG:
            doubts.append("the views do not determine the camera well; record more of them, nearer and with more varied orientations")
        return "; ".join(filter(None, doubts))

    def to_json(self) -> dict[str, Any]:
        """The report, for machines."""
        s = self.solution
        return {
            "used": sum(not residual.outlier for residual in s.residuals),
            "rms_px": s.rms_px,
            "sigma_mm": s.sigma_mm,
            "sigma_deg": s.sigma_deg,
            "poses": [dataclasses.asdict(residual) for residual in s.residuals],
            "outliers": [residual.name for residual in s.residuals if residual.outlier],
            "without_board": list(self.without_board),
            "intrinsics": self.intrinsics,
            "intrinsics_check": {
                "given_px": self.check.given_px,
                "fitted_px": self.check.fitted_px,
                "fitted_fx": self.check.fitted.k[0, 0],
            },
            "doubt": self.doubt,
        }


def calibrate(
    kind: Literal["wrist", "scene"],
    pictures: Sequence[Picture],
    lens: Lens | None,
    board: Board,
    fitted: bool,
    progress: Callable[[Sequence[Picture]], Iterable[Picture]] = iter,
) -> Result:
    """Find the board, check the lens, solve. ``lens``: as the device says; None or ``fitted``: from the views.

    ``progress`` may show how far the search is. ValueError says what the pictures lack.
    """
    finder = BoardFinder(board)
    views: list[View] = []
    without: list[str] = []
    size = pictures[0].image.shape[:2] if pictures else (0, 0)
    for picture in progress(pictures):
        if picture.image.shape[:2] != size or (lens is not None and size != lens.size):
            expected = size if lens is None else lens.size
            raise ValueError(
                f"image {picture.name} is {picture.image.shape[:2]}, expected {expected} (height, width) as the others and camera_info"
            )
        found = finder.find(picture.image)
        if found is None:
            without.append(picture.name)
            continue
        a = np.asarray(np.linalg.inv(picture.tool), np.float64) if kind == "wrist" else picture.tool
        views.append(View(picture.name, *found, a))
    if len(views) < MIN_VIEWS:
        raise ValueError(
            f"the board ({board.columns}x{board.rows}) was found in {len(views)} of {len(pictures)} still pictures, "
            f"expected at least {MIN_VIEWS}; is it the printed one, wholly visible, well lit, "
            "and does the arm rest for a second in each pose?"
        )
    used = fit_lens(views, (size[0], size[1]))[0] if fitted or lens is None else lens
    return Result(solve(views, used), used, "fitted" if used is not lens else "given", check_lens(views, used), tuple(without))
