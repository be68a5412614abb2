"""The cell profiles that ship, and what is refused in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harmowam_core import solids
from harmowam_core.cell import CELLS_DIR, OWN_CELLS, cell_files, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.robot import filled

PROFILES = ("franka_dual", "franka_single", "ur5e_robotiq")


def test_these_profiles_ship() -> None:
    assert tuple(sorted(path.stem for path in CELLS_DIR.glob("*.yaml"))) == PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_reaches_home_and_stays_clear_of_its_limits(name: str) -> None:
    cell = load_cell(name)
    kinematics = Kinematics(cell)
    lower, upper = (np.tile(bound, len(cell.arms)) for bound in (cell.limits.position_lower, cell.limits.position_upper))
    assert ((kinematics.home() > lower + 0.05) & (kinematics.home() < upper - 0.05)).all()
    assert (kinematics.condition_numbers(kinematics.home()) < 17).all()


def test_names_of_joints_are_those_of_the_drivers() -> None:
    assert load_cell("franka_dual").arm_joint_names[6:8] == ("left_fr3_joint7", "right_fr3_joint1")
    assert load_cell("franka_single").arm_joint_names[0] == "fr3_joint1"
    assert load_cell("ur5e_robotiq").arm_joint_names[0] == "shoulder_pan_joint"


@pytest.mark.parametrize("name", ["franka_dual", "franka_single"])
def test_the_franka_hand_is_that_of_the_data_sheet(name: str) -> None:
    tool = load_cell(name).tool
    assert tool.position == (0, 0, 0.1034)
    assert tool.orientation == pytest.approx((0, 0, np.sin(-np.pi / 8), np.cos(np.pi / 8)))


def test_the_ur5e_moves_as_its_makers_parameters_say() -> None:
    """Denavit-Hartenberg: d, a, alpha of each joint, m and rad, as the maker publishes them."""
    table = [
        (0.1625, 0, np.pi / 2), (0, -0.425, 0), (0, -0.3922, 0), (0.1333, 0, np.pi / 2), (0.0997, 0, -np.pi / 2), (0.0996, 0, 0)
    ]  # fmt: skip
    cell = load_cell("ur5e_robotiq")
    kinematics, random = Kinematics(cell), np.random.default_rng(0)
    for q in random.uniform(-3, 3, (20, 6)):
        pose = np.diag([-1.0, -1, 1, 1])  # the profile's arm base is turned by half a turn, like the maker's controller frame
        for angle, (d, a, alpha) in zip(q, table, strict=True):
            c, s, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
            pose = pose @ [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        positions, _ = kinematics.forward(q)
        assert positions[0] == pytest.approx((pose @ [*cell.tool.position, 1])[:3], abs=1e-6)


def changed(tmp_path: Path, change: dict[str, Any], name: str = "franka_single") -> Path:
    """A profile file with some fields replaced, given as {"controllers.goal_time": 0}; None leaves the field out."""
    content = yaml.safe_load((CELLS_DIR / f"{name}.yaml").read_text())
    for field, value in change.items():
        *parents, last = field.split(".")
        owner = content
        for parent in parents:
            owner = owner[parent]
        if value is None:
            del owner[last]
        else:
            owner[last] = value
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


TOLERANCES = ("command_timeout", "goal_time", "stopped_velocity", "path_tolerance", "goal_tolerance", "finger_tolerance")


@pytest.mark.parametrize("value", [0.0, -0.1, None])
@pytest.mark.parametrize("field", TOLERANCES)
def test_no_tolerance_or_timeout_may_be_off(tmp_path: Path, field: str, value: float | None) -> None:
    with pytest.raises(ValueError, match=rf"franka_single.yaml.*(?s:.*)controllers.{field}"):
        load_cell(changed(tmp_path, {f"controllers.{field}": value}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_frame": "world"}, "base_frame\n.*should be 'base'"),
        ({"controllers.command_timeout": 0.4}, "command_timeout 0.4 must exceed goal_time 0.5"),
        ({"controllers.gains": None}, "controllers.gains: command_interface 'effort' needs p, i, d and i_clamp of each joint"),
        ({"controllers.command_interface": "position"}, "controllers.gains: command_interface 'position' has no use for them"),
        ({"controllers.gains.p": [600.0] * 6}, "controllers.gains.p has 6 values for 7 joints"),
        ({"controllers.gains.p": [0.0] * 7}, "controllers.gains.p.0"),
        ({"posture": [0.0] * 6}, "posture has 6 values for 7 joints"),
        ({"driver.addresses": {"left": "172.16.0.2"}}, r"driver.addresses are of \['left'\]; arms are \('arm',\)"),
        ({"gripper.closed": 0.04}, "gripper.open and gripper.closed are both 0.04"),
        ({"gripper.action": ""}, "interface 'franka' needs one"),
        ({"gripper.interface": "trajectory"}, "interface 'trajectory' has none"),
        ({"gripper.timeout": 0.0}, "gripper.timeout"),
        ({"tool.length": 0.1}, "tool.length"),
        ({"workspace.lower": [0.2, 0.7, 0.005]}, "workspace\n.*box: lower y 0.7 is not below upper y 0.4; swap"),
        ({"workspace.upper": [0.85, 0.65, float("nan")]}, "workspace.upper.2\n.*finite"),
        (
            {"obstacles": [{"name": "table", "lower": [0.84, -0.7, -0.04], "upper": [-0.16, 0.7, 0.0]}]},
            "obstacle 'table': lower x 0.84 is not below upper x -0.16; swap",
        ),
        (
            {"obstacles": [{"name": "sheet", "lower": [0.0, 0.0, 0.1], "upper": [1.0, 1.0, 0.1]}]},
            "obstacle 'sheet': lower z 0.1 is not below upper z 0.1",
        ),
        ({"limits.position_lower": [3.0] * 7}, "limits: position_lower 3.0 of 'fr3_joint1' is not below position_upper 2.7437"),
        *(
            ({f"limits.{name}": [1.0, value, 1.0, 1.0, 1.0, 1.0, 1.0]}, f"limits.{name}.1\n.*(greater than 0|finite)")
            for name in ("velocity", "acceleration", "jerk")
            for value in (0.0, -1.0, float("nan"), float("inf"))
        ),
        ({"limits.position_upper": [float("inf")] * 7}, "limits.position_upper.0\n.*finite"),
        ({"safety.keep_out": [{"name": "table", "normal": [0.0, 0.0, 0.0], "offset": 0.0}]}, "plane 'table' has length 0.000"),
        ({"safety.scene_clearance": {"slow": 0.02, "stop": 0.06}}, "scene_clearance.stop must be below scene_clearance.slow"),
        ({"safety.singularity": {"slow": float("nan"), "stop": 30.0}}, "safety.singularity.slow\n"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_cell(changed(tmp_path, change))


def test_what_is_no_yaml_is_refused_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ur5e.yaml"
    path.write_text("name: mine\n\tarms: []\n")
    with pytest.raises(ValueError, match=rf"cell profile {path}: .*(?s:.*)line 2"):
        load_cell(path)
    monkeypatch.setattr(solids, "SOLIDS_DIR", tmp_path)
    with pytest.raises(ValueError, match=rf"solids {path}: .*(?s:.*)line 2"):
        solids.load_solids(load_cell("ur5e_robotiq"))


def test_a_solid_with_swapped_corners_is_refused_by_link_and_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ur5e.yaml").write_text("forearm_link: [{kind: box, lower: [-0.1, 0.1, -0.1], upper: [0.1, -0.1, 0.1]}]\n")
    monkeypatch.setattr(solids, "SOLIDS_DIR", tmp_path)
    with pytest.raises(ValueError, match=r"forearm_link(?s:.*)lower y 0.1 is not below upper y -0.1; swap"):
        solids.load_solids(load_cell("ur5e_robotiq"))


def test_two_arms_need_different_prefixes(tmp_path: Path) -> None:
    content = yaml.safe_load((CELLS_DIR / "franka_dual.yaml").read_text())
    for arm in content["arms"]:
        arm["joint_prefix"] = "both_"
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="joints of the same name"):
        load_cell(tmp_path / "x.yaml")


def test_own_profiles_come_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(tmp_path, {"driver.addresses": {"arm": "10.0.0.1"}})
    assert load_cell("franka_single").driver.addresses == {"arm": "172.16.0.2"}
    monkeypatch.setenv(OWN_CELLS, str(tmp_path))
    assert load_cell("franka_single").driver.addresses == {"arm": "10.0.0.1"}
    assert cell_files()["franka_dual"].parent == CELLS_DIR


def test_words_are_filled_in_everywhere_and_other_braces_stay() -> None:
    text = {"a": ["{arm}/x", 3, "{other}"], "b": {"c": "{prefix}joint"}}
    assert filled(text, arm="left", prefix="left_") == {"a": ["left/x", 3, "{other}"], "b": {"c": "left_joint"}}
