"""The cell in rviz: arms, cameras, imagination, both experts' paths, workspace, gate.

    ros2 launch harmowam_bringup rviz.launch.py

Beside a graph that runs, or a bag that is played. Needs a full ROS 2 Jazzy installation (rviz2, robot_state_publisher) and the
``harmowam`` command on the path, which makes the robot description from the cell profile.
"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import Command, FindExecutable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARM_RATE_HZ = 20.0


def arguments() -> list[DeclareLaunchArgument]:
    """Everything a user may change."""
    config = PathJoinSubstitution([FindPackageShare("harmowam_bringup"), "rviz", "harmowam.rviz"])
    declared = [
        ("cell", "franka_dual", "cell profile by name, or path of a profile"),
        ("robot_state_publisher", "true", "publish the robot description and the arms' frames; false if the arm driver does"),
        ("rviz_config", config, "rviz configuration"),
        ("use_sim_time", "false", "go by /clock, as when a bag is played"),
    ]
    return [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in declared]


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    sim_time = {"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}
    description = Command([FindExecutable(name="harmowam"), " urdf --cell ", LaunchConfiguration("cell")])
    robot = Node(
        package="robot_state_publisher",
        executable="robot_state_publisher",
        name="robot_state_publisher",
        condition=IfCondition(LaunchConfiguration("robot_state_publisher")),
        parameters=[
            sim_time,
            {"robot_description": ParameterValue(description, value_type=str), "publish_frequency": ARM_RATE_HZ},
        ],
    )
    rviz = Node(
        package="rviz2", executable="rviz2", name="rviz2", arguments=["-d", LaunchConfiguration("rviz_config")], parameters=[sim_time]
    )
    return LaunchDescription([*arguments(), robot, rviz])
