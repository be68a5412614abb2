"""The same planner by MoveIt, where moveit_py is installed: OMPL, Pilz or CHOMP as the MoveIt configuration says.

Written against MoveItPy's documented interface of ROS 2 Jazzy. It needs the robot's MoveIt configuration, a ROS parameter file;
docs/planning.md says how to make one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from harmowam_bringup.planning.protocol import Obstacle, Plan, PlanningCancelled, PlanningError, PlanningScene

Float64 = NDArray[np.float64]

NODE_NAME = "harmowam_moveit"
NEEDED = ("robot_description_semantic", "planning_pipelines")
INSTALL = "the MoveIt planner needs moveit_py: apt install ros-jazzy-moveit-py, or use planner:=embedded"


def checked_configuration(text: str) -> Path:
    """The parameter file ``text`` names. RuntimeError where moveit_py is not installed, ValueError where MoveIt could not start from it."""
    _moveit_py()
    remedy = "docs/planning.md says how to make one"
    if not text:
        raise ValueError(f"planner:=moveit needs moveit_config:=FILE, MoveIt's parameters for this robot; {remedy}")
    path = Path(text)
    if not path.is_file():
        raise ValueError(f"no MoveIt configuration '{path}'; {remedy}")
    try:
        content = yaml.safe_load(path.read_text())
        given = {str(key).split(".")[0] for node in ("/**", NODE_NAME) for key in content.get(node, {}).get("ros__parameters", {})}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"MoveIt configuration {path} is no ROS parameter file: {error}") from error
    if lacking := [name for name in NEEDED if name not in given]:
        raise ValueError(f"MoveIt configuration {path} lacks {' and '.join(lacking)} for the node '/**' or '{NODE_NAME}'; {remedy}")
    return path


def _moveit_py() -> tuple[Any, Any]:
    try:
        from moveit.core.robot_state import RobotState
        from moveit.planning import MoveItPy
    except ImportError as error:
        raise RuntimeError(INSTALL) from error
    return MoveItPy, RobotState


class MoveItPyPlanner:
    """Plans for ``group``, whose joints are all arm joints of the scene's cell. RuntimeError where moveit_py is not installed.

    configuration: what ``checked_configuration`` gave.
    """

    def __init__(self, scene: PlanningScene, configuration: Path, *, group: str = "arms") -> None:
        moveit_py, self._state_type = _moveit_py()
        self._scene, self._group = scene, group
        self._moveit = moveit_py(node_name=NODE_NAME, launch_params_filepaths=[str(configuration)])
        self._component = self._moveit.get_planning_component(group)
        with self._moveit.get_planning_scene_monitor().read_write() as planning_scene:
            for message in collision_objects(scene):
                planning_scene.apply_collision_object(message)
            planning_scene.current_state.update()

    def plan(self, start: Float64, goal: Float64, *, cancelled: Callable[[], bool] = lambda: False) -> Plan:
        """See PathPlanner; MoveIt cannot be interrupted while it plans."""
        began_s = time.monotonic()
        self._component.set_start_state(robot_state=self._state(start))
        self._component.set_goal_state(robot_state=self._state(goal))
        result = self._component.plan()
        if cancelled():
            raise PlanningCancelled("cancelled while planning")
        if not result:
            raise PlanningError(f"MoveIt found no way in group '{self._group}' (error code {result.error_code.val})")
        trajectory = result.trajectory.get_robot_trajectory_msg().joint_trajectory
        path = in_cell_order(self._scene, list(trajectory.joint_names), [list(point.positions) for point in trajectory.points])
        return Plan(np.concatenate([start[None], path[1:]]), "MoveIt", time.monotonic() - began_s)

    def _state(self, q: Float64) -> Any:
        state = self._state_type(self._moveit.get_robot_model())
        state.joint_positions = dict(zip(self._scene.cell.arm_joint_names, q.tolist(), strict=True))
        state.update()
        return state


def in_cell_order(scene: PlanningScene, names: list[str], rows: list[list[float]]) -> Float64:
    """(P, A*J) from a trajectory whose joints may be in another order; PlanningError where one is missing."""
    missing = [name for name in scene.cell.arm_joint_names if name not in names]
    if missing or not rows:
        raise PlanningError(f"MoveIt's trajectory lacks {missing or 'way-points'}; its group must have every arm joint")
    return np.array(rows)[:, [names.index(name) for name in scene.cell.arm_joint_names]]


def collision_objects(scene: PlanningScene) -> list[Any]:
    """moveit_msgs/CollisionObject for everything in the scene that is no arm."""
    from geometry_msgs.msg import Pose
    from moveit_msgs.msg import CollisionObject
    from shape_msgs.msg import SolidPrimitive

    messages = []
    for thing in scene.obstacles:
        message = CollisionObject(id=thing.name, operation=CollisionObject.ADD)
        message.header.frame_id = scene.cell.base_frame
        message.primitives.append(SolidPrimitive(type=SolidPrimitive.BOX, dimensions=list(thing.size)))
        message.primitive_poses.append(placed(Pose(), thing))
        messages.append(message)
    return messages


def placed(pose: Any, thing: Obstacle) -> Any:
    """A geometry_msgs/Pose filled in with where an obstacle's middle is."""
    pose.position.x, pose.position.y, pose.position.z = thing.position
    pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w = thing.orientation
    return pose
