"""Three cameras at full size and rate through DDS: images must not be lost on the way, and the listing command."""

from __future__ import annotations

import json

import pyrealsense2 as rs
import pytest
from rich.console import Console
from typer.testing import CliRunner

from harmowam_bringup.cameras.bench import MAX_CPU_PERCENT, measure
from harmowam_bringup.cameras.software import SoftwareBus, SoftwareCamera
from harmowam_bringup.cli import app


def test_full_size_images_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Fast DDS's own memory, a fifth to a quarter of them would not. The numbers proper: `harmowam bench camera-node`."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    result = measure(3.0, Console(quiet=True))
    assert result["received"] >= 0.95 * result["sent"] and result["dropped"] <= 0.05 * result["sent"]
    assert 0 < result["cpu_percent"] <= MAX_CPU_PERCENT
    assert set(result["rate_hz"]) == {"scene", "wrist_left", "wrist_right"}


def test_cameras_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    bus = SoftwareBus()
    monkeypatch.setattr(rs, "context", lambda: bus.context)
    none = CliRunner().invoke(app, ["cameras"])
    assert none.exit_code == 1 and "No RealSense camera is connected. Plug it into a USB 3 port" in none.output
    camera = SoftwareCamera("101", usb="2.1")
    bus.plug(camera)
    found = CliRunner().invoke(app, ["cameras"])
    assert found.exit_code == 0 and "101" in found.output and "slow: use a USB 3 port" in found.output
    listed = CliRunner().invoke(app, ["cameras", "--json", "-"])
    assert json.loads(listed.stdout)["cameras"] == [{"serial": "101", "name": "Software D435", "usb": "2.1", "firmware": "5.16.0.1"}]
