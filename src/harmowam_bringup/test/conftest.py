"""A package prefix with tiny programs, as colcon would install them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest


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
