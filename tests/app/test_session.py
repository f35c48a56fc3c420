"""Every visitor has a directory of their own, which goes with them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zipfile import ZipFile

from taskvec.app.session import Sessions
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


def test_visitors_share_nothing(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    first, second = sessions.of("first"), sessions.of("second")
    assert sessions.of("first") is first
    assert first.directory != second.directory
    stopped: list[str] = []
    first.making = cast(Any, SimpleNamespace(stop=lambda: stopped.append("first")))
    sessions.end("first")
    sessions.end("first")
    assert stopped == ["first"]
    assert [path.name for path in tmp_path.iterdir()] == [second.directory.name]


def test_an_archive_holds_directories_that_load(
    small_model: MaeVqgan, random_vectors: TaskVectors, tmp_path: Path
) -> None:
    session = Sessions(tmp_path).of("one")
    random_vectors.save_pretrained(session.vectors / "mine")
    with ZipFile(session.archive(["mine"])) as file:
        assert sorted(file.namelist()) == ["mine/config.json", "mine/vectors.safetensors"]
        file.extractall(tmp_path / "out")
    again = TaskVectors.load(tmp_path / "out" / "mine", small_model)
    assert again.fingerprint() == random_vectors.fingerprint()
