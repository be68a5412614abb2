"""Print pins for everything installed in this environment that requirements*.txt do not name themselves."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_PINNED = {"pip"}


def canonical(name: str) -> str:
    """A distribution's name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(path: Path) -> set[str]:
    """Names in a requirements file."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {canonical(re.split(r"[=<>!~\[; ]", line)[0]) for line in lines if line}


def main() -> None:
    """Write the pins to standard output."""
    direct = NOT_PINNED.union(*(named(path) for path in ROOT.glob("requirements*.txt")))
    pins = {}
    for distribution in importlib.metadata.distributions():
        # The ROS 2 wheels bring inner distributions that no index knows; pip did not install those itself.
        if (distribution.read_text("INSTALLER") or "").strip() == "pip":
            name = canonical(distribution.metadata["Name"])
            if name not in direct:
                pins[name] = distribution.version.split("+")[0]
    print("# Written by `make lock`: what requirements.txt brings in, pinned.")
    for name, version in sorted(pins.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
