"""Files of many samples each: tar, named as WebDataset has it, and parquet. Read and written one sample at a time."""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from taskvec.application.samples import Sample
from taskvec.extras import install
from taskvec.files import check_regular, escaped
from taskvec.images.files import why_no_image

if TYPE_CHECKING:
    import pyarrow

TAR, PARQUET = ".tar", ".parquet"
KEY = "__key__"  # WebDataset's name for the column of keys
_KEYS = (KEY, "key")  # columns that are taken for it
_IMAGE = "image"  # the column, where there was none
_MEMBER = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)  # key and the rest, from the first point on
_META = re.compile(r"__[^/]*__($|/)")  # members that are about the shard, which WebDataset leaves out, too
_BLOCK = 512  # of a tar
_ROWS = 32  # of a table, in memory at once
_ROW_GROUP, _ROW_GROUP_BYTES = 1024, 64 << 20  # rows and bytes that are written together, at most


class BrokenShardError(ValueError):
    """A shard that cannot be read to its end: one sentence with its name."""


class Shard(Protocol):
    """One file of samples. Results as files are in a ``directory`` of their own, as a shard their name is ``place``."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...

    @property
    def place(self) -> str: ...

    @property
    def directory(self) -> str: ...

    def samples(self) -> Iterator[Sample]:
        """In order; BrokenShardError where the file is damaged, after all samples before that."""
        ...

    def digest(self) -> str:
        """What identifies all that it holds."""
        ...


@dataclass(frozen=True)
class _OfFile:
    path: Path
    column: str | None = None  # of the image, None where it can be told

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def place(self) -> str:
        return self.path.stem

    @property
    def directory(self) -> str:
        return self.path.stem

    def digest(self) -> str:
        return digest_of_file(self.path)


@dataclass(frozen=True)
class TarShard(_OfFile):
    """Members ``KEY.ENDING``; those of one key, one after the other, are a sample.

    ``others`` of a sample are its members by their endings, but for the image. Directories, members without an ending
    and those that are about the shard (``__NAME__``) are left out; nothing is ever extracted.
    """

    def samples(self) -> Iterator[Sample]:
        seen: set[int] = set()  # of 64 bits each, whatever the keys' lengths
        with _breaking(self.name), self.path.open("rb") as file:
            check_regular(self.path)
            for key, members in _samples_of(file, self.path.stat().st_size):
                yield self._sample(key, members, twice=hash(key) in seen)
                seen.add(hash(key))

    def _sample(self, key: str, members: list[tuple[str, bytes | str]], *, twice: bool) -> Sample:
        name = f"{self.path}: {escaped(key)}"
        endings = [ending for ending, _ in members]
        images = [ending for ending in endings if ending == self.column or (not self.column and _is_image(ending))]
        problem = next((f"{name}.{ending} {content}" for ending, content in members if isinstance(content, str)), None)
        if unsafe := why_unsafe(key):
            problem = f"{name} {unsafe}"
        elif twice or len(set(endings)) < len(endings):
            problem = f"{name} is there twice: a sample of the key came before"
        elif len(images) != 1:
            expected = f"expected {self.column} (--column)" if self.column else "--column says which member it is"
            number = "no image" if not images else f"{len(images)} images"
            problem = f"{name} has {number} among its members {', '.join(map(escaped, endings))}: {expected}"
        held = {ending: content for ending, content in members if isinstance(content, bytes)}
        content = held.pop(images[0], b"") if images else b""
        if problem is None and "png" in held:
            problem = f"{name} has a member png that is not the image, where its result belongs"
        shown = f"{name}.{images[0]}" if images else name
        return Sample(key, shown, content, held, problem)


@dataclass(frozen=True)
class ParquetShard(_OfFile):
    """Rows with an image's bytes, or a structure of them and a path, as Hugging Face has it.

    ``others`` of a sample is its row without the image, a table of one row. ``key`` is the column of keys, None for
    ``__key__`` or ``key`` where there is one, and else the row's number.
    """

    key: str | None = None

    def samples(self) -> Iterator[Sample]:
        parquet = require_pyarrow(self.path)
        seen: set[int] = set()
        with _breaking(self.name), parquet.ParquetFile(self.path, pre_buffer=False) as file:
            image, key = self.columns(file.schema_arrow)
            others = [place for place, name in enumerate(file.schema_arrow.names) if name != image]
            number = 0
            for batch in file.iter_batches(_ROWS):
                rest = batch.select(others)
                keys = batch[key].to_pylist() if key else [f"{number + row:08}" for row in range(len(batch))]
                for row, own in enumerate(keys):
                    yield self._sample(number, str(own), batch[image][row].as_py(), rest.slice(row, 1), seen)
                    number += 1

    def _sample(self, number: int, key: str, value: Any, others: "pyarrow.RecordBatch", seen: set[int]) -> Sample:
        name = f"{self.path}: row {number} ({escaped(key)})"
        content = value.get("bytes") if isinstance(value, dict) else value
        problem = None
        if unsafe := why_unsafe(key):
            problem = f"{name} {unsafe}"
        elif hash(key) in seen:
            problem = f"{name} is there twice: a row of the key came before"
        elif content is None:
            inside = isinstance(value, dict) and value.get("path")
            problem = f"{name} has no image" + (": its bytes are not in the table, only a path" if inside else "")
        seen.add(hash(key))
        return Sample(key, name, content or b"", others, problem)

    def columns(self, schema: "pyarrow.Schema") -> tuple[str, str | None]:
        """Of the image and of the keys, None for rows' numbers; BrokenShardError where they cannot be told."""
        if self.column is not None:
            images = [self.column] if self.column in schema.names and _holds_bytes(schema.field(self.column)) else []
        else:
            images = [field.name for field in schema if _holds_bytes(field)]
        if len(images) != 1:
            found = f"{len(images)} columns hold bytes, {', '.join(images)}" if images else "no column holds bytes"
            asked = f"{self.column} is no column of bytes" if self.column else found
            raise BrokenShardError(f"{self.path}: {asked}: expected one (--column), of {', '.join(schema.names)}")
        if self.key is not None and self.key not in schema.names:
            raise BrokenShardError(
                f"{self.path}: there is no column {self.key} (--key): expected one of {schema.names}"
            )
        return images[0], self.key or next((name for name in _KEYS if name in schema.names), None)


