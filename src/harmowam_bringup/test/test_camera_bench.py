"""Three cameras at full size and rate through DDS: images must not be lost on the way, and the listing command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyrealsense2 as rs
import pytest
from typer.testing import CliRunner

from harmowam_bringup.cameras.bench import MAX_CPU_PERCENT
from harmowam_bringup.cameras.software import SoftwareBus, SoftwareCamera
from harmowam_bringup.cli import app


def test_full_size_images_arrive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With Fast DDS's own memory, half of them would not. In a process of its own: profiles are read once a process."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    words = ["bench", "camera-node", "--seconds", "3", "--json", str(tmp_path / "result.json")]
    subprocess.run([sys.executable, "-c", "from harmowam_bringup.cli import main; main()", *words], check=True, timeout=60)
    result = json.loads((tmp_path / "result.json").read_text())
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
