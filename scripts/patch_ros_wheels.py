"""Point the CMake exports of the ROS 2 wheels at this environment.

The wheels name the headers of the Python and the NumPy they were built with; an interface package configures only when
these paths exist. Idempotent: files that are right are left alone.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy as np

BUILD_PYTHON = r"/opt/python/cp\d+-cp\d+"


def main() -> None:
    """Rewrite the exports below ``sys.prefix``/share."""
    replacements = (
        (re.compile(BUILD_PYTHON + r"/lib/python3\.\d+/site-packages/numpy/_?core/include"), np.get_include()),
        (re.compile(BUILD_PYTHON + r"/include/python3\.\d+"), sysconfig.get_path("include")),
    )
    patched = 0
    for path in sorted(Path(sys.prefix, "share").glob("*/cmake/*.cmake")):
        text = old = path.read_text()
        for pattern, replacement in replacements:
            text = pattern.sub(lambda _, new=replacement: new, text)
        if text != old:
            path.write_text(text)
            patched += 1
        if left := re.search(BUILD_PYTHON + r"[^;\"]*", text):
            raise SystemExit(f"{path} still names {left.group()}, which patch_ros_wheels.py does not know; add it there")
    print(f"ROS 2 wheels: {patched} CMake exports pointed at {sys.prefix}")


if __name__ == "__main__":
    main()
