"""Whether a message is a trajectory of these joints that the driver can follow."""

from __future__ import annotations

from typing import Any

import numpy as np

from harmowam_bringup.auditor.curve import Points
from harmowam_bringup.auditor.verdict import Finding, Rule

NS = 1_000_000_000


class Unfollowable(Exception):
    """Why the curve of a message cannot be told, so that nothing else can be judged."""

    def __init__(self, rule: Rule, part: str = "", measured: float = np.nan, limit: float = np.nan) -> None:
        super().__init__(rule.value)
        self.finding = Finding(rule, part, measured, limit)


def read(message: Any, received_ns: int, joints: tuple[str, ...]) -> Points:
    """The points of a trajectory_msgs/JointTrajectory, or anything shaped so; one stamped 0 starts when it is received."""
    if tuple(message.joint_names) != joints:
        raise Unfollowable(Rule.JOINT_NAMES, ",".join(message.joint_names), len(message.joint_names), len(joints))
    points = message.points
    if not len(points):
        raise Unfollowable(Rule.NO_POINTS, "", 0, 1)
    for point in points:
        for rule, values, sizes in (
            (Rule.POSITION_COUNT, point.positions, (len(joints),)),
            (Rule.VELOCITY_COUNT, point.velocities, (len(joints),)),
            (Rule.ACCELERATION_COUNT, point.accelerations, (len(joints), 0)),
        ):
            if len(values) not in sizes:
                raise Unfollowable(rule, "", len(values), len(joints))
    times_ns = np.array([_nanoseconds(point.time_from_start) for point in points], dtype=np.int64)
    positions, velocities = (np.array([getattr(point, name) for point in points], dtype=np.float64) for name in ("positions", "velocities"))
    given = np.array([len(point.accelerations) > 0 for point in points])
    accelerations = np.full_like(positions, np.nan)
    if given.any():
        accelerations[given] = [point.accelerations for point in points if len(point.accelerations)]
    for values in (positions, velocities, accelerations[given]):
        if not np.isfinite(values).all():
            joint = int(np.argwhere(~np.isfinite(values))[0, 1])
            raise Unfollowable(Rule.NOT_FINITE, joints[joint], float(values[~np.isfinite(values)][0]))
    if not (times_ns[0] >= 0 and (np.diff(times_ns) > 0).all()):
        raise Unfollowable(Rule.TIME_ORDER, "", float(np.diff(times_ns, prepend=0).min()) / NS, 0.0)
    stamp_ns = _nanoseconds(message.header.stamp) or received_ns
    return Points(stamp_ns, stamp_ns + times_ns, positions, velocities, accelerations)


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * NS + int(time.nanosec)
