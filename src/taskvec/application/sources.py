"""Where images come from: an image, a directory or a list of them, or shards. All of them in portions, in order.

A portion is some files of one directory or list, or one shard. It can be sent to another process, which opens it there.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os.path import realpath
from pathlib import Path
from typing import Protocol

from taskvec.application.samples import Sample
from taskvec.application.shards import PARQUET, TAR, ParquetShard, Shard, TarShard, digest_of_file, require_pyarrow
from taskvec.digests import of_json
from taskvec.files import check_regular
from taskvec.images import check_is_image, walk

LIST = ".txt"
FOLDER = "folder"  # the format of files, beside those of shards
PORTION = 256  # files
_BRACES = re.compile(r"\{([^{}]*)\}")
_MOST_SHARDS = 1_000_000  # of a pattern


@dataclass(frozen=True)
class Files:
    """Some files, as their paths and keys; ``number`` counts the portions of their source."""

    number: int
    files: tuple[tuple[Path, str], ...]
    directory = ""

    @property
    def name(self) -> str:
        return str(self.files[0][0])

    @property
    def place(self) -> str:
        return f"images-{self.number:06}"

    def samples(self) -> Iterator[Sample]:
        return (Sample(key, str(path), path) for path, key in self.files)

    def digest(self) -> str:
        return of_json([[key, str(path.exists() and digest_of_file(path))] for path, key in self.files])


Portion = Files | Shard


class Source(Protocol):
    """Images that can be gone through again and again.

    ``count`` is how many, None where only reading tells. ``skipped`` is what is no image, with the reason. ``format``
    is folder, tar or parquet.
    """

    @property
    def count(self) -> int | None: ...

    @property
    def skipped(self) -> dict[str, str]: ...

    @property
    def format(self) -> str: ...

    def portions(self, size: int = PORTION) -> Iterator[Portion]:
        """``size`` is the number of files in one, but in the last; shards have their own."""
        ...


@dataclass(frozen=True)
class Folder:
    """A directory of images, or one image: of every directory in it the names, which are all that is held."""

    directories: tuple[tuple[Path, tuple[str, ...]], ...]
    top: Path
    skipped: dict[str, str] = field(default_factory=dict)
    format = FOLDER

    @property
    def count(self) -> int:
        return sum(len(names) for _, names in self.directories)

    def files(self) -> Iterator[tuple[Path, str]]:
        for directory, names in self.directories:
            place = directory.relative_to(self.top)
            for name in names:
                yield directory / name, str(place / _stem(name))

    def portions(self, size: int = PORTION) -> Iterator[Files]:
        return _portions(self.files(), size)


@dataclass(frozen=True)
class FileList:
    """A text file of paths, one a line, which are relative to its directory. It is read anew every time, never held.

    Results have the same paths; of absolute ones without what makes them so.
    """

    path: Path
    count: int
    skipped: dict[str, str] = field(default_factory=dict)
    format = FOLDER

    def files(self) -> Iterator[tuple[Path, str]]:
        check_regular(self.path)
        with self.path.open(encoding="utf-8") as lines:
            for text in lines:
                if line := text.rstrip("\r\n"):
                    path = self.path.parent / line
                    relative = path.relative_to(path.anchor) if Path(line).is_absolute() else Path(line)
                    yield path, str(relative.parent / _stem(relative.name))

    def portions(self, size: int = PORTION) -> Iterator[Files]:
        return _portions(self.files(), size)


@dataclass(frozen=True)
class Shards:
    """Files of many samples each: all tar, or all parquet."""

    shards: tuple[Shard, ...]
    format: str
    count = None
    skipped: dict[str, str] = field(default_factory=dict)

    def portions(self, size: int = PORTION) -> Iterator[Shard]:
        return iter(self.shards)


def source_of(
    inputs: Path, out: Path, *, recursive: bool = False, column: str | None = None, key: str | None = None
) -> Source:
    """What ``inputs`` names: an image, a directory of images or of shards, a list, a shard, or shards by a pattern
    such as ``train-{000..012}.tar``. ``out`` is where results will be.

    ``recursive`` takes a directory's directories, too. ``column`` says which member of a sample of a tar, or column of
    a table, is the image, and ``key`` which column is its key, where that cannot be told. Raises ValueError where there
    is nothing, two images would have one result, or a result would replace an image or be among them the next time.
    """
    if _BRACES.search(str(inputs)) and not inputs.exists():
        return _shards([Path(name) for name in expanded(str(inputs))], out, column, key)
    if not inputs.exists():
        raise ValueError(f"{inputs} does not exist: expected an image or a directory of images, a list, or shards")
    ending = inputs.suffix.lower()
    if inputs.is_dir():
        if _is_within(inputs, out):
            raise ValueError(f"{out} is in the directory of the images, {inputs}: name another directory")
        folder = _folder(inputs, recursive=recursive)
        if folder.directories:
            _refuse_columns(inputs, column, key)
            return folder
        shards = [path for path in map(Path, folder.skipped) if path.suffix.lower() in (TAR, PARQUET)]
        if not shards:
            raise ValueError(_nothing_in(inputs, folder.skipped))
        return _shards(shards, out, column, key)
    if ending in (TAR, PARQUET):
        return _shards([inputs], out, column, key)
    _refuse_columns(inputs, column, key)
    if ending == LIST:
        return _list(inputs, out)
    check_is_image(inputs)
    if realpath(result := out / f"{_stem(inputs.name)}.png") == realpath(inputs):
        raise ValueError(f"the result of {inputs} would replace the image {result}: name another directory")
    return Folder(((inputs.parent, (inputs.name,)),), inputs.parent)


def expanded(pattern: str) -> list[str]:
    """The names of a pattern with braces: ``{000..012}`` is numbers of so many digits, ``{a,b}`` either of them."""
    parts = _BRACES.split(pattern)
    choices = [[part] if index % 2 == 0 else _alternatives(part, pattern) for index, part in enumerate(parts)]
    if math.prod(map(len, choices)) > _MOST_SHARDS:
        raise ValueError(f"{pattern} names more than {_MOST_SHARDS:,} shards")
    return ["".join(some) for some in itertools.product(*choices)]


def _alternatives(text: str, pattern: str) -> list[str]:
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        first, last = numbers.groups()
        if int(first) > int(last) or len(last) > 9:
            raise ValueError(f"{pattern}: expected {{FIRST..LAST}} with FIRST not above LAST, not {{{text}}}")
        if int(last) - int(first) >= _MOST_SHARDS:
            raise ValueError(f"{pattern} names more than {_MOST_SHARDS:,} shards")
        return [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    if "," not in text:
        raise ValueError(f"{pattern}: expected {{FIRST..LAST}} or {{ONE,OTHER}}, not {{{text}}}")
    return text.split(",")


def _folder(directory: Path, *, recursive: bool) -> Folder:
    names: dict[Path, list[str]] = {}
    skipped: dict[str, str] = {}
    for path, reason in walk(directory, recursive=recursive):
        if reason is None:
            names.setdefault(path.parent, []).append(path.name)
        else:
            skipped[str(path)] = reason
    for place, some in names.items():
        results: dict[str, str] = {}
        for name in some:
            if (other := results.setdefault(_stem(name), name)) != name:
                raise ValueError(
                    f"{place / other} and {place / name} share a name: both results would be {_stem(name)}.png"
                )
    return Folder(tuple((place, tuple(some)) for place, some in names.items()), directory, skipped)


def _list(path: Path, out: Path) -> FileList:
    """Raises ValueError for a path that no result can have, for one that comes twice, and for images among results."""
    keys: set[int] = set()  # of 64 bits each, whatever the paths' lengths
    whole = FileList(path, 0)
    try:
        for number, (image, key) in enumerate(whole.files(), 1):
            if ".." in Path(key).parts:
                raise ValueError(f"{path}: {image} goes up by .., which its result cannot: expected an absolute path")
            if _is_within(out, image):
                raise ValueError(f"{path}: {image} is in the directory for results, {out}: name another directory")
            keys.add(hash(key))
            if len(keys) < number:
                raise ValueError(f"{path}: {image} shares a name with another: both results would be {key}.png")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: expected the path of an image in each line") from error
    if not keys:
        raise ValueError(f"{path} has no paths: expected one in each line")
    return FileList(path, len(keys))


def _shards(paths: Sequence[Path], out: Path, column: str | None, key: str | None) -> Shards:
    """Raises ValueError for shards of several kinds or one name, what is none, and what is among the results."""
    kinds = {path.suffix.lower() for path in paths}
    if len(kinds) != 1 or not kinds <= {TAR, PARQUET}:
        raise ValueError(f"{paths[0]} ... {paths[-1]}: expected shards all named {TAR}, or all {PARQUET}")
    names: dict[str, Path] = {}
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} is no file, expected a shard")
        if _is_within(out, path):
            raise ValueError(f"{path} is in the directory for results, {out}: name another directory")
        if (other := names.setdefault(path.stem, path)) is not path:
            raise ValueError(f"{other} and {path} share a name: both results would be of {path.stem}")
    if kinds == {TAR}:
        if key is not None:
            raise ValueError(f"--key {key}: keys of {paths[0]} are its members' names, only tables have other ones")
        return Shards(tuple(TarShard(path, column) for path in paths), "tar")
    require_pyarrow(paths[0])
    return Shards(tuple(ParquetShard(path, column, key) for path in paths), "parquet")


def _refuse_columns(inputs: Path, column: str | None, key: str | None) -> None:
    if column or key:
        raise ValueError(f"--{'column' if column else 'key'} is about shards, which {inputs} is not")


def _is_within(directory: Path, path: Path) -> bool:
    return Path(realpath(path)).is_relative_to(realpath(directory))


def _nothing_in(source: Path, skipped: dict[str, str]) -> str:
    """Why a directory has no image to do."""
    if not skipped:
        return f"{source} has no files: expected images"
    path, reason = next(iter(skipped.items()))
    directories = " (--recursive takes those of the directories in it)" if Path(path).is_dir() else ""
    return f"{source} has no images{directories}: {reason}"


def _portions(files: Iterator[tuple[Path, str]], size: int) -> Iterator[Files]:
    for number in itertools.count():
        if not (some := tuple(itertools.islice(files, size))):
            return
        yield Files(number, some)


def _stem(name: str) -> str:
    """A name without its ending, if what follows the last point is a kind of file, not a part of a number, as in names
    of DICOM files.
    """
    path = Path(name)
    return path.stem if path.suffix and not path.suffix[1:].isdecimal() else name
