"""harmowam profile: the lint, ros2_control's parameters, the robot description, and what a launch file is told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pinocchio as pin
import pytest
import yaml

from harmowam_bringup.cli import main
from harmowam_bringup.profile.lint import lint, lint_controllers, serial_findings
from harmowam_bringup.profile.prepare import ProfileError, Wishes, prepare, required_packages
from harmowam_bringup.profile.ros2_control import controllers, with_hardware
from harmowam_bringup.robot_description import robot_description
from harmowam_core.cell import CELLS_DIR, Cell, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_gate.settings import ArbiterSettings
from harmowam_sim import assets

PROFILES = ("franka_dual", "franka_single", "ur5e_robotiq")

XACRO_STAND_IN = """#!/bin/sh
# Replaces the makers' macros by what they declare: one ros2_control system with the joints in JOINTS.
sed -e "s|</robot>|<ros2_control name='x' type='system'>$JOINTS</ros2_control></robot>|" "$1"
"""


def altered(cell: Cell, **fields: Any) -> Cell:
    """A copy of a cell with fields replaced; no validation."""
    return cell.model_copy(update=fields)


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_that_ship_are_in_order_but_for_serial_numbers(name: str) -> None:
    cell = load_cell(name)
    assert lint(cell) == []
    assert len(list(serial_findings(cell))) == len(cell.cameras)


def test_the_lint_finds_what_is_wrong() -> None:
    cell = load_cell("ur5e_robotiq")
    low = cell.workspace.model_copy(update={"upper": (0.70, 0.40, 0.20)})
    assert lint(altered(cell, workspace=low)) == ["arm 'arm': home is outside the workspace in z (0.300 m)"]
    high = cell.arms[0].model_copy(update={"home_tcp_position": (0.42, 0.13, 0.65)})
    assert "home is nearly singular (condition number 80)" in lint(altered(cell, arms=(high,)))[0]
    far = cell.arms[0].model_copy(update={"home_tcp_position": (2.0, 0.0, 0.3)})
    assert "out of its reach" in lint(altered(cell, arms=(far,)))[0]
    assert "no camera 'wrist_arm'" in lint(altered(cell, cameras=cell.cameras[:1]))[0]
    twins = tuple(camera.model_copy(update={"serial": "7"}) for camera in cell.cameras)
    assert lint(altered(cell, cameras=twins)) == ["two cameras have the serial number 7"]
    elsewhere = cell.controllers.model_copy(update={"arm_topic": "/joint_trajectory_controller/joint_trajectory"})
    assert "can redirect /arm_controller/joint_trajectory alone" in lint(altered(cell, controllers=elsewhere))[0]


@pytest.mark.parametrize("field", ["path_tolerance", "goal_tolerance"])
def test_the_controllers_tolerances_lie_outside_the_arbiters(field: str) -> None:
    cell, tracking = load_cell("franka_single"), ArbiterSettings().tracking_rad
    near, at = (cell.controllers.model_copy(update={field: value}) for value in (tracking - 0.01, tracking))
    [finding] = lint(altered(cell, controllers=near))
    assert finding.startswith(f"controllers.{field} {tracking - 0.01} is below the arbiter's tracking_rad {tracking}")
    assert lint(altered(cell, controllers=at)) == []


@pytest.mark.parametrize("fake", [False, True])
@pytest.mark.parametrize("name", PROFILES)
def test_controllers_have_the_cells_joints_and_every_tolerance(name: str, fake: bool) -> None:
    cell = load_cell(name)
    parameters = controllers(cell, fake)
    assert list(lint_controllers(parameters)) == []
    assert tuple(parameters["arm_controller"]["ros__parameters"]["joints"]) == cell.arm_joint_names
    assert ("gripper_controller" in parameters) == fake


@pytest.mark.parametrize("fake", [False, True])
def test_the_broadcasters_rate_is_a_parameter_of_its_own_node(fake: bool) -> None:
    cell = load_cell("ur5e_robotiq")
    parameters = controllers(cell, fake)
    assert parameters["joint_state_broadcaster"]["ros__parameters"]["update_rate"] == cell.controllers.joint_state_rate
    assert set(parameters["controller_manager"]["ros__parameters"]["joint_state_broadcaster"]) == {"type"}  # reads no rate


@pytest.mark.parametrize("name", PROFILES)
def test_effort_goes_with_gains_of_each_joint_and_never_to_mock_hardware(name: str) -> None:
    cell = load_cell(name)
    real, mock = (controllers(cell, fake)["arm_controller"]["ros__parameters"] for fake in (False, True))
    assert real["command_interfaces"] == [cell.controllers.command_interface] == ["position" if name == "ur5e_robotiq" else "effort"]
    assert mock["command_interfaces"] == ["position"] and "gains" not in mock
    if name == "ur5e_robotiq":
        assert "gains" not in real
    else:
        assert tuple(real["gains"]) == cell.arm_joint_names
        assert real["gains"][cell.arm_joint_names[-1]] == {"p": 50.0, "i": 0.0, "d": 5.0, "i_clamp": 1.0}


def test_every_tolerance_that_is_taken_away_is_found() -> None:
    whole = controllers(load_cell("franka_dual"), fake=True)

    def leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [
            leaf for key, value in node.items() for leaf in (leaves(value, (*path, key)) if isinstance(value, dict) else [(*path, key)])
        ]

    guarded = [path for path in leaves(whole) if "constraints" in path or path[-1] == "cmd_timeout"]
    assert len(guarded) == 2 * 3 + 2 * 14 + 2 * 2
    for path in guarded:
        for value in (None, 0, 0.0, float("nan"), -1.0, True):
            broken = copy.deepcopy(whole)
            owner = broken
            for key in path[:-1]:
                owner = owner[key]
            if value is None:
                del owner[path[-1]]
            else:
                owner[path[-1]] = value
            [finding] = lint_controllers(broken)
            assert path[0] in finding and path[-1] in finding


def test_other_flaws_of_controller_files_are_found() -> None:
    assert "has no controller of type" in next(lint_controllers({}))
    late = controllers(load_cell("franka_dual"), fake=False)
    late["arm_controller"]["ros__parameters"]["cmd_timeout"] = 0.3
    assert "is ignored unless it exceeds" in next(lint_controllers(late))


@pytest.mark.parametrize("name", PROFILES)
def test_the_description_moves_as_the_policy_thinks(name: str) -> None:
    cell = load_cell(name)
    kinematics = Kinematics(cell)
    model = pin.buildModelFromXML(robot_description(cell))
    data, random = model.createData(), np.random.default_rng(0)
    for _ in range(5):
        arms = kinematics.home() + random.uniform(-0.3, 0.3, len(cell.arm_joint_names))
        q = pin.neutral(model)
        for joint, angle in zip(cell.arm_joint_names, arms, strict=True):
            q[model.joints[model.getJointId(joint)].idx_q] = angle
        pin.framesForwardKinematics(model, data, q)
        positions, _ = kinematics.forward(arms)
        for index, arm in enumerate(cell.arm_names):
            assert data.oMf[model.getFrameId(f"{arm}_tcp")].translation == pytest.approx(positions[index], abs=1e-6)
        for camera in cell.cameras:
            frame = data.oMf[model.getFrameId(f"{camera.name}_color_optical_frame")]
            parent = pin.SE3.Identity() if camera.mounted_on is None else data.oMf[model.getFrameId(f"{camera.mounted_on}_tcp")]
            assert parent.actInv(frame).rotation == pytest.approx(camera.rotation, abs=1e-6)


def systems(text: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(text).findall("ros2_control")


@pytest.mark.parametrize("name", PROFILES)
def test_mock_hardware_starts_at_home_with_open_grippers(name: str) -> None:
    cell = load_cell(name)
    [system] = systems(with_hardware(robot_description(cell), cell, fake=True))
    assert system.findtext("hardware/plugin") == "mock_components/GenericSystem"
    assert system.findtext("hardware/param[@name='calculate_dynamics']") == "true"  # a velocity that stays 0 looks like a blocked joint
    starts = {joint.get("name"): float(joint.findtext("state_interface/param") or "nan") for joint in system.findall("joint")}
    assert list(starts) == [*cell.arm_joint_names, *cell.finger_joint_names]
    assert list(starts.values()) == pytest.approx([*Kinematics(cell).home(), *[cell.finger_travel] * len(cell.arms)])


def test_real_hardware_is_described_by_the_makers_macros_once_an_arm() -> None:
    cell = load_cell("franka_dual")
    text = with_hardware(robot_description(cell), cell, fake=False)
    assert systems(text) == [] and text.count("xacro:include") == 1
    calls = [element.attrib for element in ElementTree.fromstring(text) if element.tag.endswith("franka_arm_ros2_control")]
    assert [(call["robot_ip"], call["arm_prefix"]) for call in calls] == [("172.16.0.2", "left_"), ("172.16.0.3", "right_")]
    assert all(call["is_async"] == "true" for call in calls)
    single = load_cell("franka_single")
    assert "is_async" not in with_hardware(robot_description(single), single, fake=False)
    ur = with_hardware(robot_description(load_cell("ur5e_robotiq")), load_cell("ur5e_robotiq"), fake=False)
    assert {joint.get("name") for joint in ElementTree.fromstring(ur).findall("joint")} >= {"robotiq_85_left_knuckle_joint", "elbow_joint"}


# ---- prepare ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def installation(make_package: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All ROS packages that any profile needs, and a xacro that knows the Frankas' joints; returns the folder of xacro."""
    wishes = Wishes(cameras="realsense", rviz=True)
    for package in {name for profile in PROFILES for name in required_packages(load_cell(profile), wishes)}:
        make_package(package)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "xacro").write_text(XACRO_STAND_IN)
    (folder / "xacro").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("JOINTS", "".join(f"<joint name='{joint}'/>" for joint in load_cell("franka_dual").arm_joint_names))
    return folder


