"""Forward and inverse kinematics of the cell's arms, by Pinocchio.

Lengths m, angles rad, quaternions xyzw, everything in the cell's base frame. Joint vectors hold all arms one after the
other, ``A * J`` numbers in the order of ``cell.arm_joint_names`` (two Franka arms: 14).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

from .cell import Cell

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

POSITION_TOLERANCE_M = 1e-6
ORIENTATION_TOLERANCE_RAD = 1e-5
_DAMPING = 1e-3  # times the squared error, added to J J^T: bounds far steps near singularities, vanishes at the target
_DAMPING_FLOOR = 1e-10
_POSTURE_GAIN = 0.3  # share of the way to the home posture taken in the null space each iteration
_EYE = np.eye(6)
_STEP_RAD = 0.5  # longest joint move of one iteration, where the linearisation still points the right way


class KinematicsError(ValueError):
    """The robot description is missing or disagrees with the cell profile."""


@dataclass(frozen=True)
class IkResult:
    """Joints q (A*J,) within the position limits, and how far each arm's tool is from its target (A,)."""

    q: Float64
    position_error_m: Float64
    orientation_error_rad: Float64
    converged: Bools


def resolve_urdf(reference: str) -> Path:
    """``package:path`` to the file inside that installed Python package, or a plain path; KinematicsError if missing."""
    package, _, inside = reference.rpartition(":")
    path = Path(inside)
    if package:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise KinematicsError(f"robot description '{reference}' needs the Python package '{package}': pip install it")
        path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.is_file():
        raise KinematicsError(f"robot description '{reference}': no file {path}")
    return path


