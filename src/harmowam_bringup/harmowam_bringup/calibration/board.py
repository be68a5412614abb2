"""The ChArUco board: printed at true scale, and found in images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

DICTIONARY = cv2.aruco.DICT_4X4_100
MARKER_SHARE = 0.75  # of a square's side
MARGIN_SQUARES = 0.5
MIN_CORNERS = 8
PAPERS_M = {"A4": (0.297, 0.210), "A3": (0.420, 0.297), "A2": (0.594, 0.420), "A1": (0.841, 0.594)}


@dataclass(frozen=True)
class Board:
    """``columns`` x ``rows`` squares of ``square_m``; its frame: origin at a corner of the pattern, x along columns, y along rows."""

    columns: int = 9
    rows: int = 6
    square_m: float = 0.028

    def __post_init__(self) -> None:
        if not (self.columns >= 3 and self.rows >= 3 and self.columns * self.rows // 2 <= 100):
            raise ValueError(f"a board of {self.columns}x{self.rows} squares: expected at least 3x3 and at most 200 squares")
        if not 0.005 <= self.square_m <= 0.2:
            raise ValueError(f"squares of {self.square_m * 1e3:g} mm: expected 5 to 200 mm")

    @property
    def size_m(self) -> tuple[float, float]:
        """Width and height of the pattern."""
        return self.columns * self.square_m, self.rows * self.square_m

    def charuco(self) -> cv2.aruco.CharucoBoard:
        """As OpenCV knows it."""
        dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARY)
        return cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.square_m * MARKER_SHARE, dictionary)

    def picture(self, square_px: int) -> NDArray[np.uint8]:
        """(H, W) uint8 of the pattern with a white margin of half a square around it."""
        margin = round(MARGIN_SQUARES * square_px)
        pattern = self.charuco().generateImage((self.columns * square_px, self.rows * square_px))
        return np.asarray(cv2.copyMakeBorder(pattern, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=255), np.uint8)


class BoardFinder:
    """Finds the board's inner corners in images."""

    def __init__(self, board: Board) -> None:
        self._detector = cv2.aruco.CharucoDetector(board.charuco())
        self._corners = board.charuco().getChessboardCorners()

    def find(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """RGB or grey image to corners: pixels (N, 2), counted from the first pixel's centre, and board points (N, 3), m; None: too few."""
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        corners, ids, _, _ = self._detector.detectBoard(grey)
        if ids is None or len(ids) < MIN_CORNERS:
            return None
        points = np.asarray(self._corners, np.float64)[np.ravel(ids)]
        if min(np.ptp(points[:, 0]), np.ptp(points[:, 1])) == 0:
            return None  # all on one line
        return np.asarray(corners, np.float64).reshape(-1, 2), points


def print_board(board: Board, path: Path) -> str:
    """Write the board to a .pdf or .png at true scale; returns what to know when printing. ValueError for other files."""
    from PIL import Image

    if path.suffix not in (".pdf", ".png"):
        raise ValueError(f"{path} is neither .pdf nor .png")
    per_m = 10_000 if board.square_m <= 0.1 else 5_000  # pixels; a whole number a millimetre, so that squares are exact
    square_px = round(board.square_m * per_m)
    dpi = square_px / board.square_m * 0.0254
    picture = board.picture(square_px)
    size_m = tuple(side * board.square_m / square_px for side in picture.shape[::-1])
    Image.fromarray(picture).convert("1").save(path, resolution=dpi, dpi=(dpi, dpi))
    paper = next((name for name, sides in PAPERS_M.items() if max(size_m) <= max(sides) and min(size_m) <= min(sides)), "a plotter")
    width_mm, height_mm = (1e3 * side for side in board.size_m)
    return (
        f"{path}: {board.columns}x{board.rows} squares of {board.square_m * 1e3:g} mm, fits {paper}; print at 100 % ('actual size'), "
        f"then measure: the pattern must be {width_mm:.1f} x {height_mm:.1f} mm; glue it onto something flat"
    )
