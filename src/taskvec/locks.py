"""One writer at a time: a place that results are written to is locked, and a second writer is told who has it.

A lock is a small hidden file that names its holder, locked by the system for as long as the holder lives. That of a
process that was killed is free at once, also of one on another machine, where the file system says so; the file that it
left behind is taken over.
"""

import errno
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from taskvec.files import WriteError, check_destination, check_destination_directory, is_running, sweep
from taskvec.torchrun import is_first

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".taskvec.lock"  # in a directory; .NAME.lock beside a file
_TAKEN = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)  # of a file system that has none
_COMMAND = 200  # letters of a command that are told

_held: dict[Path, tuple[int, int]] = {}  # the process, which a fork of it is not, and how often it is inside the block


class InUseError(ValueError):
    """Another process writes to a place: one sentence that says which."""


@dataclass(frozen=True)
class Holder:
    """The process that has a lock, and since when, in its own time zone."""

    process: int
    machine: str
    command: str
    since: str

    @classmethod
    def this(cls) -> "Holder":
        command = shlex.join(["taskvec", *sys.argv[1:]])
        short = command if len(command) <= _COMMAND else f"{command[:_COMMAND]} ..."
        return cls(os.getpid(), platform.node(), short, datetime.now().astimezone().isoformat(" ", "seconds"))

    def __str__(self) -> str:
        return f"process {self.process} on {self.machine} ({self.command}) since {self.since}"


@contextmanager
def locked(*directories: Path, files: Sequence[Path] = ()) -> Iterator[None]:
    """In the block no other process that asks writes to these directories or files. It may be nested.

    Of the processes that torchrun started, the first one writes, and locks for all. A directory that is not there is
    made, and removed where nothing came to be in it. Raises InUseError where another process is inside such a block,
    ValueError where a place is something else, and WriteError where nothing can be written.
    """
    with ExitStack() as stack:
        if is_first():
            for directory in directories:
                check_destination_directory(directory)
                stack.enter_context(_locked(directory.resolve() / LOCK, directory))
            for file in files:
                check_destination(file)
                place = file.resolve()
                stack.enter_context(_locked(place.with_name(f".{place.name}.lock"), file))
        yield


@contextmanager
def _locked(lock: Path, place: Path) -> Iterator[None]:
    """Hold the lock file ``lock`` of ``place``."""
    process, times = _held.get(lock, (0, 0))
    if process == os.getpid() and times:
        _held[lock] = process, times + 1
        try:
            yield
        finally:
            _held[lock] = process, times
        return
    made = _make(lock.parent, place)
    try:
        file = _take(lock, place)
        _held[lock] = os.getpid(), 1
        try:
            sweep(lock.parent)  # also where all that is left to do is nothing
            yield
        finally:
            del _held[lock]
            with suppress(OSError):  # the lock is removed while it is held, so that nobody else's is
                lock.unlink()
            os.close(file)
    finally:
        for directory in made:
            with suppress(OSError):  # which is not empty
                directory.rmdir()


def _make(directory: Path, place: Path) -> list[Path]:
    """Make a directory and those that it is in; returns those that were not there, the innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error, place) from error
    return missing


def _take(lock: Path, place: Path) -> int:
    """The lock file, locked and with this process's name in it."""
    while True:
        try:
            file, new = _open(lock)
        except FileNotFoundError:  # who made the directory, too, has just removed it
            _make(lock.parent, place)
            continue
        except OSError as error:
            raise _unwritable(error, lock) from error
        try:
            if not _lock(file, lock, place, new=new):
                os.close(file)
                continue
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(asdict(Holder.this())).encode(), 0)
        except OSError as error:
            os.close(file)
            raise _unwritable(error, lock) from error
        except BaseException:
            os.close(file)
            raise
        return file


def _open(lock: Path) -> tuple[int, bool]:
    """The lock file, and whether it was not there before."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        with suppress(FileExistsError):
            return os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        with suppress(FileNotFoundError):  # whose holder has just removed it
            return os.open(lock, flags), False


def _lock(file: int, lock: Path, place: Path, *, new: bool) -> bool:
    """Lock an open lock file; False where it is no longer the one of that name. InUseError where it is another's.

    A lock of a process, not of an open file: what a process forked does not keep it, should the process be killed.
    """
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "")
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            raise InUseError(
                f"{place} is in use: {_told(file)} writes there; wait for it, or name another place"
            ) from None
        if error.errno not in _NO_LOCKS:
            raise
        if new:
            return True
        _refuse_the_living(file, lock, place)
        lock.unlink(missing_ok=True)  # and try again to be the one who makes it
        return False
    try:
        there = lock.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _refuse_the_living(file: int, lock: Path, place: Path) -> None:
    """Without locks of the system: InUseError but where the holder was on this machine and is no longer there."""
    holder = _holder(file)
    if holder is None or holder.machine != platform.node() or is_running(holder.process):
        raise InUseError(
            f"{place} is in use: {_told(file)} writes there; wait for it, or name another place, or remove {lock} if "
            "it is no longer there"
        )


def _told(file: int) -> str:
    return str(_holder(file) or "another process")


def _holder(file: int) -> Holder | None:
    """Who an open lock file says has it; None where it does not say so, as in the moment before it does."""
    try:
        values = json.loads(os.pread(file, 1 << 16, 0))
        return Holder(int(values["process"]), str(values["machine"]), str(values["command"]), str(values["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _unwritable(error: OSError, place: Path) -> WriteError:
    number = error.errno or errno.EIO
    return WriteError(number, f"{place} cannot be written: {os.strerror(number)}")
