"""Which version of the project produced a result."""

from __future__ import annotations

import subprocess
from pathlib import Path


def describe_commit() -> str:
    """The commit, marked "-dirty" with uncommitted changes; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return found.stdout.strip() or "unknown"
