"""Fast DDS for large images (config/fastdds.xml), for processes of ours that send or store them."""

from __future__ import annotations

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory

PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"


def expect_large_images() -> None:
    """Before ``rclpy.init``: give this process enough shared memory and buffers, unless the environment has profiles of its own.

    FileNotFoundError where the workspace was built without the profiles: Fast DDS itself would go on with little memory.
    """
    path = Path(get_package_share_directory("harmowam_bringup")) / "config" / "fastdds.xml"
    os.environ.setdefault(PROFILES, str(path.resolve(strict=True)))
