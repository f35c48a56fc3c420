"""Writing files so that nothing is ever half-written, and telling what they are of."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, renamed to it when the block ends well and removed when it does not.

    Of a link, what it leads to is replaced. Raises ValueError where ``path`` is a directory.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a directory, expected a name for a file")
    path = path.resolve() if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{token_hex(4)}.tmp")  # short: names may be as long as they can be
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # some writers make files that only their owner may read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def printable(name: str | Path) -> str:
    """A name of the file system as text that can be written: what is no UTF-8 is replaced."""
    return os.fsencode(name).decode(errors="replace")


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
