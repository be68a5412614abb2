"""``harmowam drill`` against a whole graph of stand-ins that was started with drill:=true, and against none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sensor_msgs.msg import JointState
from typer.testing import CliRunner

from harmowam_bringup import session
from harmowam_bringup.cli import app
from harmowam_bringup.drill.modes import MODES
from harmowam_bringup.drill.relayed import relayed_topics
from harmowam_bringup.launch_yaml import read_launch
from harmowam_bringup.session import GraphSession
from harmowam_core import topics
from harmowam_core.cell import load_cell
from harmowam_core.qos import SENSOR

run = CliRunner().invoke


def test_topics_of_a_running_graph_are_listed_broken_and_healed(stand_ins: Path, tmp_path: Path, domain_id: int) -> None:
    launch = read_launch(stand_ins / "harmowam_bringup/share/harmowam_bringup/launch/sim.launch.yaml", {"drill": "true"})
    with GraphSession(launch, tmp_path / "nodes.log", domain_id) as running:
        running.wait_active(120)
        assert running.execute("put the banana on the plate", 30.0).outcome.name == "SUCCEEDED"  # chunks pass
        came: list[JointState] = []
        running.node.create_subscription(JointState, topics.JOINT_STATES, came.append, SENSOR)
        running.spin(lambda: came, 10.0, "joint states through the relay")

        listed = run(app, ["drill", "--json", "-"])
        assert listed.exit_code == 0, listed.output
        found = json.loads(listed.stdout)
        assert found["topics"] == sorted(relayed_topics(load_cell())) and list(found["modes"]) == list(MODES) and found["now"] == "ok"
        shown = run(app, ["drill"])
        assert shown.exit_code == 0 and topics.JOINT_STATES in shown.output and "now: ok" in shown.output

        broken = run(app, ["drill", "/joint_states", "off"])
        assert broken.exit_code == 0 and broken.output == "/joint_states: off\n"
        running.spin_for(0.5)
        came.clear()
        running.spin_for(1.0)
        assert not came
        running.spin(lambda: running.nodes["/relay"].message == "/joint_states: off", 10.0, "the fault in the diagnostics")
        late = run(app, ["drill", "/joint_states", "delayed", "--value", "0.1", "--seconds", "60", "--json", "-"])
        assert json.loads(late.stdout) == {
            "topic": "/joint_states", "mode": "delayed", "value": 0.1, "duration_s": 60.0,
            "message": "/joint_states: delayed 0.1 (delay, s) for 60 s",
        }  # fmt: skip
        assert run(app, ["drill", "clear"]).output == "all: pass\n"
        running.spin(lambda: came, 10.0, "joint states")

        for words, message in (
            (["/joint_state", "off"], "unknown topic '/joint_state'; known: all, "),
            (["/joint_states", "broken"], "unknown mode 'broken'; known: pass, off, "),
            (["/joint_states", "slow", "--value", "-1"], "slow takes a number from 0.01"),
            (["/camera/scene/color/camera_info", "off"], "nobody publishes /relay/camera/scene/color/camera_info"),  # as the stand-in cell
        ):
            refused = run(app, ["drill", *words])
            assert refused.exit_code == 2 and message in refused.output, refused.output


@pytest.mark.usefixtures("domain_id")
def test_without_a_relay_it_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_S", 0.5)
    for words in ([], ["clear"], ["/joint_states", "off"]):
        result = run(app, ["drill", *words])
        assert result.exit_code == 3 and "start the graph with drill:=true" in result.output


def test_a_topic_needs_a_mode() -> None:
    result = run(app, ["drill", "/joint_states"])
    assert result.exit_code == 2 and "give a mode: pass, off, stuck" in result.output
