"""The simulated cell: two Franka arms at a table in MuJoCo, with cameras and contact grasps.

What a robot could measure or command comes first; ``object_*``, ``in_contact``, ``grasped`` and ``state`` are privileged:
for scoring, demonstrators and tests, never for a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmowam_core.cell import Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.stages import JointState, check_array
from harmowam_sim.model import ARM_KD, ARM_KP, TIMESTEP_S, build_model, xyzw
from harmowam_sim.rendering import OffscreenRenderer
from harmowam_sim.scene import Scene

Float64 = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]
STATE_FIELDS = ("qpos", "qvel", "ctrl", "qacc_warmstart")


@lru_cache(maxsize=8)
def home_arm_positions(cell: Cell) -> tuple[float, ...]:
    """Joint positions, rad, of the cell's home tool poses."""
    return tuple(Kinematics(cell).home())


class SimCell:
    """Physics and cameras of one cell with one scene. Close it, or use it as a context manager.

    start_arm_positions: (A*7,) rad, default the home posture; start_openings: (A,) in [0, 1].
    Raises SceneError for a malformed scene, StageError for malformed arrays.
    """

    def __init__(
        self,
        scene: Scene,
        cell: Cell | None = None,
        *,
        start_arm_positions: ArrayLike | None = None,
        start_openings: ArrayLike = (1.0, 1.0),
    ) -> None:
        self.cell = cell if cell is not None else load_cell()
        self.scene = scene
        self.model = build_model(scene, self.cell)
        self.data = mujoco.MjData(self.model)
        self._renderer: OffscreenRenderer | None = None

        self._arms = len(self.cell.arms)
        self._joints = self._arms * len(self.cell.joints)
        self._kd_over_kp = np.tile(ARM_KD / ARM_KP, self._arms)
        self._arm_qpos = self._qpos_indices(self.cell.arm_joint_names)
        self._arm_qvel = self._qvel_indices(self.cell.arm_joint_names)
        self._finger_qpos = self._qpos_indices(self.cell.finger_joint_names)
        self._finger_qvel = self._qvel_indices(self.cell.finger_joint_names)
        self._mirrored_qpos = self._qpos_indices([f"{name}_mirrored" for name in self.cell.finger_joint_names])
        self._tcp_sites = [self.model.site(f"{arm}_tcp").id for arm in self.cell.arm_names]
        self._geom_owner = self._owners()
        self._object_names = tuple(thing.name for thing in scene.objects)

        positions = np.asarray(home_arm_positions(self.cell) if start_arm_positions is None else start_arm_positions, dtype=np.float64)
        check_array("start_arm_positions", positions, (self._joints,))
        openings = np.asarray(start_openings, dtype=np.float64)
        check_array("start_openings", openings, (self._arms,))
        self.data.qpos[self._arm_qpos] = positions
        self.data.qpos[self._finger_qpos] = self.data.qpos[self._mirrored_qpos] = openings * self.cell.finger_travel
        self.command_arms(positions, np.zeros(self._joints))
        self.command_openings(openings)
        mujoco.mj_forward(self.model, self.data)

    # Measured ---------------------------------------------------------------------------------------------------

    @property
    def time_s(self) -> float:
        """Simulated time since the start, s."""
        return float(self.data.time)

    @property
    def arm_positions(self) -> Float64:
        """(A*7,) rad."""
        return self.data.qpos[self._arm_qpos]

    @property
    def arm_velocities(self) -> Float64:
        """(A*7,) rad/s."""
        return self.data.qvel[self._arm_qvel]

    @property
    def openings(self) -> Float64:
        """(A,) measured finger opening in [0, 1]."""
        return np.clip(self.data.qpos[self._finger_qpos] / self.cell.finger_travel, 0.0, 1.0)

    def joint_state(self, stamp_ns: int | None = None) -> JointState:
        """All arm joints (rad), then the finger joints (m); stamped with simulated time unless told."""
        return JointState(
            round(self.time_s * 1e9) if stamp_ns is None else stamp_ns,
            self.cell.arm_joint_names + self.cell.finger_joint_names,
            np.concatenate([self.arm_positions, self.data.qpos[self._finger_qpos]]),
            np.concatenate([self.arm_velocities, self.data.qvel[self._finger_qvel]]),
        )

    def tcp_pose(self) -> tuple[Float64, Float64]:
        """Tool centre points: positions (A, 3) m, orientations (A, 4) xyzw, base frame."""
        orientations = np.empty((self._arms, 4))
        for arm, site in enumerate(self._tcp_sites):
            quaternion = np.empty(4)
            mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[site])
            orientations[arm] = xyzw(quaternion)
        return self.data.site_xpos[self._tcp_sites], orientations

    def snapshot(self) -> mujoco.MjData:
        """This moment as a copy, to be rendered while time goes on."""
        copied = mujoco.MjData(self.model)
        mujoco.mj_copyData(copied, self.model, self.data)
        return copied

    def render(self, camera: str, size: tuple[int, int] | None = None, moment: mujoco.MjData | None = None) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of a camera of the cell, now or of a ``snapshot``; ``size`` = (height, width), native by default.

        One thread does all the rendering, and ``close``: it owns the OpenGL context.
        """
        profile = self.cell.camera(camera)
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self.model)
        # Shadows tell the third-person view how high things are; wrist views see that anyway, and shadows cost five times the rest.
        shadows = profile.mounted_on is None
        return self._renderer.render(moment or self.data, camera, size or (profile.height, profile.width), shadows=shadows)

    # Commanded --------------------------------------------------------------------------------------------------

    def command_arms(self, positions: ArrayLike, velocities: ArrayLike) -> None:
        """Set-points of all arm joints, (A*7,) rad and rad/s. StageError if malformed or not finite."""
        positions, velocities = np.asarray(positions, dtype=np.float64), np.asarray(velocities, dtype=np.float64)
        check_array("arm position set-point", positions, (self._joints,))
        check_array("arm velocity set-point", velocities, (self._joints,))
        # The servo damps the joint's velocity; shifting the set-point makes it damp the velocity *error* instead.
        self.data.ctrl[: self._joints] = positions + self._kd_over_kp * velocities

    def command_openings(self, openings: ArrayLike) -> None:
        """Set-points of the grippers, (A,) in [0, 1]; below the object's width they press with up to 35 N a finger."""
        openings = np.asarray(openings, dtype=np.float64)
        check_array("gripper set-point", openings, (self._arms,))
        self.data.ctrl[self._joints :] = np.clip(openings, 0.0, 1.0) * self.cell.finger_travel

    def step(self, duration_s: float) -> None:
        """Advance by a whole number of 2 ms time steps nearest to ``duration_s``."""
        mujoco.mj_step(self.model, self.data, nstep=max(round(duration_s / TIMESTEP_S), 1))
        self._refresh()

    # Privileged -------------------------------------------------------------------------------------------------

    def object_pose(self, name: str) -> tuple[Float64, Float64]:
        """Position (3,) m and orientation (4,) xyzw of an object, base frame. KeyError names those there are."""
        body = self._object_body(name)
        return self.data.xpos[body].copy(), xyzw(self.data.xquat[body])

    def object_velocity(self, name: str) -> tuple[Float64, Float64]:
        """Linear (3,) m/s and angular (3,) rad/s velocity of an object, base axes."""
        velocity = np.empty(6)
        mujoco.mj_objectVelocity(self.model, self.data, mujoco.mjtObj.mjOBJ_XBODY, self._object_body(name), velocity, 0)
        return velocity[3:], velocity[:3]

    def in_contact(self, name_a: str, name_b: str) -> bool:
        """Whether two things touch: objects by name, "table", or "<arm>_hand" (hand and fingers)."""
        return self._touch(self._geoms(name_a), self._geoms(name_b))

    def grasped(self, name: str, arm: str) -> bool:
        """Whether both fingers of ``arm`` touch the object."""
        geoms = self._geoms(name)
        return all(self._touch(geoms, self._body_geoms(self.model.body(f"{arm}_finger{i}").id)) for i in (1, 2))

    def state(self) -> State:
        """Everything needed to go on from here exactly, as arrays; see ``restore``."""
        return {"time": np.array(self.data.time), **{name: getattr(self.data, name).copy() for name in STATE_FIELDS}}

    def restore(self, state: State) -> None:
        """Go back to a state of this cell and scene. StageError for a state of another one."""
        for name in STATE_FIELDS:
            check_array(f"state '{name}'", state[name], getattr(self.data, name).shape)
        self._set_state(state)
        mujoco.mj_forward(self.model, self.data)  # positions and contacts that follow from the state
        self._set_state(state)  # its warm start, which mj_forward replaced

    def show(self, qpos: Float64) -> None:
        """Put everything where ``qpos`` says, to render a recorded moment; not a state to go on from."""
        check_array("qpos", qpos, self.data.qpos.shape)
        self.data.qpos[:] = qpos
        self._refresh()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> SimCell:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Inside -----------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Bring poses and velocities up to the joints: after a step they are those of its beginning."""
        for compute in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_comVel, mujoco.mj_camlight):
            compute(self.model, self.data)

    def _set_state(self, state: State) -> None:
        self.data.time = float(state["time"])
        for name in STATE_FIELDS:
            getattr(self.data, name)[:] = state[name]

    def _qpos_indices(self, names: tuple[str, ...] | list[str]) -> NDArray[np.int64]:
        return np.array([self.model.joint(name).qposadr[0] for name in names])

    def _qvel_indices(self, names: tuple[str, ...] | list[str]) -> NDArray[np.int64]:
        return np.array([self.model.joint(name).dofadr[0] for name in names])

    def _object_body(self, name: str) -> int:
        if name not in self._object_names:
            raise KeyError(f"no object is called '{name}'; there are {sorted(self._object_names)}")
        return int(self.model.body(name).id)

    def _geoms(self, name: str) -> NDArray[np.int64]:
        if name not in self._geom_owner:
            raise KeyError(f"nothing is called '{name}'; there are {sorted(self._geom_owner)}")
        return self._geom_owner[name]

    def _body_geoms(self, *bodies: int) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(self.model.geom_bodyid, bodies))

    def _owners(self) -> dict[str, NDArray[np.int64]]:
        """Name of a thing to its geoms."""
        owners = {thing.name: self._body_geoms(self.model.body(thing.name).id) for thing in self.scene.objects}
        owners["table"] = np.array([self.model.geom("table").id])
        for arm in self.cell.arm_names:
            owners[f"{arm}_hand"] = self._body_geoms(*(self.model.body(f"{arm}_{part}").id for part in ("hand", "finger1", "finger2")))
        return owners

    def _touch(self, geoms_a: NDArray[np.int64], geoms_b: NDArray[np.int64]) -> bool:
        pairs = self.data.contact.geom  # (contacts, 2)
        a, b = np.isin(pairs, geoms_a), np.isin(pairs, geoms_b)
        return bool(((a[:, 0] & b[:, 1]) | (a[:, 1] & b[:, 0])).any())
