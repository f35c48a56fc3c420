"""Files: written so that nothing is ever half-written, read only where they are files, and told of in one line."""

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import stat
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

_PROCESS = token_hex(4)  # with the number of the process, which a later one may have again, as in a container
_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
_TEMPORARY = re.compile(r"\.([0-9a-f]{6})-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}\.tmp")
_LONGEST_WRITE = 24 * 3600  # seconds, after which another machine's temporary directory counts as left behind
_swept: set[Path] = set()  # directories that this process has looked at
_WAITING = 16  # files that are put on the disk at once
_FULL = (errno.ENOSPC, errno.EDQUOT)

Plain = Callable[[Any], Any]


class WriteError(OSError):
    """A file could not be written: one sentence with its path, and the system's number of the error."""

    def __str__(self) -> str:
        return self.strerror or ""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty file for the block to fill, renamed to ``path`` when the block ends well and removed when it does not.

    Of a link, what it leads to is replaced. The file has the mode that the process's umask gives, whatever the writer
    does, and it is on the disk, as is its name, before this returns. The file is in a temporary directory beside
    ``path``, where libraries may keep temporary files of their own; directories that processes left behind when they
    were killed are removed.

    Raises ValueError where ``path`` is no place for a file, and WriteError where it cannot be written, as on a full
    disk; what was there stays.
    """
    check_destination(path)
    target = path.resolve() if path.is_symlink() else path
    directory = _beside(target)
    temporary = directory / "file"
    try:
        with _telling(path, target, directory):
            _make(directory)
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
            try:
                mode = stat.S_IMODE(os.fstat(file).st_mode)
            finally:
                os.close(file)
            yield temporary
            temporary.chmod(mode)  # some writers replace the file by one that only its owner may read
            _to_disk(temporary)
            temporary.replace(target)
            _to_disk(target.parent)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def replacing_together() -> Iterator[Callable[[Path, bytes], None]]:
    """What writes files that come to be when the block ends well, each as ``replacing`` has it: whole, and on the disk
    before this returns. They wait for the disk together, which of many small files takes a tenth of the time.

    What it is called with are a path and what the file there shall hold; it raises as ``replacing`` does.
    """
    places: dict[Path, Path] = {}  # by directory, where its files wait
    waiting: list[tuple[Path, Path, Path]] = []  # path, what it leads to, temporary file

    def put(path: Path, content: bytes) -> None:
        check_destination(path)
        target = path.resolve() if path.is_symlink() else path
        place = places.setdefault(target.parent, _beside(target))
        with _telling(path, target, place):
            if not place.exists():
                _make(place)
            temporary = place / target.name  # under which it may be too long a name
            with temporary.open("xb") as file:
                file.write(content)
        waiting.append((path, target, temporary))

    def settle(file: tuple[Path, Path, Path]) -> None:
        path, target, temporary = file
        with _telling(path, target, temporary.parent):
            _to_disk(temporary)

    try:
        yield put
        if waiting:
            with ThreadPoolExecutor(min(len(waiting), _WAITING)) as threads:
                list(threads.map(settle, waiting))
        for path, target, temporary in waiting:
            with _telling(path, target, temporary.parent):
                temporary.replace(target)
        for directory in {target.parent for _, target, _ in waiting}:
            _to_disk(directory)
    finally:
        for place in places.values():
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _telling(path: Path, target: Path, directory: Path) -> Iterator[None]:
    """Turns what the system says, of writing in a temporary directory, into the WriteError of ``path``."""
    try:
        yield
    except Exception as error:  # of whatever class libraries make theirs
        number = _of_the_system(error, directory)
        if number is None:
            raise
        stays = "; what was there stays as it was" if target.exists() else ""
        advice = ": make room and run it again" if number in _FULL else ""
        raise WriteError(number, f"{path} cannot be written: {os.strerror(number)}{advice}{stays}") from error


def _beside(target: Path) -> Path:
    """A name for a temporary directory, short, as names may be as long as they can be."""
    return target.with_name(f".{_MACHINE}-{os.getpid()}-{_PROCESS}-{token_hex(4)}.tmp")


def _make(directory: Path) -> None:
    """Make a temporary directory, and away with those that were left behind beside it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    sweep(directory.parent)
    directory.mkdir()


def check_destination(path: Path) -> None:
    """ValueError where a file cannot come to be at ``path``, whatever is free on the disk."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} is a link that leads to itself, expected a file") from error
    else:
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is a {_kind(mode)}, expected a file")
    nearest = _nearest(path.absolute().parent)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: {nearest} is no directory to write to")


def check_destination_directory(path: Path) -> None:
    """As ``check_destination``, for a directory that files shall be written to."""
    if path.is_symlink() and not path.exists():
        raise ValueError(f"{path} is a link to what is not there, expected a directory")
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file, expected a directory")
    nearest = _nearest(path.absolute())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        place = "" if nearest == path.absolute() else f": {nearest} is no directory to write to"
        raise ValueError(f"{path} cannot be written{place or ' to'}")


def _nearest(path: Path) -> Path:
    """The path, or of what it is in, the nearest that is there."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))