def with_serials(tmp_path: Path, name: str = "franka_dual") -> Path:
    content = yaml.safe_load((CELLS_DIR / f"{name}.yaml").read_text())
    for number, camera in enumerate(content["cameras"]):
        camera["serial"] = f"1234{number}"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_real_robot_gets_drivers_controllers_grippers_and_cameras(installation: Path, tmp_path: Path) -> None:
    launch = prepare(with_serials(tmp_path), tmp_path / "out", Wishes(cameras="realsense"))
    assert json.loads((tmp_path / "out/launch.json").read_text()) == launch
    nodes = {(node["executable"], node.get("namespace", "")): node for node in launch["hardware"]}
    assert [node["name"] for node in launch["hardware"] if node["package"] == "realsense2_camera"] == ["scene", "wrist_left", "wrist_right"]
    assert nodes["realsense2_camera_node", "/camera"]["parameters"][0]["serial_no"] == "_12342"
    assert nodes["realsense2_camera_node", "/camera"]["parameters"][0]["publish_tf"] is False  # robot.urdf has the camera's frames
    assert nodes["franka_gripper_node", "/right"]["parameters"][0]["robot_ip"] == "172.16.0.3"
    assert nodes["franka_gripper_node", "/right"]["parameters"][0]["joint_names"][0] == "right_fr3_finger_joint1"
    assert {executable for (executable, _), node in nodes.items() if node.get("respawn")} == {
        "franka_gripper_node", "gripper_node", "realsense2_camera_node"
    }  # fmt: skip
    assert nodes["spawner", ""]["arguments"][:2] == ["joint_state_broadcaster", "arm_controller"]
    assert nodes["gripper_node", ""]["parameters"] == [
        {"cell": "franka_dual", "dry_run": False, "assume_open": False, "arm_states": "/joint_state_broadcaster/joint_states"}
    ]
    written = yaml.safe_load((tmp_path / "out/controllers.yaml").read_text())
    assert written["joint_state_broadcaster"]["ros__parameters"]["use_local_topics"] is True
    assert load_cell(tmp_path / "out/cells/franka_dual.yaml").camera("scene").serial == "12340"
    described = yaml.safe_load((tmp_path / "out/robot_state_publisher.yaml").read_text())["/**"]["ros__parameters"]["robot_description"]
    assert described == (tmp_path / "out/robot.urdf").read_text()


