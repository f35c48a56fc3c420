"""Which task vectors and models lie in a place, told from their small files alone, without PyTorch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from taskvec.files import read_json
from taskvec.names import GGUF
from taskvec.records import CONFIG, TENSORS, is_vectors, is_whole, model_named

DEPTH = 6  # directories below the place
_NOT_AS_WRITTEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

Kind = Literal["task vectors", "model", "unreadable"]


@dataclass(frozen=True)
class Listed:
    """What lies in a directory, or of a GGUF model in a file; None is what is not recorded, or what it does not have.

    ``model`` is that of task vectors by its name, or else its fingerprint; of a model its type. ``score`` is the mean
    by ``metric`` that was recorded last. ``sites`` of ``of`` are chosen. ``date`` is when it was written, in the local
    time zone. ``remark`` says what is wrong with it.
    """

    kind: Kind
    path: str
    task: str | None = None
    model: str | None = None
    metric: str | None = None
    score: float | None = None
    sites: int | None = None
    of: int | None = None
    date: str | None = None
    remark: str | None = None


def entries(place: Path, depth: int = DEPTH) -> Iterator[Listed]:
    """What lies in a directory and, down to ``depth``, in those in it, in the order of their names.

    Links to directories elsewhere are followed, but none is looked at twice; hidden ones are left out, and of what
    cannot be read there is an entry that says so. Raises ValueError where ``place`` is no directory.
    """
    if not place.is_dir():
        raise ValueError(f"{place} is no directory")
    yield from _below(place, depth, place.resolve(), set())


def _below(directory: Path, depth: int, root: Path, seen: set[tuple[int, int]]) -> Iterator[Listed]:
    try:
        known = directory.stat()
        if (known.st_dev, known.st_ino) in seen:
            return
        seen.add((known.st_dev, known.st_ino))
        with os.scandir(directory) as found:
            inside = sorted(found, key=lambda one: one.name)
    except OSError as error:
        yield Listed("unreadable", str(directory), remark=error.strerror)
        return
    names = {one.name for one in inside}
    if CONFIG in names and (entry := _entry(directory, names)) is not None:
        yield entry
    for one in inside:
        if one.name.startswith("."):
            continue
        if one.name.endswith(GGUF):
            yield Listed("model", one.path, model="gguf", date=_date(Path(one.path)))
        elif depth and _is_directory(one, root):
            yield from _below(Path(one.path), depth - 1, root, seen)


def _is_directory(one: "os.DirEntry[str]", root: Path) -> bool:
    """Whether it is a directory, and no link to what is looked at anyway, or to what that is in."""
    try:
        if not one.is_symlink():
            return one.is_dir()
        target = Path(one.path).resolve(strict=True)
    except (OSError, RuntimeError):  # such as a link to itself
        return False
    return target.is_dir() and not (target.is_relative_to(root) or root.is_relative_to(target))


def _entry(directory: Path, names: set[str]) -> Listed | None:
    """What a directory with a config.json holds; None where that is something else."""
    path = directory / CONFIG
    try:
        record = read_json(path)
    except OSError as error:
        return Listed("unreadable", str(path), remark=error.strerror)
    except ValueError:
        return None
    if is_vectors(record):
        return _vectors(directory, record, names)
    weights = any(name.endswith((".safetensors", ".safetensors.index.json")) for name in names)
    if not isinstance(record, dict) or not weights:
        return None
    return Listed("model", str(directory), model=str(record.get("model_type", "mae_vqgan")), date=_date(path))


def _vectors(directory: Path, record: dict[str, Any], names: set[str]) -> Listed:
    remark = None
    if TENSORS not in names:
        remark = f"there is no {TENSORS}"
    elif "digest" in record and not is_whole(record):
        remark = f"{CONFIG} is damaged or was changed"
    try:
        task, metric = str(record["task"]), str(record["metric"])
        model = model_named(record) or record["model_fingerprint"]
        sites, of = len(record["sites"]), int(record["of"])
        *_, last = [None, *record.get("scores", [])]
        metric, score = (metric, None) if last is None else (str(last["metric"]), float(last["value"]["mean"]))
    except _NOT_AS_WRITTEN:
        return Listed("task vectors", str(directory), date=_date(directory / CONFIG), remark=f"{CONFIG} is damaged")
    return Listed(
        "task vectors", str(directory), task, str(model), metric, score, sites, of, _date(directory / CONFIG), remark
    )


def _date(path: Path) -> str | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "minutes")
    except OSError:
        return None
