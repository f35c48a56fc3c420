"""One writer at a time: whoever comes second is told who has the place, and nobody waits for the dead."""

import errno
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskvec import files, locks
from taskvec.cli import main
from taskvec.locks import LOCK, InUseError, locked

RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.toml"
DIRECTORY, FILE = "out", "out.json"
WRITERS = {
    "train": ["train", str(RECIPE), "--out", DIRECTORY],
    "search": ["search", "--task", "identity", "--out", DIRECTORY],
    "find": ["find", "--data", "scenes", "--task", "identity", "--out", DIRECTORY],
    "experiment": ["experiment", "table-1", "--out", DIRECTORY],
    "apply": ["apply", "hub:me/vectors", "images", "--out", DIRECTORY],
    "refine": ["refine", "hub:me/vectors", "--data", "scenes", "--out", DIRECTORY],
    "combine": ["combine", "a + b", "--out", DIRECTORY],
    "convert": ["convert", "--mae", "mae.pth", "--out", DIRECTORY],
    "demo": ["demo", "--out", DIRECTORY],
    "collect": ["collect", "--task", "identity", "--out", FILE],
    "evaluate": ["evaluate", "--method", "one_shot", "--json", FILE],
}


@contextmanager
def another_process(*directories: Path, files: tuple[Path, ...] = ()) -> Iterator[int]:
    """A process that holds these places for as long as the block lasts; its number."""
    ready, tell = os.pipe()
    wait, release = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(release)
            with locked(*directories, files=files):
                os.write(tell, b"!")
                os.read(wait, 1)  # until the other end is closed
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        assert os.read(ready, 1) == b"!"
        yield child
    finally:
        os.close(release)
        os.close(ready)
        os.waitpid(child, 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A directory in which another process writes to ``out`` and ``out.json``, and that process."""
    directory = tmp_path_factory.mktemp("place")
    with another_process(directory / DIRECTORY, files=(directory / FILE,)) as holder:
        yield directory, holder


@pytest.mark.parametrize("command", WRITERS)
def test_every_command_that_writes_is_refused_where_another_one_is(
    command: str, place: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, holder = place
    monkeypatch.chdir(directory)
    assert main(WRITERS[command]) == 1
    name = FILE if FILE in WRITERS[command] else DIRECTORY
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name} is in use: process {holder} on {os.uname().nodename} (" in line
    assert line.endswith("writes there; wait for it, or name another place")
    assert sorted(path.name for path in directory.rglob("*")) == [f".{FILE}.lock", LOCK, DIRECTORY]


def test_a_lock_may_be_nested_and_leaves_nothing_behind(tmp_path: Path) -> None:
    place, results = tmp_path / "deep" / "out", tmp_path / "kept"
    with locked(place, results, files=[place / "a.json"]):
        with locked(place):
            (results / "result").touch()
        assert (place / LOCK).exists()
        assert (place / ".a.json.lock").exists()
    assert list(tmp_path.rglob("*")) == [results, results / "result"]


def test_the_place_is_free_once_its_holder_was_killed(tmp_path: Path) -> None:
    with another_process(tmp_path) as child:
        with pytest.raises(InUseError, match=f"process {child} "), locked(tmp_path):
            pass
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert json.loads((tmp_path / LOCK).read_text())["process"] == child
        with locked(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_swept_though_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(Path, "replace", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        files.write_text(tmp_path / "result", "text")
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_what_a_holder_has_forked_does_not_hold(tmp_path: Path) -> None:
    """Workers outlive a process that is killed."""
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            try:
                with locked(tmp_path):  # it is the parent's, which it is not
                    os._exit(1)
            except InUseError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    with another_process(tmp_path):  # who can have it now
        pass


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"process": "x"}', "\0" * 99])
def test_a_lock_file_that_says_nothing_is_taken_over(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file alone tells: of this machine, whether its holder is there; of another one, a person has to say."""

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "lockf", none)
    lock = tmp_path / LOCK
    with locked(tmp_path):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert not lock.exists()
    holder = {"process": 1, "machine": os.uname().nodename, "command": "taskvec", "since": "today"}
    lock.write_text(json.dumps(holder))
    with pytest.raises(InUseError, match=r"process 1 on .* or remove .* if it is no longer there"), locked(tmp_path):
        pass
    lock.write_text(json.dumps({**holder, "process": 2**22 + 1}))  # more than there can be
    with locked(tmp_path):
        pass
    lock.write_text(json.dumps({**holder, "process": 2**22 + 1, "machine": "elsewhere"}))
    with pytest.raises(InUseError, match="on elsewhere"), locked(tmp_path):
        pass


def test_of_torchruns_processes_the_first_one_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with another_process(tmp_path / "out"), locked(tmp_path / "out"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "out" / LOCK).mkdir(parents=True)
    with (
        pytest.raises(OSError, match=r"out/\.taskvec\.lock cannot be written: Is a directory"),
        locked(tmp_path / "out"),
    ):
        pass