def test_a_dry_run_loads_no_controller_that_moves(installation: Path, tmp_path: Path) -> None:
    for fake in (False, True):
        launch = prepare("franka_dual", tmp_path / "out", Wishes(cameras="none", dry_run=True, fake_hardware=fake))
        [spawner] = [node for node in launch["hardware"] if node["executable"] == "spawner"]
        assert spawner["arguments"][0] == "joint_state_broadcaster" and spawner["arguments"][1] == "--param-file"
        assert all(node["parameters"][0]["dry_run"] for node in launch["hardware"] if node["executable"] == "gripper_node")


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_dry_run_does_not_activate_a_gripper(installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry_run: bool) -> None:
    arm = "".join(f"<joint name='{joint}'/>" for joint in load_cell("ur5e_robotiq").arm_joint_names)
    hand = "<ros2_control name='robotiq' type='system'><joint name='robotiq_85_left_knuckle_joint'/>"
    monkeypatch.setenv("JOINTS", f"{arm}</ros2_control>{hand}")
    launch = prepare("ur5e_robotiq", tmp_path / "out", Wishes(preset="none", cameras="none", dry_run=dry_run))
    manager = yaml.safe_load((tmp_path / "out/controllers.yaml").read_text())["controller_manager"]["ros__parameters"]
    assert manager.get("hardware_components_initial_state") == ({"unconfigured": ["robotiq"]} if dry_run else None)
    assert launch["hardware"][-1]["parameters"][0]["assume_open"] == dry_run  # nothing measures it: the start-up would wait in vain


