from pathlib import Path

import pytest

from taskvec.files import replacing, shortened


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("all of it")
        assert not (tmp_path / "new" / "file").exists()
    assert (tmp_path / "new" / "file").read_text() == "all of it"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as temporary:
        temporary.touch(mode=0o600)
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert (tmp_path / "file").stat().st_mode == ordinary.stat().st_mode


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("before")

    def fail() -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_of_a_link_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("old")
    (tmp_path / "link").symlink_to("kept")
    with replacing(tmp_path / "link") as path:
        path.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept").read_text() == "new"


def test_long_lists_are_shortened() -> None:
    assert shortened(["a", "b", "c"]) == "a; b; c"
    assert shortened(["a", "b", "c", "d"]) == "a; b; c; ... and 1 more"
    assert shortened(range(168), 2, ", ") == "0, 1, ... and 166 more"
    assert shortened([]) == ""
