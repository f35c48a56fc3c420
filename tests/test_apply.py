from pathlib import Path

import pytest
from PIL import Image

from taskvec.apply import image_files


def _save(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path)


def test_files_come_in_order_and_hidden_ones_do_not(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", ".hidden.png"):
        _save(tmp_path / name)
    assert [path.name for path in image_files(tmp_path)] == ["a.jpg", "b.png"]
    assert image_files(tmp_path / "b.png") == [tmp_path / "b.png"]


def test_what_would_be_skipped_or_overwritten_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no files: expected images"):
        image_files(tmp_path)
    _save(tmp_path / "a.png")
    _save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"shares its name with another file: both results would be a.png"):
        image_files(tmp_path)
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"notes.txt is not an image"):
        image_files(tmp_path)
    with pytest.raises(ValueError, match="does not exist"):
        image_files(tmp_path / "absent")
