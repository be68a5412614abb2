"""Print pins for what the packages in requirements*.txt bring in, as installed in this environment."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def named_in(path: Path) -> set[str]:
    """Canonical names in a requirements file."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {canonicalize_name(Requirement(line).name) for line in lines if line}


def main() -> None:
    """Write the pins to standard output."""
    direct = named_in(ROOT / "requirements.txt") | named_in(ROOT / "requirements-ros.txt")
    pins: dict[str, str] = {}
    todo, seen = sorted(direct), set(direct)
    while todo:
        name = todo.pop()
        distribution = importlib.metadata.distribution(name)
        if name not in direct:
            pins[name] = distribution.version.split("+")[0]
        for requirement in map(Requirement, distribution.requires or []):
            needed = canonicalize_name(requirement.name)
            if needed not in seen and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                seen.add(needed)
                todo.append(needed)
    print("# Written by `make lock`: what requirements.txt and requirements-ros.txt bring in, pinned.")
    for name, version in sorted(pins.items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
