import contextlib
import errno
import json
import os
import re
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from taskvec import files
from taskvec.files import (
    WriteError,
    check_destination_directory,
    check_regular,
    escaped,
    json_text,
    read_bytes,
    read_json,
    read_text,
    replacing,
    shortened,
    write_json,
    write_json_lines,
)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("all of it")
        assert not (tmp_path / "new" / "file").exists()
    assert (tmp_path / "new" / "file").read_text() == "all of it"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file"]


def _write_privately(path: Path) -> None:
    path.unlink()
    path.touch(mode=0o600)


WRITERS = [
    pytest.param(lambda path: path.write_bytes(b"x"), id="bytes"),
    pytest.param(_write_privately, id="privately"),
    pytest.param(lambda path: save_file({"a": torch.zeros(3)}, path), id="safetensors"),
]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("write", WRITERS)
def test_files_have_the_mode_that_the_umask_gives(umask: int, write: Callable[[Path], object], tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "file") as temporary:
            write(temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_threads_do_not_change_the_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The umask is the whole process's: setting it to read it lets another thread's files be open to everybody."""
    umask, asked = os.umask(0o027), os.umask
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"the umask was set to {mask:o}"))
    try:
        threads = [
            threading.Thread(target=lambda i=i: [write_json(tmp_path / f"{i}-{j}", j) for j in range(20)])
            for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        left = asked(umask)
    assert left == 0o027
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}
    assert len(list(tmp_path.iterdir())) == 80


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


def _socket(path: Path) -> None:
    with contextlib.chdir(path.parent):  # a socket's path has at most 108 bytes
        socket.socket(socket.AF_UNIX).bind(path.name)


ODD = {"pipe": os.mkfifo, "socket": _socket, "directory": Path.mkdir}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_neither_read_nor_replaced(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    ODD[kind](path)
    for read in (check_regular, read_bytes, read_text, read_json):
        with pytest.raises(ValueError, match=rf"odd is a {kind}, expected a file"):
            read(path)
    with pytest.raises(ValueError, match=rf"odd is a {kind}, expected a file"):
        write_json(path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["odd"]


def test_a_device_is_no_file() -> None:
    with pytest.raises(ValueError, match=r"/dev/zero is a device, expected a file"):
        read_bytes(Path("/dev/zero"))


def test_a_link_to_itself_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=r"loop is a link that leads to itself, expected a file"):
        write_json(tmp_path / "loop", 1)


def test_files_that_are_no_text_or_no_json_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, message in [
        (b"\xff\xfe", "file is no text in UTF-8"),
        (b"{", "file is not JSON"),
        (200_000 * b"[", "file is nested too deeply"),
        (b"9" * 5000, "file is not JSON"),  # Python converts no such number
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_json(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip("only an administrator may mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def _save_torch(path: Path) -> None:
    with path.open("wb") as file:
        torch.save({"a": torch.zeros(100_000)}, file)


def _save_png(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")


LARGE = {
    "text": lambda path: path.write_text("a" * 300_000),
    "safetensors": lambda path: save_file({"a": torch.zeros(100_000)}, path),
    "torch": _save_torch,
    "png": _save_png,
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_full_disk_is_one_sentence_and_what_was_there_stays(kind: str, small_disk: Path) -> None:
    def write() -> None:
        with replacing(small_disk / "file") as temporary:
            LARGE[kind](temporary)

    with pytest.raises(WriteError) as first:
        write()
    assert first.value.errno == errno.ENOSPC
    place = small_disk / "file"
    assert str(first.value) == f"{place} cannot be written: No space left on device: make room and run it again"
    (small_disk / "file").write_text("before")
    with pytest.raises(WriteError, match=r"what was there stays as it was"):
        write()
    assert (small_disk / "file").read_text() == "before"
    assert [path.name for path in small_disk.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", LARGE)
def test_a_limit_of_size_is_one_sentence(kind: str, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    try:
        with pytest.raises(WriteError) as told, replacing(tmp_path / "file") as temporary:
            LARGE[kind](temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert told.value.errno == errno.EFBIG
    assert str(told.value) == f"{tmp_path / 'file'} cannot be written: File too large"
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_are_not_said_of_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "file"):
        (tmp_path / "absent").read_text()
    with pytest.raises(RuntimeError, match="something else"), replacing(tmp_path / "file"):
        raise RuntimeError("something else")


def test_a_file_where_a_directory_belongs_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("below", "far/below"):
        with pytest.raises(ValueError, match=rf"{name} cannot be written: {tmp_path}/file is no directory to write to"):
            write_json(tmp_path / "file" / name, 1)
        with pytest.raises(ValueError, match=rf"{name} cannot be written: {tmp_path}/file is no directory to write to"):
            check_destination_directory(tmp_path / "file" / name)
    with pytest.raises(ValueError, match=r"file is a file, expected a directory"):
        check_destination_directory(tmp_path / "file")
    (tmp_path / "link").symlink_to("absent")
    with pytest.raises(ValueError, match=r"link is a link to what is not there, expected a directory"):
        check_destination_directory(tmp_path / "link")
    check_destination_directory(tmp_path / "new" / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.fixture
def not_swept_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_swept", set())


@pytest.mark.usefixtures("not_swept_yet")
def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from taskvec.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    (temporary.parent / "of a library").touch()
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    subprocess.run([*command, "die"], check=False)
    (dead,) = tmp_path.iterdir()
    assert {path.name for path in dead.iterdir()} == {"file", "of a library"}
    # a process of an earlier life, in a container say, may have had the number that this one has
    namesake = tmp_path / re.sub(r"-\d+-", f"-{os.getpid()}-", dead.name)
    elsewhere = tmp_path / re.sub(r"^\.\w+-", f".{'0' * 6}-", dead.name)
    longer_ago = tmp_path / re.sub(r"^\.\w+-", f".{'1' * 6}-", dead.name)
    for path in (namesake, elsewhere, longer_ago, tmp_path / ".other.tmp"):
        path.mkdir()
    os.utime(longer_ago, (1e9, 1e9))
    with subprocess.Popen([*command, "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as alive:
        assert alive.stdout is not None
        assert alive.stdin is not None
        alive.stdout.readline()
        (at_work,) = tmp_path.glob(f".*-{alive.pid}-*.tmp")
        write_json(tmp_path / "mine", 1)
        assert {path.name for path in tmp_path.iterdir()} == {"mine", at_work.name, elsewhere.name, ".other.tmp"}
        alive.stdin.close()
    assert (tmp_path / "file").read_text() == "half"


NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)
VALUES = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def _without(value: Any) -> Any:
    """The value with None for what is not finite."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, list):
        return [_without(item) for item in value]
    return {name: _without(item) for name, item in value.items()} if isinstance(value, dict) else value


@given(VALUES)
def test_json_is_json_whatever_the_numbers(value: Any) -> None:
    text = json_text(value)
    assert json.loads(text, parse_constant=pytest.fail) == _without(value)


def test_json_files(tmp_path: Path) -> None:
    write_json(tmp_path / "one", {"a": (1.5, float("nan")), "b": Path("c")}, plain=str)
    assert (tmp_path / "one").read_text() == '{\n "a": [\n  1.5,\n  null\n ],\n "b": "c"\n}\n'
    assert read_json(tmp_path / "one") == {"a": [1.5, None], "b": "c"}
    write_json_lines(tmp_path / "lines", [{"loss": float("inf")}, {"loss": 2}])
    assert (tmp_path / "lines").read_text() == '{"loss": null}\n{"loss": 2}\n'
    with pytest.raises(TypeError):
        json_text({"a": Path("b")})


def test_control_characters_are_shown_not_obeyed() -> None:
    assert escaped("a\x1b[31mb\nc\td\x9be") == r"a\x1b[31mb\nc\td\x9be"
    assert escaped("\u202eexe.png\u2028") == r"\u202eexe.png\u2028"
    assert escaped("a\ud800") == r"a\ud800"
    assert escaped("übung 日本 [red] C:\\new") == "übung 日本 [red] C:\\new"


@given(st.text())
def test_escaped_text_is_one_line_and_stays_as_it_is(text: str) -> None:
    assert len(escaped(text).splitlines()) <= 1
    assert escaped(escaped(text)) == escaped(text)


def test_long_lists_are_shortened() -> None:
    assert shortened(["a", "b", "c"]) == "a; b; c"
    assert shortened(["a", "b", "c", "d"]) == "a; b; c; ... and 1 more"
    assert shortened(range(168), 2, ", ") == "0, 1, ... and 166 more"
    assert shortened([]) == ""
