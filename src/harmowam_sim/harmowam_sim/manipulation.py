"""How a scripted hand moves: pick and place as a near-Markov state machine, with human-like variation. Lengths m.

It reads object poses from the simulator, as it stands in for people; nothing of that reaches a policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harmowam_sim.cell import SimCell
from harmowam_sim.environments import HOVER_M, above, tool_down
from harmowam_sim.objects import KINDS
from harmowam_sim.paths import HAND, Post, carrying, post, transit_path
from harmowam_sim.scene import Scene
from harmowam_sim.servo import CONTROL_PERIOD_S, EndEffectorCommand
from harmowam_sim.tasks import on_goal, upright_cos

Float64 = NDArray[np.float64]

ACCELERATION_M_S2 = 0.45
TURN_RATE_RAD_S = 1.1
SIDE_RATE_M_S = 0.10
CONE_SLOPE = 0.35  # how far beside the target the hand may be, per metre above it
LIFT_M = 0.13  # above where it will be released: the way there is then visibly no part of releasing
RETREAT_M = 0.13
REACH_HEIGHT_M = 0.06
STAY_STEPS = 8
MAX_ATTEMPTS = 4


@dataclass(frozen=True)
class Style:
    """How one person moves: speeds, m/s; how far paths bend sideways and upwards, m; where the hover is missed by, m."""

    transit_m_s: float
    descend_m_s: float
    lift_m_s: float
    lower_m_s: float
    sway_m: float
    arc_m: float
    hover_offset: Float64
    goal_offset: Float64

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Style:
        """Somebody."""
        return cls(
            transit_m_s=rng.uniform(0.14, 0.22),
            descend_m_s=rng.uniform(0.065, 0.095),
            lift_m_s=rng.uniform(0.09, 0.13),
            lower_m_s=rng.uniform(0.06, 0.085),
            sway_m=float(np.clip(rng.normal(0.0, 0.012), -0.03, 0.03)),
            arc_m=rng.uniform(0.0, 0.03),
            hover_offset=np.array([*rng.normal(0.0, 0.008, 2), rng.uniform(-0.01, 0.015)]),
            goal_offset=rng.normal(0.0, 0.004, 2),
        )


class Hand:
    """The commanded pose of the working arm, moved a control period at a time; the other arms stay where they were."""

    def __init__(self, arm: str) -> None:
        self._arm_name = arm
        self.arm = 0
        self.position = np.zeros(3)
        self.yaw_rad = 0.0
        self.opening = 1.0
        self._speed_m_s = 0.0
        self._others: tuple[Float64, Float64, Float64] | None = None

    def sync(self, cell: SimCell) -> None:
        """Start from where the arm is measured to be."""
        self.arm = cell.cell.arm_names.index(self._arm_name)
        positions, orientations = cell.tcp_pose()
        self.position = positions[self.arm].copy()
        x, y, _, _ = orientations[self.arm]
        self.yaw_rad = float(_wrapped(2 * np.arctan2(y, x), 2 * np.pi))
        self._speed_m_s = 0.0
        if self._others is None:
            self._others = positions.copy(), orientations.copy(), np.round(cell.openings)

    def stop(self) -> None:
        """At rest from here on."""
        self._speed_m_s = 0.0

    def pace(self, remaining_m: float, fastest_m_s: float) -> float:
        """Metres to go this period: speed up, keep pace, slow down in time to stop."""
        stopping = np.sqrt(2 * ACCELERATION_M_S2 * max(remaining_m, 0.0)) + 0.01
        self._speed_m_s = min(fastest_m_s, self._speed_m_s + ACCELERATION_M_S2 * CONTROL_PERIOD_S, stopping)
        return min(self._speed_m_s * CONTROL_PERIOD_S, max(remaining_m, 0.0))

    def rise(self, height: float, fastest_m_s: float) -> bool:
        """Straight towards a height; True on arrival."""
        remaining = height - self.position[2]
        self.position[2] += np.sign(remaining) * self.pace(abs(remaining), fastest_m_s)
        return abs(height - self.position[2]) < 1e-3

    def slide(self, xy: Float64, rate_m_s: float = SIDE_RATE_M_S) -> float:
        """Towards a place (2,) at this height; the distance left."""
        offset = xy - self.position[:2]
        distance = float(np.hypot(*offset))
        step = min(0.5 * distance, rate_m_s * CONTROL_PERIOD_S) if distance > 0.002 else distance
        self.position[:2] += offset * (step / max(distance, 1e-9))
        return distance - step

    def turn(self, yaw_rad: float) -> float:
        """Towards a yaw; the angle left."""
        remaining = yaw_rad - self.yaw_rad
        self.yaw_rad += float(np.clip(remaining, -TURN_RATE_RAD_S * CONTROL_PERIOD_S, TURN_RATE_RAD_S * CONTROL_PERIOD_S))
        return abs(yaw_rad - self.yaw_rad)

    def command(self) -> EndEffectorCommand:
        """The pose for all arms."""
        if self._others is None:
            raise RuntimeError("call Hand.sync(cell) before Hand.command()")
        positions, orientations, openings = (values.copy() for values in self._others)
        positions[self.arm], orientations[self.arm], openings[self.arm] = self.position, tool_down(self.yaw_rad), self.opening
        return EndEffectorCommand(positions, orientations, openings)


class Path:
    """A path and how far along it the hand is."""

    def __init__(self, points: Float64) -> None:
        self._points = points
        self._travelled = np.concatenate([[0.0], np.linalg.norm(np.diff(points, axis=0), axis=1).cumsum()])
        self._at = 0.0

    @property
    def remaining_m(self) -> float:
        """Length still ahead."""
        return float(self._travelled[-1] - self._at)

    def advance(self, distance: float) -> Float64:
        """(3,) the point that much further along."""
        self._at += distance
        return np.array([np.interp(self._at, self._travelled, self._points[:, axis]) for axis in range(3)])


class PickAndPlace:
    """Picks one object and puts it on another, again if it slips. ``phase`` says what it is at; "stay" when done."""

    def __init__(self, scene: Scene, target: str, goal: str, arm: str, style: Style) -> None:
        self.phase = "transit"
        self.hand = Hand(arm)
        self.style = style
        self._scene, self._arm_name = scene, arm
        self._target, self._goal = KINDS[target], KINDS[goal]
        self._path: Path | None = None
        self._waited = 0
        self._last_opening = 1.0
        self._attempts = 1
        self._synced = False
        self._unheld = 0
        self._retreat_height = 0.0

    def act(self, cell: SimCell) -> EndEffectorCommand:
        """The command for the next control period."""
        if not self._synced:
            self.resync(cell)
        getattr(self, f"_{self.phase}")(cell)
        return self.hand.command()

    def resync(self, cell: SimCell) -> None:
        """Go on from wherever the arm was taken."""
        self.hand.sync(cell)
        self._path = None
        self._synced = True

    def settle(self) -> None:
        """Forget the momentum and the path: something else moved the hand."""
        self._path = None
        self.hand.stop()

    def height_above_grasp(self, cell: SimCell) -> float:
        """Of the commanded hand, m."""
        return float(self.hand.position[2] - self._grasp_point(cell)[2])

    def close_now(self) -> None:
        """Close the gripper here and now, right or wrong."""
        self._enter("close")

    def _enter(self, phase: str) -> None:
        self.phase, self._path, self._waited = phase, None, 0

    # Phases -----------------------------------------------------------------------------------------------------

    def _transit(self, cell: SimCell) -> None:
        self.hand.opening = 1.0
        if self._path is None:
            self._path = self._plan(cell, above(self._grasp_point(cell)) + self.style.hover_offset, held=False)
        if self._follow(self._path):
            self._enter("descend")

    def _descend(self, cell: SimCell) -> None:
        self.hand.opening = 1.0
        grasp = self._grasp_point(cell)
        beside = self.hand.slide(grasp[:2])
        turn_left = self.hand.turn(grasp_yaw(cell, self._target.name))
        floor = grasp[2] + max(0.0, (beside - 0.003) / CONE_SLOPE)
        if turn_left > 0.12:
            floor = max(floor, grasp[2] + 0.05)
        arrived = self.hand.rise(min(floor, grasp[2] + HOVER_M), self._near(self.style.descend_m_s, grasp[2]))
        if arrived and self.hand.position[2] - grasp[2] < 0.002:
            self._enter("close")

    def _close(self, cell: SimCell) -> None:
        self.hand.opening = 0.0
        opening = float(cell.openings[self.hand.arm])
        still = abs(opening - self._last_opening) < 0.01
        self._last_opening = opening
        self._waited += 1
        if self._waited >= 4 and still:
            self._enter("lift" if cell.grasped(self._target.name, self._arm_name) else "reopen")

    def _reopen(self, cell: SimCell) -> None:
        """Missed: open, rise a little, and look again."""
        self.hand.opening = 1.0
        self._waited += 1
        if self._waited > 3 and self.hand.rise(self._grasp_point(cell)[2] + 0.06, self.style.lift_m_s):
            self._attempts += 1
            self._enter("stay" if self._attempts > MAX_ATTEMPTS else "descend")

    def _lift(self, cell: SimCell) -> None:
        self.hand.opening = 0.0
        if self._lost(cell):
            return
        higher_end = self._target.grasp_height + self._goal.surface_height
        if self.hand.rise(higher_end + LIFT_M, self.style.lift_m_s):
            self._enter("carry")

    def _carry(self, cell: SimCell) -> None:
        self.hand.opening = 0.0
        if self._lost(cell):
            return
        if self._path is None:
            self._path = self._plan(cell, self._release_hover(cell), held=True)
        self.hand.turn(0.0)
        if self._follow(self._path):
            self._enter("lower")

    def _lower(self, cell: SimCell) -> None:
        self.hand.opening = 0.0
        if self._lost(cell):
            return
        tcp, target = self._poses(cell)
        goal, _ = cell.object_pose(self._goal.name)
        held = tcp - target
        beside = self.hand.slide(goal[:2] + held[:2] + self.style.goal_offset)
        self.hand.turn(0.0)
        release = goal[2] + self._goal.surface_height + held[2] + 0.002
        floor = release + max(0.0, (beside - 0.003) / CONE_SLOPE)
        arrived = self.hand.rise(min(floor, release + HOVER_M), self._near(self.style.lower_m_s, release))
        self._waited = self._waited + 1 if cell.in_contact(self._target.name, self._goal.name) else 0
        if (arrived and self.hand.position[2] - release < 0.003) or self._waited >= 2:
            self._enter("release")

    def _release(self, cell: SimCell) -> None:
        self.hand.opening = 1.0
        self._waited += 1
        if self._waited >= 5 and not cell.grasped(self._target.name, self._arm_name):
            self._retreat_height = self.hand.position[2] + RETREAT_M
            self._enter("retreat")

    def _retreat(self, cell: SimCell) -> None:
        if self.hand.rise(self._retreat_height, self.style.lift_m_s):
            fell = not on_goal(cell, self._target.name, self._goal.name)
            graspable = self._target.category != "can" or upright_cos(cell, self._target.name) > 0.9
            again = fell and graspable and self._attempts < MAX_ATTEMPTS
            self._attempts += 1
            self._enter("transit" if again else "stay")

    def _stay(self, cell: SimCell) -> None:
        self._waited += 1

    @property
    def done(self) -> bool:
        """Whether it has stayed long enough to end."""
        return self.phase == "stay" and self._waited >= STAY_STEPS

    # Helpers ----------------------------------------------------------------------------------------------------

    def _near(self, speed_m_s: float, height: float) -> float:
        """Slower in the last centimetres."""
        return speed_m_s if self.hand.position[2] - height > 0.03 else 0.75 * speed_m_s

    def _lost(self, cell: SimCell) -> bool:
        """Whether the object slipped, for good and not for one flickering contact; then begin again."""
        self._unheld = 0 if cell.grasped(self._target.name, self._arm_name) else self._unheld + 1
        if self._unheld < 3:
            return False
        self._unheld = 0
        self._attempts += 1
        self._enter("stay" if self._attempts > MAX_ATTEMPTS else "transit")
        return True

    def _poses(self, cell: SimCell) -> tuple[Float64, Float64]:
        return cell.tcp_pose()[0][self.hand.arm], base_point(cell, self._target.name)

    def _grasp_point(self, cell: SimCell) -> Float64:
        return base_point(cell, self._target.name) + np.array([0.0, 0.0, self._target.grasp_height])

    def _release_hover(self, cell: SimCell) -> Float64:
        goal, _ = cell.object_pose(self._goal.name)
        return above(goal, self._goal.surface_height + self._target.grasp_height) + 0.6 * self.style.hover_offset

    def _follow(self, path: Path) -> bool:
        self.hand.position = path.advance(self.hand.pace(path.remaining_m, self.style.transit_m_s))
        return path.remaining_m < 1e-3

    def _plan(self, cell: SimCell, end: Float64, *, held: bool) -> Path:
        ignored = {self._target.name, *((self._goal.name,) if not held else ())}
        hand = carrying(HAND, self._target) if held else HAND
        posts = [standing_post(cell, thing.name) for thing in self._scene.objects if thing.name not in ignored]
        return Path(transit_path(self.hand.position, end, hand, self.hand.yaw_rad, posts, sway_m=self.style.sway_m, arc_m=self.style.arc_m))


class Reach(PickAndPlace):
    """Reaches for one object without touching it."""

    def __init__(self, scene: Scene, target: str, arm: str, style: Style) -> None:
        super().__init__(scene, target, target, arm, style)

    def _descend(self, cell: SimCell) -> None:
        self.hand.opening = 1.0
        grasp = self._grasp_point(cell)
        self.hand.slide(grasp[:2])
        self.hand.turn(grasp_yaw(cell, self._target.name))
        if self.hand.rise(grasp[2] + REACH_HEIGHT_M, self.style.descend_m_s):
            self._enter("stay")


def base_point(cell: SimCell, name: str) -> Float64:
    """(3,) where the object's origin would be if it stood upright around the middle it has now; round things roll over."""
    position, (x, y, z, w) = cell.object_pose(name)
    up = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    return np.asarray(position + 0.5 * KINDS[name].height * (up - np.array([0.0, 0.0, 1.0])))


def standing_post(cell: SimCell, name: str) -> Post:
    """Any object where it is now, as an obstacle; wide and low if it has fallen over."""
    kind, (position, _) = KINDS[name], cell.object_pose(name)
    if upright_cos(cell, name) > 0.9:
        return replace(post(kind, float(position[0]), float(position[1])), height=kind.height + float(position[2]))
    return Post(float(position[0]), float(position[1]), max(kind.radius, kind.height), 2 * kind.radius + float(position[2]), 0.02)


def grasp_yaw(cell: SimCell, name: str) -> float:
    """Yaw at which the hand closes across an object; 0 for round ones."""
    kind, (_, (x, y, z, w)) = KINDS[name], cell.object_pose(name)
    if not kind.elongated and kind.category != "block":
        return 0.0
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return float(np.clip(_wrapped(yaw, np.pi if kind.elongated else np.pi / 2), -1.1, 1.1))


def _wrapped(angle: float, period: float) -> float:
    return (angle + period / 2) % period - period / 2
