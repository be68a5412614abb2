"""The solids that stand for a robot's links: from its file in harmowam_core/config/solids."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal

import coal
import numpy as np
import pinocchio as pin
import yaml
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from harmowam_core.cell import CELLS_DIR, Box, Cell
from harmowam_core.kinematics import resolve_urdf
from harmowam_core.robot import Strict, Vector3

Float64 = NDArray[np.float64]
SOLIDS_DIR = CELLS_DIR.parent / "solids"


class CapsuleSolid(Strict):
    """All points within ``radius`` of a line."""

    kind: Literal["capsule"]
    start: Vector3 = Field(alias="from")
    end: Vector3 = Field(alias="to")
    radius: float = Field(gt=0)

    def shape(self) -> tuple[coal.CollisionGeometry, pin.SE3]:
        """The geometry and where it sits in its frame."""
        along = np.subtract(self.end, self.start)
        length = float(np.linalg.norm(along))
        turn = pin.Quaternion.FromTwoVectors(np.array([0.0, 0.0, 1.0]), along)
        return coal.Capsule(self.radius, length), pin.SE3(turn, (np.array(self.start) + self.end) / 2)

    def corners(self) -> tuple[Float64, float]:
        """(2, 3) and a radius: the solid is all points that near to their hull."""
        return np.array([self.start, self.end]), self.radius


class BoxSolid(Box):
    """A box along its frame's axes."""

    kind: Literal["box"]

    def shape(self) -> tuple[coal.CollisionGeometry, pin.SE3]:
        """The geometry and where it sits in its frame."""
        size = np.subtract(self.upper, self.lower)
        return coal.Box(*size), pin.SE3(np.eye(3), (np.array(self.lower) + self.upper) / 2)

    def corners(self) -> tuple[Float64, float]:
        """(8, 3) and no radius: the solid is their hull."""
        return np.array(list(product(*zip(self.lower, self.upper, strict=True)))), 0.0


Solid = Annotated[CapsuleSolid | BoxSolid, Field(discriminator="kind")]
_FILE = TypeAdapter(dict[str, tuple[Solid, ...]])


def load_solids(cell: Cell) -> dict[str, tuple[Solid, ...]]:
    """Link name (or ``tcp``, the tool) to its solids, for the robot of this cell.

    FileNotFoundError where nobody has described it yet; ValueError names the file and what is wrong in it.
    """
    path = SOLIDS_DIR / f"{resolve_urdf(cell.urdf).stem}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"no solids for the robot of cell '{cell.name}': describe its links in {path}, see fr3.yaml there")
    try:
        return _FILE.validate_python(yaml.safe_load(path.read_text()))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"solids {path}: {error}") from error