def test_mock_hardware_needs_no_makers_package_and_moves_fingers_by_trajectory(make_package: Callable[..., Path], tmp_path: Path) -> None:
    for package in ("controller_manager", "joint_trajectory_controller", "joint_state_broadcaster", "robot_state_publisher"):
        make_package(package)
    launch = prepare("ur5e_robotiq", tmp_path / "out", Wishes(preset="none", cameras="none", fake_hardware=True))
    assert [node["executable"] for node in launch["hardware"]] == ["robot_state_publisher", "ros2_control_node", "spawner"]
    assert launch["hardware"][2]["arguments"][:3] == ["joint_state_broadcaster", "arm_controller", "gripper_controller"]


def test_without_arms_nothing_is_started_that_could_move_them(tmp_path: Path) -> None:
    assert prepare("franka_dual", tmp_path, Wishes(arms=False, cameras="none"))["hardware"] == []


def test_missing_packages_are_named_with_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProfileError, match=r"realsense2_camera: apt install ros-jazzy-realsense2-camera") as caught:
        prepare(with_serials(tmp_path), tmp_path / "out", Wishes(cameras="realsense"))
    assert "franka_hardware: build franka_hardware from source" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", ["compact", "wan2_2_5b"])
def test_a_preset_of_another_cell_is_refused(preset: str, tmp_path: Path) -> None:
    message = f"preset '{preset}' was trained for the cell 'franka_dual' and cannot drive 'ur5e_robotiq'"
    with pytest.raises(ProfileError, match=message):
        prepare("ur5e_robotiq", tmp_path, Wishes(preset=preset, cameras="none", fake_hardware=True))


def test_cameras_without_serial_numbers_are_refused_where_we_start_them(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"camera 'wrist_left' has no serial number; read it with `harmowam cameras`"):
        prepare("franka_dual", tmp_path, Wishes(arms=False))


