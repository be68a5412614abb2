"""The rviz configuration against what the nodes really publish: topics, types and qualities of service."""

from __future__ import annotations

from pathlib import Path

import yaml
from rclpy.qos import QoSCompatibility, qos_check_compatible

from harmowam_bringup.watch.rviz_load import subscriptions
from harmowam_core.cell import load_cell
from harmowam_core.testing import graph, wait_for
from harmowam_gate.arbiter_node import ArbiterNode
from harmowam_sim.cell_node import CellNode
from harmowam_world_model.world_model_node import WorldModelNode

FILE = Path(__file__).parents[1] / "rviz/harmowam.rviz"
CONFIG = yaml.safe_load(FILE.read_text())
DISPLAYS = [display for display in CONFIG["Visualization Manager"]["Displays"] if display["Class"] != "rviz_default_plugins/Grid"]
ROBOT = "rviz_default_plugins/RobotModel"


def test_every_display_shows_what_a_node_publishes() -> None:
    with graph(CellNode, lambda: WorldModelNode(object()), lambda: ArbiterNode(object())) as (ear, nodes):
        wait_for(lambda: all(node.active for node in nodes), "active nodes", timeout_s=60.0)
        for topic, (kind, qos) in subscriptions(FILE).items():
            offered = wait_for(lambda topic=topic: ear.get_publishers_info_by_topic(topic), f"publisher of {topic}")
            [ours] = [info for info in offered if info.node_name != ear.get_name()]
            assert ours.topic_type == f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}", topic
            compatible, why = qos_check_compatible(ours.qos_profile, qos)
            assert compatible != QoSCompatibility.ERROR, f"{topic}: {why}"


def test_all_that_an_operator_needs_is_on_and_opens_in_the_base_frame() -> None:
    cell = load_cell()
    shown = {display.get("Topic", display.get("Description Topic"))["Value"] for display in DISPLAYS}
    cameras = {f"/camera/{camera.name}/color/image_raw" for camera in cell.cameras}
    assert shown == {"/robot_description", "/harmowam/markers", "/harmowam/world_model/preview", *cameras}
    assert len(subscriptions(FILE)) == len(DISPLAYS) - 1  # each but the robot
    assert all(display["Enabled"] and display["Value"] for display in DISPLAYS)
    assert CONFIG["Visualization Manager"]["Global Options"]["Fixed Frame"] == cell.base_frame
    [robot] = [display for display in DISPLAYS if display["Class"] == ROBOT]
    assert robot["Description Topic"]["Durability Policy"] == "Transient Local"  # as robot_state_publisher offers it