def _of_the_system(error: BaseException, directory: Path) -> int | None:
    """The number of the system's error beneath one of writing in a directory; None where it is about something else.

    safetensors says it in its text alone, torch only that a file is shorter than it should be.
    """
    if isinstance(error, OSError):
        elsewhere = error.filename is not None and not _is_about(error, directory)
        return None if elsewhere else error.errno
    if said := re.search(r"\(os error (\d+)\)", str(error)):
        return int(said[1])
    if "inline_container.cc" not in str(error):  # of torch.save
        return None
    beneath = error.__context__
    return beneath.errno if isinstance(beneath, OSError) else errno.EIO


def _is_about(error: OSError, directory: Path) -> bool:
    """Whether the file of an error is in the directory, is it, or is where it is made."""
    if isinstance(error.filename, int):
        return True
    name = Path(os.fsdecode(error.filename))
    return name.is_relative_to(directory) or directory.is_relative_to(name)


def _to_disk(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return  # directories are no files there
    file = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise
    finally:
        os.close(file)


def sweep(directory: Path) -> None:
    """Remove what processes that were killed while they wrote left in a directory, once in the life of this one."""
    place = directory.resolve()
    if place in _swept:
        return
    _swept.add(place)
    for path in directory.glob(".*.tmp"):
        if (name := _TEMPORARY.fullmatch(path.name)) and not _is_in_use(path, name[1], int(name[2]), name[3]):
            shutil.rmtree(path, ignore_errors=True)


def _is_in_use(path: Path, machine: str, number: int, process: str) -> bool:
    if machine != _MACHINE or os.name != "posix":  # elsewhere os.kill would end the process
        try:
            return time.time() - path.stat().st_mtime < _LONGEST_WRITE
        except OSError:
            return True
    return process == _PROCESS if number == os.getpid() else is_running(number)


def is_running(number: int) -> bool:
    """Whether a process of this machine, by its number, is there, as far as can be told."""
    if os.name != "posix":  # elsewhere os.kill would end the process
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # somebody else's
    return True


def check_regular(path: Path) -> None:
    """ValueError for what is no regular file; a pipe, say, would be waited for. OSError where there is nothing."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is a {_kind(mode)}, expected a file")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


def read_bytes(path: Path) -> bytes:
    """What a regular file holds; ValueError for anything else, OSError where it cannot be read."""
    check_regular(path)
    return path.read_bytes()


def read_text(path: Path) -> str:
    """As ``read_bytes``, for UTF-8, of which ValueError says where it is none."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error


def read_json(path: Path) -> Any:
    """The value that a JSON file holds; ValueError, which names the file, where it holds none."""
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The table that a TOML file holds; ValueError, which names the file, where it holds none."""
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def json_text(value: object, indent: int | None = None, plain: Plain | None = None) -> str:
    """A value as JSON. Numbers that are not finite, which JSON does not know, become null.

    ``plain`` turns what JSON does not know into what it knows; without it, that is a TypeError.
    """
    try:
        return json.dumps(value, indent=indent, allow_nan=False, default=plain)
    except ValueError:
        return json.dumps(_finite(value, plain), indent=indent, allow_nan=False)


def _finite(value: Any, plain: Plain | None) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item, plain) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item, plain) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int) or plain is None:
        return value
    return _finite(plain(value), plain)


def write_text(path: Path, text: str) -> None:
    """UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: object, plain: Plain | None = None) -> None:
    """``json_text`` in a file, whole or not at all."""
    write_text(path, json_text(value, indent=1, plain=plain) + "\n")


def write_json_lines(path: Path, records: Iterable[object]) -> None:
    """One line of JSON for every record, whole or not at all."""
    write_text(path, "".join(json_text(record) + "\n" for record in records))


def digest(content: bytes) -> str:
    """What identifies a file by its content: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def printable(name: str | Path) -> str:
    """A name of the file system as text that can be written: what is no UTF-8 is replaced."""
    return os.fsencode(name).decode(errors="replace")


# what moves the cursor, starts a terminal's commands, ends a line, turns the direction of text or is no character
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(text: str) -> str:
    """One line that a terminal shows as it is: control characters, of which names may have any, as in ``\\x1b``."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def shortened(items: Sequence[object], limit: int = 3, separator: str = "; ") -> str:
    """The first ``limit`` items as one line of text, and how many more there are: "a; b; c; ... and 165 more"."""
    more = [f"... and {len(items) - limit} more"] if len(items) > limit else []
    return separator.join([*map(str, items[:limit]), *more])


def difference(kept: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first thing in which two descriptions differ, which they must, as "NAME KEPT: expected WANTED"."""
    name = next(name for name in {**wanted, **kept} if kept.get(name) != wanted.get(name))
    if isinstance(kept.get(name), dict) and isinstance(wanted.get(name), dict):
        return difference(kept[name], wanted[name])
    return f"{name} {kept.get(name)}: expected {wanted.get(name)}"
