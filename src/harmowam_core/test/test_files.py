"""Files are replaced whole or not at all."""

from pathlib import Path

import pytest

from harmowam_core.files import replaced


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "facts.json"
    with replaced(path) as part:
        part.write_text("old")
    with pytest.raises(OSError, match="full"), replaced(path) as part:
        part.write_text("ne")
        raise OSError("the disk is full")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
