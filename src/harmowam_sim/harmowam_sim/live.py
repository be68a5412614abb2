"""The simulated cell in real time: what the node does, without ROS. Times are seconds of the node's clock."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any

import mujoco
import numpy as np

from harmowam_core.cell import Cell
from harmowam_core.stages import JointState, UInt8
from harmowam_sim.demonstrators import open_cell
from harmowam_sim.driver import TrajectoryDriver
from harmowam_sim.environments import EpisodeSpec
from harmowam_sim.model import TIMESTEP_S
from harmowam_sim.state_log import StateLog
from harmowam_sim.tasks import Scorer

CATCH_UP_S = 0.5  # after a longer stall of the machine, simulated time is lost instead
FACTOR_WINDOW_S = 5.0


class LiveCell:
    """One episode that follows the clock: physics, the arm's and the grippers' trajectory drivers, score and log.

    Trajectories are followed in the node's time; ``factor`` is simulated seconds of physics a second of it.
    """

    def __init__(self, spec: EpisodeSpec, cell: Cell, factor: float = 1.0) -> None:
        self.spec = spec
        self.sim = open_cell(spec, cell)
        self.arm_driver = TrajectoryDriver(cell.arm_joint_names, self.sim.arm_positions)
        openings = self.sim.openings
        if spec.start == "near_goal":  # what it holds, it goes on pressing
            openings[cell.arm_names.index(spec.arm)] = 0.0
        self.gripper_driver = TrajectoryDriver(cell.finger_joint_names, openings * cell.finger_travel)
        self.log = StateLog(spec.task, spec.environment, spec.seed)
        self._scorer = Scorer(spec, self.sim)
        self._factor = factor
        self._state_s = 0.0  # the node's time that the state of the simulation belongs to
        self._progress: deque[tuple[float, float]] = deque()
        self._frozen: dict[int, float] = {}  # arm joints that do not follow, and where they stay, rad

    def start(self, now_s: float) -> None:
        """Let time run from here."""
        self._state_s = now_s
        self._progress.clear()
        self._progress.append((now_s, self.sim.time_s))

    def advance(self, now_s: float) -> None:
        """Run physics up to ``now_s`` (after ``start``), following the trajectories at every time step."""
        self._state_s = max(self._state_s, now_s - CATCH_UP_S)
        step_s = TIMESTEP_S / self._factor
        travel = self.sim.cell.finger_travel
        while self._state_s + step_s <= now_s:
            self._state_s += step_s
            positions, velocities = self.arm_driver.sample(self._state_s)
            for joint, stays in self._frozen.items():
                positions, velocities = positions.copy(), velocities.copy()
                positions[joint], velocities[joint] = stays, 0.0
            self.sim.command_arms(positions, velocities / self._factor)
            self.sim.command_openings(self.gripper_driver.sample(self._state_s)[0] / travel)
            self.sim.step(TIMESTEP_S)
        self._progress.append((now_s, self.sim.time_s))
        while self._progress[0][0] < now_s - FACTOR_WINDOW_S:
            self._progress.popleft()

    def reach(self, sent_s: float, now_s: float) -> float:
        """Run physics up to when something was sent, and return that time: a cell that was late itself must not make it late, too.

        Between where physics is and now.
        """
        time_s = min(max(sent_s, self._state_s), now_s)
        self.advance(time_s)
        return time_s

    def freeze(self, joints: tuple[str, ...]) -> None:
        """Arm joints whose drives hold them where they are, whatever is commanded; the others follow. ValueError names the unknown."""
        names = self.sim.cell.arm_joint_names
        if unknown := set(joints) - set(names):
            raise ValueError(f"no arm joint {sorted(unknown)}; known: {', '.join(names)}")
        wanted = {names.index(joint) for joint in joints}
        here = self.sim.arm_positions
        self._frozen = {joint: self._frozen.get(joint, float(here[joint])) for joint in wanted}

    @property
    def achieved_factor(self) -> float:
        """Simulated seconds a second over the last seconds."""
        (start_s, from_s), (end_s, to_s) = self._progress[0], self._progress[-1]
        return (to_s - from_s) / (end_s - start_s) if end_s > start_s else self._factor

    def joint_state(self, stamp_ns: int) -> JointState:
        """Measured joints; velocities in the node's time."""
        state = self.sim.joint_state(stamp_ns)
        return JointState(stamp_ns, state.names, state.positions, state.velocities * self._factor)

    def pictures(self, moment: mujoco.MjData | None = None) -> dict[str, UInt8]:
        """All cameras' native images of now, or of a ``sim.snapshot``; the first ones compile the graphics pipeline."""
        return {camera.name: self.sim.render(camera.name, moment=moment) for camera in self.sim.cell.cameras}

    def record(self, stamp_ns: int) -> None:
        """Keep this moment in the log."""
        self.log.add(stamp_ns, self.sim.data.qpos)

    def score(self) -> dict[str, Any]:
        """The privileged score by now, ready for JSON; to be asked for every control period or so."""
        score = self._scorer.update()
        spec = self.spec
        return {
            "task": spec.task,
            "environment": spec.environment,
            "seed": spec.seed,
            "instruction": spec.instruction,
            "time_s": self.sim.time_s,
            **asdict(score),
            "score": score.score,
            "success": score.success,
        }

    def close(self) -> None:
        """Free the renderer."""
        self.sim.close()


def is_behind(achieved: float, wanted: float) -> bool:
    """Whether physics does not keep up with the clock."""
    return bool(np.isfinite(achieved) and achieved < 0.95 * wanted)
