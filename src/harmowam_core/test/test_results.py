"""Results are JSON, whole, and say which version of the project they are of."""

import json
import math
import subprocess
from pathlib import Path

import pytest

from harmowam_core.results import commit, write_json


def test_commit_says_when_there_are_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "file").write_text("a")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    clean = commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "file").write_text("b")
    assert commit(tmp_path) == f"{clean}+changes"
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) == "unknown"


def test_results_go_where_they_are_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "not yet" / "results.json"
    write_json(str(path), {"score": 0.5})
    assert json.loads(path.read_text()) == {"score": 0.5}
    write_json("-", [1])
    assert json.loads(capsys.readouterr().out) == [1]
    write_json("", [1])
    assert capsys.readouterr().out == "" and sorted(tmp_path.rglob("*")) == [path.parent, path]


def test_a_number_that_json_lacks_leaves_the_old_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, math.nan)
    assert json.loads(path.read_text()) == 1
