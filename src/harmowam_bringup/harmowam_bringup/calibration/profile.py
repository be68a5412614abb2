"""Writing a calibration into a cell profile: comments stay, the old file is kept, the change is shown."""

from __future__ import annotations

import difflib
import io
import os
import shutil
import time
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from scipy.spatial.transform import Rotation

from harmowam_bringup.calibration.hand_eye import Float64
from harmowam_bringup.cameras.lens import Lens
from harmowam_core.cell import CELLS_DIR, Calibration, load_cell


def profile_path(cell: str) -> Path:
    """The file that may be written; ValueError for a profile that ships with the package, which is nobody's cell."""
    path = Path(cell)
    if path.suffix == ".yaml" and path.is_file() and path.resolve().parent != CELLS_DIR.resolve():
        return path
    if path.suffix == ".yaml" and not path.is_file():
        raise FileNotFoundError(f"no cell profile '{path}'")
    source = CELLS_DIR / f"{path.stem}.yaml"
    raise ValueError(f"'{cell}' ships with the package; make it yours: cp {source} my_cell.yaml, and pass --cell my_cell.yaml")


def calibration_of(camera: Float64, lens: Lens) -> Calibration:
    """From the camera's pose (4, 4) in its parent's frame and its lens; micrometres, and 10 microradians."""
    quaternion = Rotation.from_matrix(camera[:3, :3]).as_quat(canonical=True)
    return Calibration(
        fx=_short(lens.k[0, 0], 3),
        fy=_short(lens.k[1, 1], 3),
        cx=_short(lens.k[0, 2], 3),
        cy=_short(lens.k[1, 2], 3),
        distortion_model="plumb_bob" if len(lens.d) == 5 else "rational_polynomial",
        distortion=tuple(_short(value, 7) for value in lens.d),
        position=tuple(_short(value, 6) for value in camera[:3, 3]),
        orientation=tuple(_short(value, 6) for value in quaternion),
    )


def updated(text: str, camera: str, size: tuple[int, int], calibration: Calibration) -> str:
    """A profile's text with a camera's calibration, and the (height, width) it holds for."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    profile = yaml.load(text)
    entry = next(entry for entry in profile["cameras"] if entry["name"] == camera)
    entry["height"], entry["width"] = size
    block = CommentedMap()
    for name, value in calibration.model_dump().items():
        block[name] = CommentedSeq(value) if isinstance(value, tuple) else value
        if isinstance(value, tuple):
            block[name].fa.set_flow_style()
    entry["calibration"] = block
    written = io.StringIO()
    yaml.dump(profile, written)
    return written.getvalue()


def difference(old: str, new: str, path: Path) -> str:
    """What changes, as a unified diff."""
    return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(path), f"{path} (calibrated)", n=2))


def write(path: Path, text: str) -> Path:
    """Replace a profile by ``text`` if that is a valid profile; returns where the old one is kept."""
    backup = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.bak")
    part = path.with_name(f".{path.stem}.{os.getpid()}.yaml")
    part.write_text(text)
    try:
        load_cell(part)
        shutil.copy2(path, backup)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return backup


def _short(value: float, digits: int) -> float:
    return float(np.round(value, digits)) + 0.0  # no minus zero
