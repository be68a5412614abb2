"""The rviz configuration against what the nodes really publish: every topic is there, of the display's type, with a quality of service that fits."""

from __future__ import annotations

from pathlib import Path

import yaml
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from harmowam_core.cell import load_cell
from harmowam_core.testing import graph, wait_for
from harmowam_gate.arbiter_node import ArbiterNode
from harmowam_sim.cell_node import CellNode
from harmowam_world_model.world_model_node import WorldModelNode

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "rviz/harmowam.rviz").read_text())
DISPLAYS = [display for display in CONFIG["Visualization Manager"]["Displays"] if display["Class"] != "rviz_default_plugins/Grid"]
TYPES = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
}
ROBOT = "rviz_default_plugins/RobotModel"
RELIABILITY = {"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"Volatile": DurabilityPolicy.VOLATILE, "Transient Local": DurabilityPolicy.TRANSIENT_LOCAL}


def profile(topic: dict[str, object]) -> QoSProfile:
    """As rviz will subscribe."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=topic["Depth"],
        reliability=RELIABILITY[topic["Reliability Policy"]],
        durability=DURABILITY[topic["Durability Policy"]],
    )


def test_every_display_shows_what_a_node_publishes() -> None:
    with graph(CellNode, lambda: WorldModelNode(object()), lambda: ArbiterNode(object())) as (ear, nodes):
        wait_for(lambda: all(node.active for node in nodes), "active nodes", timeout_s=60.0)
        for display in DISPLAYS:
            if display["Class"] == ROBOT:
                continue
            topic = display["Topic"]
            offered = wait_for(lambda topic=topic: ear.get_publishers_info_by_topic(topic["Value"]), f"publisher of {topic['Value']}")
            ours = [info for info in offered if info.node_name != ear.get_name()]
            assert [info.topic_type for info in ours] == [TYPES[display["Class"]]], topic["Value"]
            compatible, why = qos_check_compatible(ours[0].qos_profile, profile(topic))
            assert compatible != QoSCompatibility.ERROR, f"{topic['Value']}: {why}"


def test_all_that_an_operator_needs_is_on_and_opens_in_the_base_frame() -> None:
    cell = load_cell()
    shown = {display.get("Topic", display.get("Description Topic"))["Value"] for display in DISPLAYS}
    cameras = {f"/camera/{camera.name}/color/image_raw" for camera in cell.cameras}
    assert shown == {"/robot_description", "/harmowam/markers", "/harmowam/world_model/preview", *cameras}
    assert all(display["Enabled"] and display["Value"] for display in DISPLAYS)
    assert CONFIG["Visualization Manager"]["Global Options"]["Fixed Frame"] == cell.base_frame
    [robot] = [display for display in DISPLAYS if display["Class"] == ROBOT]
    assert robot["Description Topic"]["Durability Policy"] == "Transient Local"  # as robot_state_publisher offers it
