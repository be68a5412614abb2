"""What rviz with our configuration, and robot_state_publisher, subscribe to: their load on the graph, without rviz."""

from __future__ import annotations

from pathlib import Path

import rclpy
import yaml
from ament_index_python.packages import get_package_share_directory
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from visualization_msgs.msg import MarkerArray

from harmowam_core import topics
from harmowam_core.qos import SENSOR

KINDS = {"rviz_default_plugins/Image": Image, "rviz_default_plugins/MarkerArray": MarkerArray}
RELIABILITY = {"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"Volatile": DurabilityPolicy.VOLATILE, "Transient Local": DurabilityPolicy.TRANSIENT_LOCAL}


def subscriptions(config: Path) -> dict[str, tuple[type, QoSProfile]]:
    """Topic to type and quality of service, as the displays that our nodes feed subscribe."""
    displays = yaml.safe_load(config.read_text())["Visualization Manager"]["Displays"]
    return {
        topic["Value"]: (
            KINDS[display["Class"]],
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=topic["Depth"],
                reliability=RELIABILITY[topic["Reliability Policy"]],
                durability=DURABILITY[topic["Durability Policy"]],
            ),
        )
        for display in displays
        if display["Class"] in KINDS and (topic := display["Topic"])
    }


def main() -> None:
    """Listen until interrupted; messages stay serialized, as decoding them in Python would cost more than rviz does."""
    rclpy.init()
    node = Node("rviz_load")
    config = Path(get_package_share_directory("harmowam_bringup")) / "rviz/harmowam.rviz"
    for topic, (kind, qos) in subscriptions(config).items():
        node.create_subscription(kind, topic, lambda data: None, qos, raw=True)
    node.create_subscription(JointState, topics.JOINT_STATES, lambda data: None, SENSOR, raw=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
