"""The workstation images as far as they can be judged without Docker: lint, user, and package lists against what the code needs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from test_packages import PACKAGES, ROOT, manifest, modules_in

from harmowam_bringup.profile.prepare import REMEDIES, Wishes, required_packages
from harmowam_core.cell import CELLS_DIR, load_cell

assert ROOT is not None
DOCKER = ROOT / "docker"
BASE = {
    "action_msgs", "ament_index_python", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "launch", "launch_ros", "lifecycle_msgs",
    "rcl_interfaces", "rclpy", "rosgraph_msgs", "rosidl_default_runtime", "sensor_msgs", "std_msgs", "std_srvs", "trajectory_msgs",
    "visualization_msgs",
}  # fmt: skip
"""ROS packages that come with ros-jazzy-ros-base, as far as ours name them."""
FROM_SOURCE = {
    "franka_hardware", "franka_description", "franka_gripper", "franka_msgs",
    "robotiq_driver", "robotiq_description", "robotiq_controllers",
}  # fmt: skip
"""No Debian packages of Jazzy; docs/operator.md tells how they are built."""
MODULES = {"cv_bridge": "cv_bridge", "moveit": "moveit_py", "moveit_msgs": "moveit", "control_msgs": "control_msgs", "tf2_ros": "tf2_ros"}
"""ROS packages that the wheels lack, by the module that is imported where they are installed."""


def listed() -> set[str]:
    """ROS package names of docker/ros-packages.txt."""
    lines = [line.split("#")[0].strip() for line in (DOCKER / "ros-packages.txt").read_text().splitlines()]
    names = [line for line in lines if line]
    assert names == sorted(set(names)) and all(name.startswith("ros-jazzy-") for name in names)
    return {name.removeprefix("ros-jazzy-").replace("-", "_") for name in names}


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run(["hadolint", "--no-color", str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_package_that_a_profile_starts_is_installed() -> None:
    for path in sorted(CELLS_DIR.glob("*.yaml")):
        needed = set(required_packages(load_cell(path), Wishes(cameras="realsense", rviz=True)))
        assert needed - FROM_SOURCE <= listed(), path.name
        assert needed - FROM_SOURCE <= set(REMEDIES), path.name  # `apt install` is the remedy of these, and of these alone
        assert not needed & FROM_SOURCE & set(REMEDIES), path.name


def test_every_ros_package_that_ours_depend_on_is_installed() -> None:
    own = {path.parent.name for path in (ROOT / "src").glob("*/package.xml")}  # type: ignore[union-attr]
    declared = {str(element.text) for package in PACKAGES for element in manifest(package).findall("exec_depend")}
    ros = {name for name in declared - own if not name.startswith("python3-")}
    assert ros - BASE <= listed()


def test_every_optional_ros_module_that_the_code_imports_is_installed() -> None:
    imported = set().union(*(modules_in(path) for package in PACKAGES for path in (package / package.name).rglob("*.py")))
    assert {package for module, package in MODULES.items() if module in imported} <= listed()


def test_python_packages_are_those_of_the_pinned_lists() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    for name in ("requirements.txt", "requirements-assets.txt", "constraints.txt", "apt-packages.txt", "docker/ros-packages.txt"):
        assert name in text and (ROOT / name).is_file()  # type: ignore[operator]
    for installed in re.findall(r"pip install(.*)", text):
        assert "-r requirements" in installed or re.fullmatch(r"( --no-cache-dir)? \S+==[\d.]+", installed), installed


def test_nothing_runs_as_root() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    users = [index for index, line in enumerate(lines) if line.startswith("USER ")]
    assert [lines[index] for index in users] == ["USER ${USER_ID}:${GROUP_ID}"]
    assert all("apt-get" not in line for line in lines[users[0] :])


@pytest.mark.parametrize(("sourced", "sources"), [("", True), ("/somewhere/ros", False)])
def test_the_workspace_sources_an_installed_ros_unless_a_shell_has(tmp_path: Path, sourced: str, sources: bool) -> None:
    """The official image sets ROS_DISTRO and sources nothing. A copy of setup.bash, with a stand-in for /opt/ros."""
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "setup.bash").write_text(f"export AMENT_PREFIX_PATH={tmp_path}/opt\n")
    text = (ROOT / "setup.bash").read_text().replace("/opt/ros/jazzy", str(tmp_path / "opt"))  # type: ignore[operator]
    (tmp_path / "setup.bash").write_text(text)
    told = subprocess.run(
        ["bash", "-ec", 'source "$0"/setup.bash && echo "$AMENT_PREFIX_PATH"', str(tmp_path)],
        env={"PATH": "/usr/bin:/bin", "ROS_DISTRO": "jazzy"} | ({"AMENT_PREFIX_PATH": sourced} if sourced else {}),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == (f"{tmp_path}/opt" if sources else sourced)


@pytest.mark.parametrize("service", ["cpu", "cuda"])
def test_services_have_real_time_usb_and_a_display(service: str) -> None:
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"][service]
    assert compose["ulimits"] == {"rtprio": 99, "memlock": -1} and compose["cap_add"] == ["SYS_NICE"]
    assert "/dev:/dev" in compose["volumes"] and any(rule.startswith("c 189:") for rule in compose["device_cgroup_rules"])
    assert {"DISPLAY", "WAYLAND_DISPLAY", "ROS_DOMAIN_ID"} <= set(compose["environment"])
    stages = re.findall(r"^FROM \S+ AS (\w+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert compose["build"]["target"] == service and service in stages and Path(compose["build"]["context"]) == Path("..")
    assert compose.get("privileged") is None