class Kinematics:
    """The arms of one cell: the same URDF at several bases.

    Not thread-safe: Pinocchio's scratch data is shared between calls.
    """

    def __init__(self, cell: Cell) -> None:
        path = resolve_urdf(cell.urdf)
        try:
            self._model = pin.buildModelFromUrdf(str(path))
        except ValueError as error:
            raise KinematicsError(f"{path} cannot be read: {error}; every revolute joint needs a <limit>") from error
        joints = len(cell.joints)
        if self._model.nq != joints:
            names = list(self._model.names)[1:]
            raise KinematicsError(f"cell '{cell.name}' names {joints} joints; {cell.urdf} has {len(names)}: {names}")
        self._check_names(cell)
        if not self._model.existFrame(cell.tool.flange):
            raise KinematicsError(f"{cell.urdf} has no link '{cell.tool.flange}' to mount the hand on")
        flange = self._model.frames[self._model.getFrameId(cell.tool.flange)]
        mount = pin.XYZQUATToSE3(np.array([*cell.tool.position, *cell.tool.orientation]))
        self._tcp = self._model.addFrame(pin.Frame("tcp", flange.parentJoint, flange.placement * mount, pin.FrameType.OP_FRAME))
        self._data = self._model.createData()
        self._bases = [pin.XYZQUATToSE3(np.array([*arm.base_position, *arm.base_orientation])) for arm in cell.arms]
        self._lower = np.array(cell.limits.position_lower)
        self._upper = np.array(cell.limits.position_upper)
        self._check_limits(cell)
        self._arms, self._joints = len(cell.arms), joints
        self._posture = np.tile(cell.posture, self._arms)  # the redundant joint is drawn to it, from then on to home
        self._home = self._solve_home(cell)
        self._posture = self._home

    def _check_names(self, cell: Cell) -> None:
        """The profile's joints are the description's, in its order; the profile may put a prefix before them."""
        for name, described in zip(cell.joints, list(self._model.names)[1:], strict=True):
            if name != described and not name.endswith(f"_{described}"):
                known = list(self._model.names)[1:]
                raise KinematicsError(f"cell '{cell.name}': joint '{name}' is '{described}' in {cell.urdf}, whose joints are {known}")

    def _check_limits(self, cell: Cell) -> None:
        """The robot's description has limits; the profile may be stricter, never looser."""
        lower, upper, velocity = self._model.lowerPositionLimit, self._model.upperPositionLimit, self._model.velocityLimit
        lacking = ~(np.isfinite(lower) & np.isfinite(upper) & (lower < upper) & np.isfinite(velocity) & (velocity > 0))
        if lacking.any():
            joint = cell.joints[int(lacking.argmax())]
            raise KinematicsError(f"{cell.urdf} has no position and velocity limits for '{joint}'; no motion can be judged without")
        for name, wide in (
            ("position_lower", self._lower < self._model.lowerPositionLimit),
            ("position_upper", self._upper > self._model.upperPositionLimit),
            ("velocity", np.array(cell.limits.velocity) > self._model.velocityLimit),
        ):
            if wide.any():
                joint = cell.joints[int(wide.argmax())]
                raise KinematicsError(f"cell '{cell.name}': limits.{name} of '{joint}' goes beyond the limit in {cell.urdf}; tighten it")

    def _solve_home(self, cell: Cell) -> Float64:
        found = self.inverse(
            np.array([arm.home_tcp_position for arm in cell.arms]),
            np.array([arm.home_tcp_orientation for arm in cell.arms]),
            self._posture,
            max_iterations=500,
        )
        if not found.converged.all():
            stuck = cell.arms[int((~found.converged).argmax())].name
            raise KinematicsError(f"cell '{cell.name}': the home tool pose of arm '{stuck}' is out of its reach; change home_tcp_position")
        return found.q

    @property
    def arm_model(self) -> pin.Model:
        """A copy of one arm's model, at the origin; its frame ``tcp`` is the tool centre point."""
        return self._model.copy()

    def home(self) -> Float64:
        """(A*J,) joints at the cell's home tool poses; always the same."""
        return self._home.copy()

    def forward(self, q: ArrayLike) -> tuple[Float64, Float64]:
        """Joints (A*J,) to tool positions (A, 3) and orientations (A, 4)."""
        poses = [base * self._local_tcp(q_arm) for base, q_arm in zip(self._bases, self._split(q), strict=True)]
        return np.array([pose.translation for pose in poses]), np.array([pin.Quaternion(pose.rotation).coeffs() for pose in poses])

    def jacobian(self, q: ArrayLike) -> Float64:
        """Joints (A*J,) to (A, 6, J): tool velocity (m/s) over angular velocity (rad/s), base axes, per joint rad/s."""
        out = np.empty((self._arms, 6, self._joints))
        for arm, (base, q_arm) in enumerate(zip(self._bases, self._split(q), strict=True)):
            local = pin.computeFrameJacobian(self._model, self._data, q_arm, self._tcp, pin.LOCAL_WORLD_ALIGNED)
            out[arm, :3], out[arm, 3:] = base.rotation @ local[:3], base.rotation @ local[3:]
        return out

    def condition_numbers(self, q: ArrayLike) -> Float64:
        """(A,) largest over smallest singular value of each arm's Jacobian; infinity in a singularity."""
        values = np.linalg.svd(self.jacobian(q), compute_uv=False)
        with np.errstate(divide="ignore"):
            return values[:, 0] / values[:, -1]

    def inverse(
        self, positions: ArrayLike, orientations: ArrayLike, start: ArrayLike, *, max_iterations: int = 30, restarts: int = 0
    ) -> IkResult:
        """Joints that bring the tools to ``positions`` (A, 3) and ``orientations`` (A, 4), searched from ``start`` (A*J,).

        Damped least squares inside the profile's position limits; the redundant joint is drawn to the home posture. An
        arm already at its target keeps its start. From warm starts leave ``restarts`` 0, so that the solution stays on
        the start's branch; from far away, that many deterministic other starts are tried where the first one fails.
        Never raises for unreachable targets: see ``converged``. ValueError for a wrong shape or numbers that aren't finite.
        """
        positions = _finite("positions", positions, (self._arms, 3))
        orientations = _finite("orientations", orientations, (self._arms, 4))
        q = np.empty(self._arms * self._joints)
        errors = np.empty((self._arms, 2))
        for arm, q_start in enumerate(self._split(start)):
            span = slice(arm * self._joints, (arm + 1) * self._joints)
            quaternion = pin.Quaternion(orientations[arm] / np.linalg.norm(orientations[arm]))
            target = self._bases[arm].actInv(pin.SE3(quaternion, positions[arm]))
            q[span], errors[arm] = self._solve(target, q_start, self._posture[span], max_iterations)
            for restart in range(restarts):
                if _reached(errors[arm]):
                    break
                elsewhere = np.random.default_rng(restart).uniform(self._lower, self._upper)
                other, other_errors = self._solve(target, elsewhere, elsewhere, max_iterations)
                if other_errors.sum() < errors[arm].sum():
                    q[span], errors[arm] = other, other_errors
        return IkResult(q, errors[:, 0], errors[:, 1], np.array([_reached(error) for error in errors]))

    def _solve(self, target: pin.SE3, start: Float64, posture: Float64, max_iterations: int) -> tuple[Float64, Float64]:
        """One arm, in its own base frame: joints (J,), (position, orientation) error (2,)."""
        q = np.clip(start, self._lower, self._upper)
        for iteration in range(max_iterations + 1):
            twist = pin.log6(self._local_tcp(q).actInv(target)).vector  # (6,) tool frame
            errors = math.hypot(*twist[:3]), math.hypot(*twist[3:])
            if _reached(errors) or iteration == max_iterations:
                break
            jacobian = pin.computeFrameJacobian(self._model, self._data, q, self._tcp, pin.LOCAL)
            q = self._step(q, jacobian, twist, posture)
        return q, np.array(errors)

    def _step(self, q: Float64, jacobian: Float64, twist: Float64, posture: Float64) -> Float64:
        """One damped step; joints it would push past a limit stop there, the others make up for them."""
        free = np.ones(self._joints, dtype=bool)
        damping = (_DAMPING * float(twist @ twist) + _DAMPING_FLOOR) * _EYE
        for _ in range(self._joints):
            active = jacobian * free
            gram = active @ active.T + damping
            wish = _POSTURE_GAIN * (posture - q) * free
            move = wish + active.T @ np.linalg.solve(gram, twist - active @ wish)
            longest = np.abs(move).max()
            if longest > _STEP_RAD:
                move *= _STEP_RAD / longest
            blocked = free & (((q + move < self._lower) & (q <= self._lower)) | ((q + move > self._upper) & (q >= self._upper)))
            if not blocked.any():
                break
            free &= ~blocked
        return np.clip(q + move, self._lower, self._upper)

    def _local_tcp(self, q_arm: Float64) -> pin.SE3:
        pin.forwardKinematics(self._model, self._data, q_arm)
        return pin.updateFramePlacement(self._model, self._data, self._tcp)

    def _split(self, q: ArrayLike) -> Float64:
        return _finite("q", q, (self._arms * self._joints,)).reshape(self._arms, self._joints)


def _reached(errors: Sequence[float] | Float64) -> bool:
    return bool(errors[0] <= POSITION_TOLERANCE_M and errors[1] <= ORIENTATION_TOLERANCE_RAD)


def _finite(name: str, value: ArrayLike, shape: tuple[int, ...]) -> Float64:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array}")
    return array
