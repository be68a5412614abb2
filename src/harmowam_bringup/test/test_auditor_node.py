"""The auditor over DDS, and who may publish."""

from __future__ import annotations

import json
import time
from threading import Event

import pytest
from std_msgs.msg import String
from trajectories import ARM_TOPIC, HOME, move, parting
from trajectory_msgs.msg import JointTrajectory

from harmowam_bringup.auditor import Rule
from harmowam_bringup.auditor.auditor_node import AuditorNode
from harmowam_bringup.auditor.authority import GHOST_S, Authority
from harmowam_core import topics
from harmowam_core.health import Level
from harmowam_core.qos import COMMAND, LATCHED
from harmowam_core.testing import graph, wait_for


def test_the_node_judges_reports_and_counts_publishers() -> None:
    with graph(AuditorNode) as (cell, [node]):
        cell.listen(String, topics.AUDITOR_VERDICT, LATCHED)
        arms = cell.create_publisher(JointTrajectory, ARM_TOPIC, COMMAND)
        wait_for(lambda: node.active and arms.get_subscription_count(), "active auditor")

        def verdict() -> dict:
            heard = cell.heard[topics.AUDITOR_VERDICT]
            return json.loads(heard[-1].data) if heard else {}

        def send(**options: object) -> None:
            arms.publish(move(stamp_ns=cell.get_clock().now().nanoseconds, **options))

        send()
        wait_for(lambda: verdict().get("trajectories") == 1, "first verdict")
        assert verdict() == {"trajectories": 1, "violations": 0, "by_rule": {}, "first": []}
        wait_for(lambda: cell.diagnosis("auditor")[0] == Level.WARN, "diagnostics")
        assert "/gripper_controller/joint_trajectory: nobody publishes it" in cell.diagnosis("auditor")[1]

        # The first one may still run, in any case it does not lead there; and the cell's other joint states do not explain it.
        send(begin=HOME + 0.2)
        wait_for(lambda: verdict()["by_rule"].get("position_jump") == 1, "verdict on a jump")
        assert verdict()["first"][0].startswith("arm #1 ")
        wait_for(lambda: "position_jump: 1 times" in cell.diagnosis("auditor")[1], "fault")
        assert cell.diagnosis("auditor")[0] == Level.ERROR

        assert "second_publisher" not in verdict()["by_rule"]
        # A node of the same process has another name only as another node: the auditor itself serves as the rogue.
        node.create_publisher(JointTrajectory, ARM_TOPIC, COMMAND)
        wait_for(lambda: verdict()["by_rule"].get("second_publisher") == 1, "verdict on the second publisher")
        assert any("/auditor, /fake_cell" in text for text in verdict()["first"])


@pytest.mark.parametrize(("busy", "expected"), [("publisher", True), ("auditor", False)])
def test_late_is_what_was_published_late(busy: str, expected: bool) -> None:
    """An auditor that takes a trajectory late, because its process was busy, does not blame the publisher."""
    with graph(AuditorNode) as (cell, [node]):
        arms = cell.create_publisher(JointTrajectory, ARM_TOPIC, COMMAND)
        wait_for(lambda: node.active and arms.get_subscription_count(), "active auditor")
        begun_ns, sleeping = cell.get_clock().now().nanoseconds, Event()
        arms.publish(move(stamp_ns=begun_ns))
        wait_for(lambda: node.auditor.verdict.trajectories == 1, "first verdict")

        def sleep() -> None:
            timer.cancel()
            sleeping.set()
            time.sleep(0.5)

        if busy == "auditor":
            timer = node.create_timer(0.001, sleep)
            assert sleeping.wait(5.0)
        due_ns = begun_ns + (400 if busy == "publisher" else 200) * 1_000_000
        time.sleep(max(0.0, (due_ns - cell.get_clock().now().nanoseconds) * 1e-9))
        arms.publish(parting(begun_ns))
        wait_for(lambda: node.auditor.verdict.trajectories == 2, "second verdict")
        assert (Rule.POSITION_JUMP in node.auditor.verdict.by_rule) is expected, node.auditor.verdict.first


def test_one_publisher_or_none_is_fine_and_several_are_told_once() -> None:
    authority = Authority("/arm")
    assert authority.update([], 0.0) is authority.update(["/arbiter"], 1.0) is None
    found = authority.update(["/rogue", "/arbiter"], 2.0)
    assert found is not None and (found.rule, found.part, found.measured) == (Rule.SECOND_PUBLISHER, "/arm (/arbiter, /rogue)", 2)
    assert authority.update(["/arbiter", "/rogue"], 3.0) is None
    assert authority.update(["/arbiter"], 4.0) is None
    assert authority.update(["/arbiter", "/rogue"], 5.0) is not None


@pytest.mark.parametrize(("seconds", "told"), [(GHOST_S - 1, False), (GHOST_S + 1, True)])
def test_a_killed_publisher_lingers_under_the_name_of_its_successor(seconds: float, told: bool) -> None:
    authority = Authority("/arm")
    assert authority.update(["/arbiter", "/arbiter"], 100.0) is None
    assert (authority.update(["/arbiter", "/arbiter"], 100.0 + seconds) is not None) is told


def test_one_killed_again_and_again_may_linger_each_time() -> None:
    authority = Authority("/arm")
    for at_s in range(0, 100, 10):
        assert authority.update(["/arbiter"] * 2, at_s) is authority.update(["/arbiter"] * 3, at_s + 1.0) is None
    assert authority.update(["/arbiter"] * 2, 91.0 + GHOST_S + 1) is not None
