"""Cells: what an experiment computes, each once, under a key made of its whole configuration.

A cell is data that says what it is of, which other cells it needs and how it is computed, so that it can be computed in
any process. What came out is a JSON file that holds the cell's key beside its value, so that a directory of cells can
be read without this code. It appears whole or not at all: an interrupted run goes on where it stopped, and whoever
needs a cell again, finds it. It also holds a digest of itself, so that a damaged one is never taken for a result.
"""

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from taskvec.files import read_json, write_text

FORMAT = 1  # counts up when the same key comes to mean something else

OnCell = Callable[[str, float | None], None]


def digest(key: dict[str, Any]) -> str:
    """SHA-256 of a key, 16 hexadecimal digits; dataclasses count by their fields."""
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **asdict(value)}
    return str(value)


@dataclass(frozen=True)
class Store:
    """A directory of cells. ``on_cell(what, seconds)`` is told of each before it is computed (None) and after."""

    directory: Path
    on_cell: OnCell = lambda what, seconds: None

    def get(self, what: str, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        """The cell's value, which must be JSON, computed only where it is not there yet.

        ``what`` tells people what it is; only ``key`` tells cells apart. Raises ValueError for a cell that is damaged,
        and for a value with numbers that are not finite.
        """
        path = self.path(key, ".json")
        if path.exists():
            return read_cell(path)["value"]
        self.on_cell(what, None)
        started = time.perf_counter()
        value = compute()
        seconds = time.perf_counter() - started
        cell = {"what": what, "seconds": seconds, "key": key, "value": value}
        try:
            plain = json.loads(json.dumps(cell, default=_plain, allow_nan=False))
        except ValueError as error:
            raise ValueError(f"{what}: a number that came out is not finite") from error
        write_text(path, json.dumps({**plain, "digest": _content(plain)}) + "\n")
        self.on_cell(what, seconds)
        return value

    def has(self, key: dict[str, Any]) -> bool:
        """Whether the cell of a key is there."""
        return self.path(key, ".json").exists()

    def path(self, key: dict[str, Any], suffix: str) -> Path:
        """Where what belongs to a key is, or would be."""
        return self.directory / f"{digest(key)}{suffix}"


class Stored(Protocol):
    """What keeps its values as cells."""

    @property
    def store(self) -> Store: ...


Whole = TypeVar("Whole", bound=Stored)  # the study that cells are of


class Cell(ABC, Generic[Whole]):
    """One value of a study as data: its classes are frozen dataclasses that can be compared and pickled.

    ``study`` is the study that the cell is of, in whatever process. ``Cell.value`` is what whoever needs it asks for.
    """

    @abstractmethod
    def title(self, study: Whole) -> str:
        """What people call it."""

    def needs(self, study: Whole) -> Sequence["Cell[Whole]"]:
        """The cells that have to be there before its key is asked for and it is computed."""
        return ()

    @abstractmethod
    def key(self, study: Whole) -> dict[str, Any]:
        """What tells it apart from all other cells: everything that its value follows from."""

    @abstractmethod
    def compute(self, study: Whole) -> Any:
        """Its value, which must be JSON."""

    def value(self, study: Whole) -> Any:
        """Its value, computed only where it is not there yet, as is what it needs."""
        return study.store.get(self.title(study), self.key(study), lambda: self.compute(study))


def read_cell(path: Path) -> dict[str, Any]:
    """What a cell's file holds: ``what``, ``seconds``, ``key`` and ``value``.

    Raises ValueError, which names the file, where it is not what was written there.
    """
    try:
        cell = read_json(path)
        if cell.pop("digest") != _content(cell) or digest(cell["key"]) != path.stem:
            raise ValueError("its content is not what its digest or its name says")
        _ = cell["value"]
        return cell
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged (no cell with a digest): delete it to compute it anew") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to compute it anew") from error


def _content(cell: dict[str, Any]) -> str:
    """SHA-256 of all that a cell holds beside it."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()
