"""The policy on two Franka Research 3 arms: cameras, arm driver and controllers, the graph, and rviz.

    ros2 launch harmowam_bringup real_robot.launch.py robot_config_file:=/path/fr3_duo.config.yaml \
        scene_serial:=... wrist_left_serial:=... wrist_right_serial:=...

Needs a full ROS 2 Jazzy installation with franka_ros2 and realsense-ros. The arms' prefixes in ``robot_config_file`` must
be ``left`` and ``right``, in that order, so that joint names match the cell profile.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import AnyLaunchDescriptionSource, PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CAMERAS = ("scene", "wrist_left", "wrist_right")


def share(package: str, *path: str) -> PathJoinSubstitution:
    """A file in a package's share directory."""
    return PathJoinSubstitution([FindPackageShare(package), *path])


def arguments() -> list[DeclareLaunchArgument]:
    """Everything a user may change, beside the arguments of graph.launch.yaml."""
    declared = [
        ("start_arms", "true", "start the arm driver and its controllers"),
        (
            "robot_config_file",
            share("franka_bringup", "config", "fr3_duo.config.yaml"),
            "the arms' addresses and types",
        ),
        ("controllers_file", share("harmowam_bringup", "config", "controllers.yaml"), "ros2_control parameters"),
        ("start_cameras", "true", "start the RealSense cameras"),
        ("color_profile", "640x480x30", "width, height and rate of the colour streams"),
        ("rviz", "true", "show the cell in rviz"),
        ("rviz_config", share("harmowam_bringup", "rviz", "harmowam.rviz"), "rviz configuration"),
    ]
    serials = [(f"{camera}_serial", "", f"serial number of the {camera} camera; empty takes the first one found") for camera in CAMERAS]
    return [DeclareLaunchArgument(name, default_value=default, description=text) for name, default, text in declared + serials]


def camera_node(camera: str) -> Node:
    """A RealSense camera that publishes /camera/<name>/color/image_raw and camera_info, colour alone."""
    return Node(
        package="realsense2_camera",
        executable="realsense2_camera_node",
        namespace="camera",
        name=camera,
        output="screen",
        respawn=True,
        respawn_delay=2.0,
        condition=IfCondition(LaunchConfiguration("start_cameras")),
        parameters=[
            {
                "camera_name": camera,
                "serial_no": ParameterValue(LaunchConfiguration(f"{camera}_serial"), value_type=str),
                "rgb_camera.color_profile": ParameterValue(LaunchConfiguration("color_profile"), value_type=str),
                "enable_color": True,
                "enable_depth": False,
                "enable_infra1": False,
                "enable_infra2": False,
            }
        ],
    )


def generate_launch_description() -> LaunchDescription:
    """Called by ``ros2 launch``."""
    arms = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(share("franka_bringup", "launch", "fr3_duo.launch.py")),
        launch_arguments={
            "robot_config_file": LaunchConfiguration("robot_config_file"),
            "controllers_yaml": LaunchConfiguration("controllers_file"),
            "controller_name": "arm_controller",
        }.items(),
        condition=IfCondition(LaunchConfiguration("start_arms")),
    )
    graph = IncludeLaunchDescription(AnyLaunchDescriptionSource(share("harmowam_bringup", "launch", "graph.launch.yaml")))
    rviz = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(share("harmowam_bringup", "launch", "rviz.launch.py")),
        launch_arguments={"robot_state_publisher": "false", "rviz_config": LaunchConfiguration("rviz_config")}.items(),  # the driver does
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*arguments(), *(camera_node(camera) for camera in CAMERAS), arms, graph, rviz])
