"""Every package's manifest, build file and sources agree."""

from __future__ import annotations

import ast
import os
import re
import sys
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harmowam_bringup.doctor import pins_in, project_root

ROOT = project_root(Path(__file__))
assert ROOT is not None, "these tests look at the sources: run them in the repository"
OPTIONAL = {"tensorrt", "tensorrt_rtx", "cv_bridge", "moveit", "moveit_msgs"}  # imported where they are used
ELSEWHERE = {"pinocchio": ["pin"], "ruckig": ["ruckig"], "coal": ["coal"]}  # whose metadata does not tell their modules
PACKAGES = sorted(path.parent for path in (ROOT / "src").glob("*/setup.py"))


def manifest(package: Path) -> ElementTree.Element:
    return ElementTree.parse(package / "package.xml").getroot()


def ros_packages() -> set[str]:
    """Names of all ROS packages on the prefix path."""
    prefixes = [Path(prefix) for prefix in os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)]
    return {path.name for prefix in prefixes for path in (prefix / "share" / "ament_index" / "resource_index" / "packages").glob("*")}


def modules_in(path: Path) -> set[str]:
    """Top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def imported(package: Path) -> set[str]:
    """Top-level names that the package's modules import."""
    return set().union(*(modules_in(path) for path in (package / package.name).rglob("*.py"))) - {package.name}


def test_there_are_packages() -> None:
    assert len(PACKAGES) == 7


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_manifest_and_build_file_tell_the_same(package: Path) -> None:
    xml, metadata = manifest(package), distribution(package.name).metadata
    told = {"Name": xml.findtext("name"), "Version": xml.findtext("version"), "Summary": xml.findtext("description")}
    assert {key: metadata[key].replace("-", "_") if key == "Name" else metadata[key] for key in told} == told
    assert xml.findtext("license") == "Apache-2.0"


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_every_imported_ros_package_is_declared(package: Path) -> None:
    declared = {element.text for element in manifest(package).findall("exec_depend")}
    assert (imported(package) & ros_packages()) - declared == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda p: p.name)
def test_every_executable_has_a_main(package: Path) -> None:
    for script in distribution(package.name).entry_points.select(group="console_scripts"):
        spec = find_spec(script.module)
        assert spec is not None and spec.origin is not None, f"{script.name}: no module {script.module}"
        functions = [node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)]
        assert script.attr in functions, f"{script.name}: {script.module} has no function {script.attr}"


@pytest.mark.parametrize("package", [p for p in PACKAGES if p.name != "harmowam_bringup"], ids=lambda p: p.name)
def test_only_nodes_and_their_shell_import_rclpy(package: Path) -> None:
    """What a stage computes must run, and be tested, without a graph; bringup is a shell as a whole."""
    users = {path.name for path in (package / package.name).rglob("*.py") if "rclpy" in modules_in(path)}
    shell = r".*_(node|server)\.py|lifecycle\.py|inbox\.py|qos\.py|testing\.py|graph_watch\.py"
    assert {name for name in users if not re.fullmatch(shell, name)} == set()


def test_every_third_party_import_is_a_requirement() -> None:
    """A package that is only there because another brings it may be gone tomorrow."""
    providers = {**packages_distributions(), **ELSEWHERE}
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for file in ROOT.glob("requirements*.txt") for name in pins_in(file)}
    own = {package.name for package in PACKAGES} | ros_packages()
    unnamed = {}
    for package in PACKAGES:
        for name in imported(package) - own - OPTIONAL - sys.stdlib_module_names:
            names = {re.sub(r"[-_.]+", "-", provider).lower() for provider in providers.get(name, [])}
            if not names & pinned:
                unnamed[f"{package.name} imports {name}"] = names or "of no installed package"
    assert unnamed == {}