class Writer(Protocol):
    """A shard that is being written; used as a context, at whose end it is whole."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...

    def add(self, sample: Sample, result: bytes) -> None: ...


class TarWriter:
    """Members ``KEY.png`` and, from a tar, those of the sample that are not its image. Other keys are ``quoted``."""

    def __init__(self, path: Path, portion: Any):
        self.file = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 closed by __exit__
        self.of_tar = isinstance(portion, TarShard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.file.close()

    def add(self, sample: Sample, result: bytes) -> None:
        others: dict[str, bytes] = sample.others if self.of_tar else {}
        for ending, content in {"png": result, **others}.items():
            member = tarfile.TarInfo(f"{sample.key if self.of_tar else quoted(sample.key)}.{ending}")
            member.size = len(content)
            self.file.addfile(member, BytesIO(content))
        self.file.members = []  # pyright: ignore[reportAttributeAccessIssue] which it would keep for nothing


class ParquetWriter:
    """Rows of ``__key__`` and ``image``, a structure of bytes and path; of a table, its own with the image replaced."""

    def __init__(self, path: Path, portion: Any):
        parquet = require_pyarrow(path)
        import pyarrow  # noqa: PLC0415 an extra

        self.arrow, self.table = pyarrow, portion if isinstance(portion, ParquetShard) else None
        structure = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        self.schema = pyarrow.schema([(KEY, pyarrow.string()), (_IMAGE, structure)])
        self.image, self.key = _IMAGE, KEY
        if self.table is not None:
            with _breaking(self.table.name):
                self.schema = parquet.read_schema(self.table.path)
                self.image, key = self.table.columns(self.schema)
            self.key = key or KEY
            if key is None:
                self.schema = self.schema.append(pyarrow.field(KEY, pyarrow.string()))
        self.file = parquet.ParquetWriter(path, self.schema)
        self.rows: list[tuple[Sample, bytes]] = []
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if raised[0] is None:
            self._flush()
        self.file.close()

    def add(self, sample: Sample, result: bytes) -> None:
        self.rows.append((sample, result))
        self.bytes += len(result)
        if len(self.rows) >= _ROW_GROUP or self.bytes >= _ROW_GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self.rows:
            return
        kind = self.schema.field(self.image).type
        images: list[Any] = [result for _, result in self.rows]
        if self.arrow.types.is_struct(kind):
            paths = [f"{sample.key}.png" for sample, _ in self.rows]
            named = kind.get_field_index("path") >= 0 and self.arrow.types.is_string(kind.field("path").type)
            images = [
                {"bytes": image, **({"path": path} if named else {})} for image, path in zip(images, paths, strict=True)
            ]
        columns = {self.key: self.arrow.array([sample.key for sample, _ in self.rows])}
        if self.table is not None:
            others = self.arrow.Table.from_batches([sample.others for sample, _ in self.rows])
            columns |= {name: others[name] for name in others.column_names}
        columns[self.image] = self.arrow.array(images, kind)
        self.file.write_table(
            self.arrow.table([columns[name] for name in self.schema.names], schema=self.schema), _ROW_GROUP
        )
        self.rows, self.bytes = [], 0


WRITERS = {TAR: TarWriter, PARQUET: ParquetWriter}


def require_pyarrow(path: Path) -> Any:
    """pyarrow.parquet; ValueError where it is not installed."""
    try:
        from pyarrow import parquet  # noqa: PLC0415 an extra
    except ImportError as error:
        raise ValueError(f"{path} is parquet, which takes pyarrow: {install('parquet')}") from error
    return parquet


def why_unsafe(key: str) -> str | None:
    """Why a key names no place within a directory, None where it does."""
    parts = key.split("/")
    if "\0" in key or not key:
        return "has a key that is no name of a file"
    if key.startswith("/") or any(part in ("", ".", "..") for part in parts):
        return "has a key that may lead elsewhere: expected a relative path without .."
    return None


def quoted(key: str) -> str:
    """A key as the members of a tar have it, where it ends at the first point of a name: points are written ``%2E``."""
    directory, slash, name = key.rpartition("/")
    return directory + slash + name.replace("%", "%25").replace(".", "%2E")


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _samples_of(file: Any, size: int) -> Iterator[tuple[str, list[tuple[str, bytes | str]]]]:
    """Key and members, by their endings, of every sample: contents, or what is wrong with the member in words.

    Raises ValueError or tarfile's errors where the archive is damaged or ends before its end.
    """
    key, members = "", []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue] which it would keep for nothing
            name = _MEMBER.fullmatch(re.sub(r"^(\./)+", "", member.name))
            if member.isdir() or name is None or _META.match(member.name):
                continue
            if name[1] != key and members:
                yield key, members
                members = []
            key = name[1]
            members.append((name[2], _content(archive, member, size)))
        end = archive.offset
    if members:
        yield key, members
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):  # tarfile takes a damaged header, and the file's end, for the archive's
        raise ValueError(
            "it is damaged or ends early, as there is no mark of its end" + (f" after {key}" if key else "")
        )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, size: int) -> bytes | str:
    if not member.isreg():
        return "is a link or a device in the archive, expected a file"
    if member.offset_data + member.size > size:
        raise ValueError(f"it ends within {member.name}")
    opened = archive.extractfile(member)
    return opened.read() if opened is not None else "cannot be read"


@cache
def _is_image(ending: str) -> bool:
    return why_no_image(Path(f"sample.{ending}")) is None


def _holds_bytes(field: "pyarrow.Field") -> bool:
    from pyarrow import types  # noqa: PLC0415 an extra

    kind = field.type
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index))
    return types.is_binary(kind) or types.is_large_binary(kind)


@contextmanager
def _breaking(name: str) -> Iterator[None]:
    """Turns whatever goes wrong inside the block into a BrokenShardError."""
    try:
        yield
    except BrokenShardError:
        raise
    except Exception as error:  # of a damaged file, tarfile and pyarrow raise many kinds
        raise BrokenShardError(f"{name} cannot be read to its end: {error or type(error).__name__}") from error
