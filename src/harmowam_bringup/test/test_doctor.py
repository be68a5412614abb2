"""The doctor finds what is there, what is not, and says how to get it."""

from __future__ import annotations

import importlib.metadata
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harmowam_bringup import doctor
from harmowam_bringup.doctor import Check, Status
from harmowam_core.presets import load_preset


def script(path: Path, body: str) -> str:
    """An executable stand-in for a system tool."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_python_versions() -> None:
    assert doctor.check_python((3, 12, 1)).status is Status.OK
    old = doctor.check_python((3, 9, 0))
    assert old.status is Status.MISSING and "3.11 or 3.12" in old.remedy


def test_packages_are_compared_with_their_pins(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# comment\nalpha==1.0  # why\nbeta==2.0\ngamma==3.0\n")
    installed = {"alpha": "1.0+cpu", "beta": "2.0", "gamma": "3.0"}

    def version_of(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    assert doctor.check_packages([requirements], version_of) == Check("Python packages", Status.OK, "3 as pinned")
    installed["beta"] = "2.1"
    del installed["gamma"]
    bad = doctor.check_packages([requirements], version_of)
    assert bad.status is Status.MISSING and bad.remedy == "make setup"
    assert bad.found == "absent: gamma; other version: beta 2.1 (pinned 2.0)"


def test_system_packages_that_are_absent_are_named(tmp_path: Path) -> None:
    wanted = tmp_path / "apt-packages.txt"
    wanted.write_text("cmake  # builds\nlibegl1\n\n# end\n")
    dpkg = script(tmp_path / "dpkg-query", "echo cmake installed; echo libegl1 not-installed")
    bad = doctor.check_apt(wanted, dpkg)
    assert (bad.status, bad.found, bad.remedy) == (Status.MISSING, "absent: libegl1", "sudo apt-get install libegl1")
    dpkg = script(tmp_path / "dpkg-query", "echo cmake installed; echo libegl1 installed")
    assert doctor.check_apt(wanted, dpkg).status is Status.OK
    assert doctor.check_apt(wanted, None).status is Status.OPTIONAL


def test_ros_of_another_distribution_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    assert doctor.check_ros().status is Status.OK
    monkeypatch.setenv("ROS_DISTRO", "humble")
    assert doctor.check_ros().status is Status.MISSING
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "rclpy does not import" in doctor.check_ros().found


def test_workspace_must_be_built_and_sourced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "install" / "share" / "harmowam_bringup").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    assert doctor.check_workspace().status is Status.OK
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "elsewhere"))
    assert doctor.check_workspace().remedy == "source setup.bash"
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert "harmowam_msgs does not import" in doctor.check_workspace().found


def test_rendering_draws_for_real_and_explains_failure() -> None:
    assert doctor.check_rendering().status is Status.OK
    bad = doctor.check_rendering(("no-such-library",))
    assert bad.status is Status.MISSING and "no-such-library" in bad.found and "libosmesa6" in bad.remedy


def test_weights_must_be_there_and_whole(tmp_path: Path) -> None:
    fingerprint = {"fingerprint": load_preset("compact").fingerprint()}
    names = ("world_model", "predictive_expert", "reactive_expert", "gate")
    for count, name in enumerate(names):
        lacks = [f"{missing}.safetensors" for missing in names[count:]]
        assert doctor.check_weights(tmp_path).found == f"{tmp_path} lacks {', '.join(lacks)}"
        path = tmp_path / f"{name}.safetensors"
        save_file({"w": np.zeros(100, np.float32)}, path, fingerprint)
    assert doctor.check_weights(tmp_path).status is Status.OK
    save_file({"w": np.zeros(100, np.float32)}, path, {"fingerprint": "older"})
    assert "another version of the preset" in doctor.check_weights(tmp_path).found
    path.write_bytes(path.read_bytes()[:-10])
    bad = doctor.check_weights(tmp_path)
    assert bad.status is Status.MISSING and f"{path} is damaged" in bad.found


def test_gpu_is_optional(tmp_path: Path) -> None:
    assert doctor.check_gpu(None).status is Status.OPTIONAL
    assert doctor.check_gpu(script(tmp_path / "smi", "echo 'L4, 24 GB'")) == Check("NVIDIA GPU", Status.OK, "L4, 24 GB")
    assert doctor.check_gpu(script(tmp_path / "smi", "echo no driver >&2; exit 9")).found == "no driver"


def test_optional_modules() -> None:
    assert doctor.check_module("X", ("no_such_module", "json"), "pip install x").found == "json"
    assert doctor.check_module("X", ("no_such_module",), "pip install x") == Check("X", Status.OPTIONAL, "not installed", "pip install x")


def test_the_checkout_is_found_through_links(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    for mark in doctor.ROOT_MARKS:
        (root / mark).touch()
    (root / "src" / "doctor.py").touch()
    (tmp_path / "link.py").symlink_to(root / "src" / "doctor.py")
    assert doctor.project_root(tmp_path / "link.py") == root
    assert doctor.project_root(tmp_path / "other.py") is None


@pytest.mark.parametrize(("status", "code"), [(Status.OK, 0), (Status.OPTIONAL, 0), (Status.MISSING, 1)])
def test_report_and_exit_code(status: Status, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "checks", lambda: iter([Check("Thing", status, "found [x]", "get it")]))
    assert doctor.main(json=True) == code
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    assert report["checks"] == [{"name": "Thing", "status": status.value, "found": "found [x]", "remedy": "get it"}]
    assert doctor.main() == code
    assert "found [x]" in capsys.readouterr().out


def test_all_checks_run_here() -> None:
    found = {check.name: check for check in doctor.checks()}
    assert {"Python", "Python packages", "System packages", "ROS 2", "Workspace", "MuJoCo rendering", "Weights"} <= found.keys()
    assert all(check.remedy for check in found.values() if check.status is not Status.OK)
