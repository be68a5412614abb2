"""Results as JSON, and which version of the project they are of."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from harmowam_core.files import replaced


def commit(folder: Path = Path(__file__).parent) -> str:
    """Commit of the checkout that ``folder`` is in, with ``+changes`` when it has any; "unknown" outside of one or without git."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+changes"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    except FileNotFoundError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def write_json(target: str | Path, value: Any) -> None:
    """Where ``--json`` says: a file, whole or not at all, "-" for standard output, "" for nowhere. ValueError for NaN, which is no JSON."""
    text = json.dumps(value, indent=2, allow_nan=False)
    if str(target) == "-":
        print(text)
    elif target:
        with replaced(Path(target)) as part:
            part.write_text(text + "\n")
