"""The benchmark of reading, on a second of cameras."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from harmowam_bringup.cli import app


def test_it_reads_all_it_wrote(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "bag", "--seconds", "1", "--out", str(tmp_path), "--json", str(tmp_path / "bag.json")])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "bag.json").read_text())
    assert {figures[way]["messages"] for way in ("decoded", "every_byte_touched", "as_the_model_sees_it")} == {3 * 30 + 100}
    assert figures["bytes"] > 90 * 640 * 480 * 3 and figures["decoded"]["times_real_time"] > 1
    assert not (tmp_path / "latest/bag").exists()
