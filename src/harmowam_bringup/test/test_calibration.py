"""Calibration on rendered views with known truth, from the board to the profile."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image as PilImage
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import StoragePlugin, Writer
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from harmowam_bringup.calibration import profile
from harmowam_bringup.calibration.bench import one, summary
from harmowam_bringup.calibration.board import Board, BoardFinder, print_board
from harmowam_bringup.calibration.calibrate import calibrate
from harmowam_bringup.calibration.hand_eye import View, angle_deg, closed_form, missing_rotation, solve
from harmowam_bringup.calibration.recordings import Picture, load
from harmowam_bringup.calibration.synthetic import Shown, pose, realistic_lens, show
from harmowam_bringup.cameras.lens import Lens
from harmowam_bringup.cli import app
from harmowam_core.cell import CELLS_DIR, cell_files, load_cell
from harmowam_core.kinematics import Kinematics
from harmowam_core.messages import camera_info, image_to_message, joint_state_to_message
from harmowam_core.stages import JointState

BOARD = Board()
CELL = load_cell()


@cache
def shown(kind: str, views: int = 12, seed: int = 0) -> Shown:
    return show(kind, BOARD, views, np.random.default_rng(seed))


def pictures(kind: str) -> list[Picture]:
    return [Picture(f"{k}.png", image, tool) for k, (image, tool) in enumerate(zip(shown(kind).images, shown(kind).tools, strict=True))]


def exact_views(kind: str, count: int = 12, seed: int = 0, noise_px: float = 0.0) -> tuple[list[View], np.ndarray, np.ndarray, Lens]:
    """Projected corners without images: views, X, Y, lens."""
    rng = np.random.default_rng(seed)
    lens = realistic_lens(rng)
    x, y = (pose(rng.uniform(-0.5, 0.5, 3), Rotation.random(rng=rng)) for _ in range(2))
    points = BOARD.charuco().getChessboardCorners().astype(np.float64)
    views = []
    for k in range(count):
        c = pose([-0.13, -0.09, rng.uniform(0.4, 0.7)], Rotation.from_rotvec(rng.uniform(-0.5, 0.5, 3)))
        pixels, _ = cv2.projectPoints(points, cv2.Rodrigues(c[:3, :3])[0], c[:3, 3], lens.k, lens.d)
        views.append(View(str(k), pixels.reshape(-1, 2) + rng.normal(0, noise_px, (len(points), 2)), points, x @ c @ np.linalg.inv(y)))
    return views, x, y, lens


# ---- board -----------------------------------------------------------------------------------------------------------------


def test_the_board_is_printed_at_true_scale(tmp_path: Path) -> None:
    told = print_board(Board(7, 5, 0.0255), tmp_path / "board.png")
    assert "fits A4" in told and "178.5 x 127.5 mm" in told
    with PilImage.open(tmp_path / "board.png") as image:
        per_m = image.info["dpi"][0] / 0.0254
        dark = np.argwhere(np.array(image.convert("L")) < 128)
    height_m, width_m = (np.ptp(dark, axis=0) + 1) / per_m  # from the first dark square to the last
    assert (width_m, height_m) == pytest.approx((7 * 0.0255, 5 * 0.0255), abs=2e-4)
    assert "fits A4" in print_board(Board(), tmp_path / "board.pdf")
    media = next(line for line in (tmp_path / "board.pdf").read_bytes().split(b"\n") if b"MediaBox" in line).split(b"MediaBox")[1]
    points = [float(word) for word in media.strip(b" []/").split(b"]")[0].split()]
    assert points[2:4] == pytest.approx([(9 + 1) * 0.028 / 0.0254 * 72, (6 + 1) * 0.028 / 0.0254 * 72], abs=0.1)
    with pytest.raises(ValueError, match="neither .pdf nor .png"):
        print_board(Board(), tmp_path / "board.jpg")


def test_corners_are_found_to_a_tenth_of_a_pixel() -> None:
    s = shown("wrist")
    finder, errors = BoardFinder(BOARD), []
    for image, tool in zip(s.images, s.tools, strict=True):
        pixels, points = finder.find(image)
        c = np.linalg.inv(s.truth.camera) @ np.linalg.inv(tool) @ s.truth.board
        expected, _ = cv2.projectPoints(points, cv2.Rodrigues(c[:3, :3])[0], c[:3, 3], s.truth.lens.k, s.truth.lens.d)
        off = pixels - expected.reshape(-1, 2)
        errors.append(off - off.mean(0))  # where the whole board is, the imperfect arm has a say in
    assert np.sqrt((np.concatenate(errors) ** 2).sum(1).mean()) < 0.15
    assert finder.find(np.full((480, 640), 200, np.uint8)) is None


@pytest.mark.parametrize(("columns", "rows", "square_m"), [(2, 5, 0.03), (30, 20, 0.03), (9, 6, 0.5)])
def test_impossible_boards_are_refused(columns: int, rows: int, square_m: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        Board(columns, rows, square_m)


# ---- solution --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_without_noise_the_truth_is_found_exactly(seed: int) -> None:
    views, x, y, lens = exact_views("wrist", seed=seed)
    a = [view.a for view in views]
    begun = closed_form(a, [np.linalg.inv(x) @ ai @ y for ai in a])
    np.testing.assert_allclose(begun[0], x, atol=1e-9)
    np.testing.assert_allclose(begun[1], y, atol=1e-9)
    solution = solve(views, lens)
    np.testing.assert_allclose(solution.camera, x, atol=1e-6)
    np.testing.assert_allclose(solution.board, y, atol=1e-6)
    assert solution.rms_px < 1e-4 and not any(residual.outlier for residual in solution.residuals)


@pytest.mark.parametrize("kind", ["wrist", "scene"])
@pytest.mark.parametrize("intrinsics", ["given", "fitted"])
def test_rendered_views_give_the_camera_to_2_mm_and_a_fifth_of_a_degree(kind: str, intrinsics: str) -> None:
    runs = [one(kind, intrinsics, 12, seed) for seed in range(2)]
    row = summary(runs, kind, intrinsics)
    assert row["error_mm"]["max"] <= 2.0 and row["error_deg"]["max"] <= 0.2


def test_the_stated_uncertainty_is_the_scatter_of_results() -> None:
    """Over 30 recordings with noisy corners: the spread of the found places is what one recording says it is, within a factor of two."""
    found, sigma = [], []
    truth = None
    for seed in range(30):
        views, x, _, lens = exact_views("wrist", seed=7)
        rng = np.random.default_rng(seed)
        noisy = [replace(view, pixels=view.pixels + rng.normal(0, 0.3, view.pixels.shape) + rng.normal(0, 0.5, 2)) for view in views]
        solution = solve(noisy, lens)
        found.append(solution.camera[:3, 3])
        sigma.append(solution.sigma_mm)
        truth = x[:3, 3]
    scatter_mm = 1e3 * np.sqrt(((np.array(found) - truth) ** 2).sum(1).mean())
    assert 0.5 < np.median(sigma) / scatter_mm < 2.0


def test_a_view_taken_while_the_arm_moved_is_named_and_left_out() -> None:
    views, x, _, lens = exact_views("scene", noise_px=0.1)
    moved = views[4].a.copy()
    moved[:3, 3] += [0.02, 0.0, 0.01]
    views[4] = replace(views[4], a=moved, name="the hasty one")
    solution = solve(views, lens)
    assert [residual.name for residual in solution.residuals if residual.outlier] == ["the hasty one"]
    assert np.linalg.norm(solution.camera[:3, 3] - x[:3, 3]) < 1e-3 and angle_deg(solution.camera, x) < 0.1
    assert next(r for r in solution.residuals if r.outlier).mm > 5
    rng = np.random.default_rng(0)
    wild = [replace(v, a=v.a @ pose(rng.uniform(-0.1, 0.1, 3), Rotation.identity())) if k % 2 else v for k, v in enumerate(views)]
    with pytest.raises(ValueError, match="the views contradict each other: .*did the arm move"):
        solve(wild, lens)


@pytest.mark.parametrize(("axis", "lacking"), [("x", "y or z"), ("z", "x or y")])
def test_missing_turns_are_named(axis: str, lacking: str) -> None:
    turned = [Rotation.from_euler(axis, angle).as_matrix().T for angle in np.linspace(-0.4, 0.4, 10)]
    assert f"turn it by 20 degrees either way about {lacking}," in missing_rotation(turned)
    varied = [Rotation.from_euler("xy", angles).as_matrix() for angles in np.random.default_rng(0).uniform(-0.4, 0.4, (10, 2))]
    assert missing_rotation(varied) == ""


def test_too_few_views_are_refused_with_the_remedy() -> None:
    views, _, _, lens = exact_views("wrist", 5)
    with pytest.raises(ValueError, match="found in 5 views, expected at least 8; record more"):
        solve(views, lens)
    with pytest.raises(
        ValueError, match=r"the board \(9x6\) was found in 0 of 3 still pictures, expected at least 8; is it the printed one"
    ):
        calibrate("wrist", [replace(p, image=np.full((480, 640), 99, np.uint8)) for p in pictures("wrist")[:3]], None, BOARD, True)


def test_a_wrong_lens_is_doubted() -> None:
    lens = shown("wrist").truth.lens
    bent = Lens(lens.k, lens.d + np.array([-0.3, 0.4, 0, 0, 0]), lens.size)
    result = calibrate("wrist", pictures("wrist"), bent, BOARD, False)
    assert "the given lens leaves" in result.doubt and "--intrinsics fitted" in result.doubt
    assert calibrate("wrist", pictures("wrist"), lens, BOARD, False).doubt == ""


# ---- recordings and profile ------------------------------------------------------------------------------------------------


def write_folder(folder: Path, kind: str, lens: bool = True) -> Path:
    folder.mkdir()
    entries = []
    for k, (image, tool) in enumerate(zip(shown(kind).images, shown(kind).tools, strict=True)):
        cv2.imwrite(str(folder / f"{k}.png"), image)
        orientation = Rotation.from_matrix(tool[:3, :3]).as_quat()
        entries.append({"image": f"{k}.png", "position": tool[:3, 3].tolist(), "orientation": orientation.tolist()})
    (folder / "poses.json").write_text(json.dumps(entries))
    if lens:
        truth = shown(kind).truth.lens
        info = {"width": 640, "height": 480, "k": truth.k.ravel().tolist(), "d": truth.d.tolist()}
        (folder / "camera_info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize("kind", ["wrist", "scene"])
def test_from_a_folder_to_the_profile(tmp_path: Path, kind: str) -> None:
    folder, mine = write_folder(tmp_path / "views", kind), tmp_path / "my_cell.yaml"
    text = (CELLS_DIR / "franka_dual.yaml").read_text()
    mine.write_text(text)
    report = tmp_path / "report.json"
    run = CliRunner().invoke(app, ["calibrate", kind, str(folder), "--cell", str(mine), "--json", str(report)])
    assert run.exit_code == 0, run.output
    camera, truth = load_cell(mine).camera("wrist_left" if kind == "wrist" else "scene"), shown(kind).truth
    assert np.linalg.norm(camera.origin - truth.camera[:3, 3]) <= 2e-3
    assert np.degrees(Rotation.from_matrix(camera.rotation.T @ truth.camera[:3, :3]).magnitude()) <= 0.2
    assert (camera.height, camera.width, camera.calibration.fx) == (480, 640, pytest.approx(truth.lens.k[0, 0], abs=1e-3))
    told = json.loads(report.read_text())
    assert told["used"] == 12 and told["rms_px"] < 1.0 and len(told["poses"]) == 12 and told["written"] == str(mine)
    [backup] = tmp_path.glob("my_cell.yaml.*.bak")
    assert backup.read_text() == text
    removed = [line for line in text.splitlines() if line not in mine.read_text().splitlines()]
    assert {line.split(":")[0].strip() for line in removed} <= {"height", "width"}
    assert "# pose relative to the TCP" in mine.read_text()
    others = [c for c in load_cell(mine).cameras if c.name != camera.name]
    assert others == [c for c in CELL.cameras if c.name != camera.name]


def test_a_dry_run_and_mistakes_write_nothing(tmp_path: Path) -> None:
    folder, mine = write_folder(tmp_path / "views", "wrist", lens=False), tmp_path / "my_cell.yaml"
    mine.write_text((CELLS_DIR / "franka_dual.yaml").read_text())
    before = mine.read_text()

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["calibrate", *words])
        return result.exit_code, " ".join(result.output.split())

    code, told = run("wrist", str(folder), "--cell", "franka_dual", "--dry-run")
    assert code == 0 and "+ calibration:" in told and "lens fitted:" in told
    for words, expected in (
        (["wrist", str(folder)], "'franka_dual' ships with the package; make it yours: cp"),
        (["scene", str(folder), "--cell", str(mine), "--camera", "wrist_left"], "is mounted on left; calibrate it as wrist"),
        (["wrist", str(folder), "--cell", str(mine), "--camera", "front"], "has no camera 'front'"),
        (["scene", str(folder), "--cell", str(mine), "--arm", "third"], "there is no arm 'third'"),
        (["wrist", str(tmp_path / "nothing"), "--cell", str(mine)], "no recording at"),
        (["wrist", str(tmp_path), "--cell", str(mine)], "neither a rosbag2 (no metadata.yaml) nor a folder of images (no poses.json)"),
        (["wrist", str(folder), "--cell", str(mine), "--columns", "12", "--rows", "9"], "was found in"),
        (["wrist", str(folder), "--cell", str(mine), "--intrinsics", "guessed"], "expected given or fitted"),
    ):
        code, told = run(*words)
        assert code == 2 and expected in told, told
    assert mine.read_text() == before and not list(tmp_path.glob("*.bak"))


def test_an_invalid_profile_is_never_written(tmp_path: Path) -> None:
    mine = tmp_path / "my_cell.yaml"
    mine.write_text((CELLS_DIR / "franka_dual.yaml").read_text())
    broken = mine.read_text().replace("fovy: 0.670", "fovy: 67.0")
    with pytest.raises(ValueError, match="fovy"):
        profile.write(mine, broken)
    assert yaml.safe_load(mine.read_text())["cameras"][0]["fovy"] == 0.670 and [p.name for p in tmp_path.iterdir()] == ["my_cell.yaml"]


@pytest.mark.parametrize("name", sorted(cell_files()))
def test_a_bag_gives_one_picture_a_still_pose(tmp_path: Path, name: str) -> None:
    """Joints at 100 Hz, images at 10 Hz: three poses held for a second each, half a second of moving between them."""
    cell = load_cell(name)
    camera = next(camera for camera in cell.cameras if camera.mounted_on)
    arm, stream = cell.arm_names[0], f"/camera/{camera.name}/color"
    assert camera.mounted_on == arm
    home = Kinematics(cell).home()
    names = cell.arm_joint_names + cell.finger_joint_names
    lens = shown("wrist").truth.lens
    held = [home + offset for offset in (0.0, 0.1, 0.2)]

    def joints(time_s: float) -> np.ndarray:
        k, into = divmod(time_s, 1.5)
        k = min(int(k), 2)
        share = 0.0 if into < 1.0 or k == 2 else (into - 1.0) / 0.5
        return held[k] + share * (held[min(k + 1, 2)] - held[k])

    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        from rosbags.typesys import Stores, get_typestore

        store = get_typestore(Stores.ROS2_JAZZY)
        kinds = {
            "/joint_states": "JointState",
            f"{stream}/image_raw": "Image",
            f"{stream}/camera_info": "CameraInfo",
        }
        connections = {topic: bag.add_connection(topic, f"sensor_msgs/msg/{kind}", typestore=store) for topic, kind in kinds.items()}
        for k in range(450):
            stamp_ns = 10**9 + k * 10_000_000
            state = JointState(stamp_ns, names, np.concatenate([joints(k / 100), np.full(len(cell.arms), 0.04)]), np.zeros(len(names)))
            bag.write(connections["/joint_states"], stamp_ns, serialize_message(joint_state_to_message(state)))
            if k % 10 == 0:
                image = np.full((480, 640, 3), k // 150, np.uint8)
                bag.write(connections[f"{stream}/image_raw"], stamp_ns, serialize_message(image_to_message(image, stamp_ns, "x")))
                info = camera_info(camera.name, lens.size, lens.k, lens.d, stamp_ns)
                bag.write(connections[f"{stream}/camera_info"], stamp_ns, serialize_message(info))
    recorded = load(tmp_path / "bag", camera.name, arm, cell)
    assert [int(picture.image[0, 0, 0]) for picture in recorded.pictures] == [0, 1, 2]
    assert recorded.lens is not None and recorded.lens.size == (480, 640)
    np.testing.assert_allclose(recorded.lens.k, lens.k)
    for picture, q in zip(recorded.pictures, held, strict=True):
        position, orientation = Kinematics(cell).forward(q)
        np.testing.assert_allclose(picture.tool[:3, 3], position[0], atol=1e-6)
        np.testing.assert_allclose(picture.tool[:3, :3], Rotation.from_quat(orientation[0]).as_matrix(), atol=1e-6)
    with pytest.raises(ValueError, match=rf"no messages on /camera/scene/color/image_raw; it has \['{stream}"):
        load(tmp_path / "bag", "scene", arm, cell)


@pytest.mark.parametrize("name", sorted(cell_files()))
def test_joints_in_a_folder_are_those_of_the_arm(tmp_path: Path, name: str) -> None:
    cell = load_cell(name)
    kinematics, dof = Kinematics(cell), len(cell.joints)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8), np.uint8))
    for index, arm in enumerate(cell.arm_names):
        q = kinematics.home()
        q[index * dof : (index + 1) * dof] += 0.1
        entry = {"image": "0.png", "joints": q[index * dof : (index + 1) * dof].tolist()}
        (tmp_path / "poses.json").write_text(json.dumps([entry]))
        [picture] = load(tmp_path, "scene", arm, cell).pictures
        np.testing.assert_allclose(picture.tool[:3, 3], kinematics.forward(q)[0][index], atol=1e-9)
    for wrong in (entry["joints"][1:], {f"joint{k}": 0.0 for k in range(dof)}):
        (tmp_path / "poses.json").write_text(json.dumps([{**entry, "joints": wrong}]))
        with pytest.raises(ValueError, match=rf"poses.json, entry 0: expected image and joints \({dof} rad, in the profile's order\)"):
            load(tmp_path, "scene", arm, cell)
