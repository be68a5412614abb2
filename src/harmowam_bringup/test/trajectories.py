"""Trajectories for tests of the auditor: what is sound, as messages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from harmowam_bringup.auditor.limits import arm_limits, gripper_limits
from harmowam_core.cell import load_cell
from harmowam_core.kinematics import Kinematics

CELL = load_cell()
ARMS, FINGERS = arm_limits(CELL), gripper_limits(CELL)
HOME = Kinematics(CELL).home()
NOW_NS = 1_700_000_000 * 10**9
ARM_TOPIC, GRIPPER_TOPIC = CELL.controllers.arm_topic, CELL.controllers.gripper_topic

Path = Callable[[float], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Seconds to positions, velocities, accelerations, (N,) each."""


def minimum_jerk(begin: np.ndarray, move: np.ndarray | float, seconds: float) -> Path:
    """From rest at ``begin`` to rest at ``begin + move``."""

    def at(t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        s, way = min(t / seconds, 1.0), np.broadcast_to(move, begin.shape)
        return (
            begin + way * (10 * s**3 - 15 * s**4 + 6 * s**5),
            way / seconds * (30 * s**2 - 60 * s**3 + 30 * s**4),
            way / seconds**2 * (60 * s - 180 * s**2 + 120 * s**3),
        )

    return at


def message(path: Path, times_s: np.ndarray, stamp_ns: int = NOW_NS, joints: tuple[str, ...] = ARMS.joints) -> JointTrajectory:
    """Points of ``path`` at ``times_s`` (of whole nanoseconds), counted from the first one, which is at the stamp."""
    result = JointTrajectory(joint_names=list(joints))
    result.header.stamp.sec, result.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    for time_s in times_s:
        position, velocity, acceleration = path(float(time_s))
        point = JointTrajectoryPoint(positions=position.tolist(), velocities=velocity.tolist(), accelerations=acceleration.tolist())
        set_time(point, round((time_s - times_s[0]) * 1e9))
        result.points.append(point)
    return result


def set_time(point: JointTrajectoryPoint, time_ns: int) -> None:
    """From the trajectory's stamp."""
    point.time_from_start.sec, point.time_from_start.nanosec = divmod(time_ns, 10**9)


def move(way: np.ndarray | float = 0.01, begin: np.ndarray = HOME, stamp_ns: int = NOW_NS, seconds: float = 0.5) -> JointTrajectory:
    """A sound move of the arms, a point every 50 ms."""
    return message(minimum_jerk(begin, way, seconds), np.linspace(0, seconds, 11), stamp_ns)


def parting(stamp_ns: int = NOW_NS) -> JointTrajectory:
    """Repeats from 200 to 240 ms what ``move`` sent at ``stamp_ns``, then comes to rest sooner."""
    sent = message(minimum_jerk(HOME, 0.01, 0.5), np.array([0.2, 0.22, 0.24]), stamp_ns + 200_000_000)
    still = np.zeros_like(HOME)
    end = JointTrajectoryPoint(positions=np.add(sent.points[-1].positions, 0.0005).tolist(), velocities=still, accelerations=still)
    set_time(end, 140_000_000)
    sent.points.append(end)
    return sent


def only(joint: int, way: float) -> np.ndarray:
    """A move of one joint."""
    result = np.zeros(len(HOME))
    result[joint] = way
    return result