def calibrated(tmp_path: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    path = with_serials(tmp_path)
    content = yaml.safe_load(path.read_text())
    for camera in content["cameras"]:
        if camera["name"] in sizes:
            camera["width"], camera["height"] = sizes[camera["name"]]
            pose = {"position": [0.0] * 3, "orientation": [0.0, 0.0, 0.0, 1.0]}
            camera["calibration"] = {"fx": 900.0, "fy": 900.0, "cx": 640.0, "cy": 360.0, **pose}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(("sizes", "size"), [({}, (640, 480)), ({"scene": (1280, 720)}, (1280, 720))])
def test_cameras_run_at_the_size_they_were_calibrated_at(
    installation: Path, tmp_path: Path, sizes: dict[str, tuple[int, int]], size: tuple[int, int]
) -> None:
    profile = calibrated(tmp_path, sizes)
    [ours] = prepare(profile, tmp_path / "ours", Wishes(arms=False))["hardware"]
    assert ours["parameters"] == [{"cell": "franka_dual", "width": size[0], "height": size[1]}]
    theirs = prepare(profile, tmp_path / "theirs", Wishes(arms=False, cameras="realsense"))["hardware"]
    streams = [node["parameters"][0]["rgb_camera.color_profile"] for node in theirs]
    assert streams == [f"{size[0]}x{size[1]}x30", "640x480x30", "640x480x30"]


def test_our_camera_node_refuses_cameras_of_different_sizes(installation: Path, tmp_path: Path) -> None:
    profile = calibrated(tmp_path, {"scene": (1280, 720), "wrist_left": (640, 480)})
    with pytest.raises(ProfileError, match="calibrated at 640x480 and 1280x720.*take cameras:=realsense"):
        prepare(profile, tmp_path / "ours", Wishes(arms=False))
    assert len(prepare(profile, tmp_path / "theirs", Wishes(arms=False, cameras="realsense"))["hardware"]) == 3


def test_a_driver_that_does_not_know_the_joints_is_refused(installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTS", "<joint name='left_fr3_joint1'/>")
    with pytest.raises(ProfileError, match="the driver knows no joint left_fr3_joint2"):
        prepare("franka_dual", tmp_path / "out", Wishes(cameras="none"))
    (installation / "xacro").write_text("#!/bin/sh\necho 'unknown macro name' >&2; exit 2\n")
    with pytest.raises(ProfileError, match=r"do driver.macros fit the installed franka_hardware.*\nunknown macro name"):
        prepare("franka_dual", tmp_path / "out", Wishes(cameras="none"))


def test_unknown_camera_choice_is_refused() -> None:
    with pytest.raises(ProfileError, match="cameras is 'webcam', expected one of harmowam, realsense, none"):
        Wishes(cameras="webcam")  # type: ignore[arg-type]


# ---- the command -----------------------------------------------------------------------------------------------------------


def call(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0), capsys.readouterr().out


def test_check_exits_with_one_where_a_tolerance_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["profile", "check", "franka_single"], capsys)[0] == 0
    parameters = controllers(load_cell("franka_single"), fake=False)
    parameters["arm_controller"]["ros__parameters"]["constraints"]["goal_time"] = 0
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(parameters))
    code, said = call(["profile", "check", "franka_single", "--controllers", str(tmp_path / "mine.yaml"), "--json"], capsys)
    assert code == 1 and "constraints.goal_time is 0, which means off" in json.loads(said)["findings"][0]


def test_list_tells_which_preset_fits(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = call(["profile", "list", "--json"], capsys)
    presets = {name: entry["presets"] for name, entry in json.loads(said).items()}
    assert code == 0 and presets == {"franka_dual": ["compact", "wan2_2_5b"], "franka_single": [], "ur5e_robotiq": []}


def test_prepare_ends_with_two_and_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = call(["profile", "prepare", "--out", str(tmp_path / "out"), "ur5e_robotiq"], capsys)
    assert code == 2 and "cannot drive 'ur5e_robotiq'" in said


def test_what_a_user_can_mend_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "mine.yaml"
    bad.write_text("name: mine\n\tarms: []\n")
    for words in (["check", str(bad)], ["check", "--controllers", str(bad)]):
        code, said = call(["profile", *words], capsys)
        assert code == 2 and str(bad) in "".join(said.split()) and "line 2" in said, said
    monkeypatch.setenv("HARMOWAM_CACHE", str(tmp_path))
    monkeypatch.setattr(assets, "SOURCE", ("no_such_package", "meshes"))
    with pytest.raises(SystemExit, match="2"):
        main(["urdf"])
    assert "pip install no_such_package" in " ".join(capsys.readouterr().err.split())
