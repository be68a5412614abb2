"""Assembles observations from what arrives one by one: camera images, joint states, the instruction.

Plain Python: nodes feed it from their callbacks (one thread), lock-step evaluation and replay from their loops.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.images import prepare_image
from harmowam_core.stages import Float64, JointState, Observation, StageError, UInt8

if TYPE_CHECKING:
    from harmowam_core.kinematics import Kinematics

T = TypeVar("T")
KEPT_S = 2.0  # an expert may ask for the moment an imagination began, on a slow machine a second ago


class NotReadyError(StageError):
    """An input that the observation needs hasn't come yet, or none near enough in time; the message names it."""


class ObservationAssembler:
    """Keeps the newest inputs and joins those nearest in time.

    sizes: camera name -> (height, width) the models see; these cameras are all required.
    max_skew_s: furthest that an image or joint state may lie from the observation's stamp.
    joint_names: what joint states call the cell's arm and finger joints, in the cell's order; None: as the cell does.
    """

    def __init__(
        self,
        cell: Cell,
        kinematics: Kinematics,
        sizes: Mapping[str, tuple[int, int]],
        *,
        max_skew_s: float = 0.1,
        joint_names: Sequence[str] | None = None,
    ) -> None:
        for camera in sizes:
            cell.camera(camera)  # KeyError names the cameras there are
        if not max_skew_s > 0:
            raise ValueError(f"max_skew_s is {max_skew_s}, expected > 0")
        self._cell = cell
        self._kinematics = kinematics
        self._sizes = dict(sizes)
        self._max_skew_s = max_skew_s
        self._images: dict[str, deque[tuple[int, UInt8]]] = {camera: deque() for camera in sizes}
        self._joints: deque[tuple[int, JointState]] = deque()
        self._names = tuple(joint_names or cell.arm_joint_names + cell.finger_joint_names)
        self._instruction = ""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Cameras an observation needs."""
        return tuple(self._sizes)

    def clear(self) -> None:
        """Forget all images and joint states (not the instruction): time has jumped, or another episode begins."""
        for images in self._images.values():
            images.clear()
        self._joints.clear()

    def set_instruction(self, instruction: str) -> None:
        """What the following observations ask for."""
        self._instruction = instruction

    def add_image(self, camera: str, image: UInt8, stamp_ns: int) -> None:
        """A camera's image, (H, W, 3) uint8 RGB; StageError if it is smaller than the models' size."""
        if camera not in self._images:
            raise KeyError(f"no camera '{camera}' in the observation; it has {sorted(self._images)}")
        try:
            prepared = prepare_image(image, self._sizes[camera])
        except ValueError as error:
            raise StageError(f"camera '{camera}': {error}") from error
        _keep(self._images[camera], stamp_ns, prepared)

    def add_joint_state(self, state: JointState) -> None:
        """Measured joints; StageError if an arm's or finger's joint is missing."""
        missing = [name for name in self._names if name not in state.names]
        if missing:
            raise StageError(f"joint state lacks {missing}; it has {list(state.names)}")
        _keep(self._joints, state.stamp_ns, state)

    def joints_at(self, stamp_ns: int) -> Float64:
        """Joint positions nearest to ``stamp_ns``, (arm joints + fingers,), rad and m, in the cell's order; errors as of ``assemble``."""
        joints = self._nearest("joint state", self._joints, stamp_ns)
        return joints.positions[[joints.names.index(name) for name in self._names]]

    def covers(self, stamp_ns: int) -> bool:
        """Whether every input has something of this moment or later, so that nothing nearer is still to come."""
        if not self._joints or not all(self._images.values()):
            return False
        return min(self._joints[-1][0], *(kept[-1][0] for kept in self._images.values())) >= stamp_ns

    def assemble(self, stamp_ns: int) -> Observation:
        """The observation at ``stamp_ns`` (usually the scene image's); NotReadyError names what is missing or too far off in time."""
        images = {camera: self._nearest(f"image of camera '{camera}'", kept, stamp_ns) for camera, kept in self._images.items()}
        ordered = self.joints_at(stamp_ns)
        arms = len(self._cell.arms)
        positions, orientations = self._kinematics.forward(ordered[:-arms])
        # A finger pressed onto its stop reads slightly beyond its travel.
        gripper = np.clip(ordered[-arms:] / self._cell.finger_travel, 0.0, 1.0)
        return Observation(
            stamp_ns, images, positions.astype(np.float32), orientations.astype(np.float32), gripper.astype(np.float32), self._instruction
        )

    def _nearest(self, what: str, kept: deque[tuple[int, T]], stamp_ns: int) -> T:
        if not kept:
            raise NotReadyError(f"no {what} yet; is its publisher up?")
        best = min(kept, key=lambda entry: abs(entry[0] - stamp_ns))
        skew_s = abs(best[0] - stamp_ns) * 1e-9
        if not skew_s <= self._max_skew_s:
            raise NotReadyError(
                f"the nearest {what} is {skew_s:.3f} s off the observation's stamp, at most {self._max_skew_s} s is allowed"
            )
        return best[1]


def _keep(kept: deque[tuple[int, T]], stamp_ns: int, value: T) -> None:
    """Add the newest and drop what is too old to be asked for, or of a clock that was set back since."""
    kept.append((stamp_ns, value))
    while abs(kept[0][0] - stamp_ns) > KEPT_S * 1e9:
        kept.popleft()
