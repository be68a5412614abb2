"""A package prefix with tiny programs, as colcon would install them."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harmowam_bringup.session import free_domain

SOURCE = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent))  # for the modules that tests share


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> None:
    """Processes that tests start can be interrupted, also when the tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def make_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs a package with executables {name: script} and puts its prefix on AMENT_PREFIX_PATH; returns the prefix."""

    def make(package: str, **programs: str) -> Path:
        prefix = tmp_path / "prefix" / package
        (prefix / "share/ament_index/resource_index/packages").mkdir(parents=True)
        (prefix / "share/ament_index/resource_index/packages" / package).touch()
        (prefix / "share" / package).mkdir()
        folder = prefix / "lib" / package
        folder.mkdir(parents=True)
        for name, script in programs.items():
            path = folder / name
            path.write_text(script)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(prefix), os.environ.get("AMENT_PREFIX_PATH", "")]).rstrip(os.pathsep))
        return prefix

    return make


@pytest.fixture
def stand_ins(make_package: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The graph's packages installed with stand-ins for all nodes; returns the folder of their prefixes."""

    def program(*words: str) -> str:
        return f'#!/bin/sh\nexec {shlex.join([sys.executable, *words])} "$@"\n'

    stand_in = str(Path(__file__).parent / "stand_in_node.py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    make_package("harmowam_world_model", world_model_node=program(stand_in, "world_model"))
    experts = {f"{name}_expert_node": program(stand_in, name) for name in ("predictive", "reactive")}
    make_package("harmowam_experts", **experts)
    make_package("harmowam_gate", arbiter_node=program(stand_in, "arbiter"))
    make_package("harmowam_sim", cell_node=program(stand_in, "cell"), real_cell_node=program("-m", "harmowam_sim.cell_node"))
    prefix = make_package(
        "harmowam_bringup",
        relay_node=program("-m", "harmowam_bringup.drill.relay_node"),
        auditor_node=program("-m", "harmowam_bringup.auditor.auditor_node"),
        planner_node=program("-m", "harmowam_bringup.planning.planner_node"),
    )
    for folder in ("launch", "config", "rviz"):
        (prefix / "share/harmowam_bringup" / folder).symlink_to(SOURCE / folder)
    return prefix.parent


@pytest.fixture
def domain_id(monkeypatch: pytest.MonkeyPatch) -> int:
    """A domain of its own, which is also the environment's."""
    domain = free_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return domain
