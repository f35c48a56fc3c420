"""PyTorch checkpoint files read as data: nothing in them is imported, called or built.

The published files hold argparse namespaces, optimizer states and callback objects beside their tensors. Every class or
function that a file names becomes an inert placeholder, except for the few that describe tensors, which become our own.
Tensors stay on disk until they are asked for.
"""

import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from taskvec.files import check_regular

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


@dataclass
class Storage:
    """Where the numbers of a tensor are: ``count`` elements from byte ``offset`` of the file on."""

    dtype: torch.dtype
    key: str
    count: int
    path: Path
    offset: int = -1

    @property
    def size(self) -> int:
        return self.count * self.dtype.itemsize

    def __setstate__(self, state: object) -> None:
        raise ValueError("it writes to the description of a storage")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __setstate__(self, state: object) -> None:
        raise ValueError("it writes to the description of a tensor")

    def read(self) -> Tensor:
        """Its values, mapped from the file: pages are read when they are used and may be dropped again."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        file = self.storage
        mapped = np.memmap(file.path, np.uint8, "c", file.offset, (file.size,))
        return torch.frombuffer(mapped, dtype=file.dtype).as_strided(self.shape, self.stride, self.offset)


def read_checkpoint(path: Path) -> Any:
    """The object in a checkpoint file, with StoredTensor for tensors and inert placeholders for unknown classes.

    Reads the zip format and the older stream format. Raises ValueError, which names the file, where it is neither, is
    damaged or compressed, or describes tensors outside itself.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(path)
            file.seek(0)
            return _read_stream(path, file)
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise ValueError(f"{path} is a directory, expected a checkpoint file") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error
    except Exception as error:  # whatever a hostile or broken stream makes the unpickler stumble over
        raise ValueError(f"{path} cannot be read as a checkpoint: {type(error).__name__}: {error}") from error


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"{entry.filename} is compressed, which checkpoints are not")
            if entry.file_size > path.stat().st_size:
                raise ValueError(f"{entry.filename} claims to be larger than the file")
        pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("it is a zip file without the one data.pkl of a checkpoint")
        prefix = pickles[0].removesuffix("data.pkl")
        byteorder = entries.get(f"{prefix}byteorder")
        if byteorder is not None and archive.read(byteorder) != b"little":
            raise ValueError("its numbers are not little-endian")

        def locate(storage: Storage) -> None:
            entry = entries.get(f"{prefix}data/{storage.key}")
            if entry is None or entry.file_size < storage.size:
                raise ValueError(f"the storage {storage.key} is missing or too short")
            storage.offset = _data_offset(path, entry)

        with archive.open(pickles[0]) as stream:
            return _Reader(stream, path, locate).load()


def _data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: after its local header, whose name and extra field have lengths of their own."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return entry.header_offset + 30 + name + extra


def _read_stream(path: Path, file: BinaryIO) -> Any:
    """The format before torch 1.6: five pickles, then for every storage its number of elements and its bytes."""
    if tarfile.is_tarfile(path):
        raise ValueError("it has the tar format of torch before 0.2; save it again with a newer torch")
    file.seek(0)
    if _Reader(file, path, _nowhere).load() != _LEGACY_MAGIC:
        raise ValueError("it is not a PyTorch file")
    for _ in ("protocol version", "system information"):
        _Reader(file, path, _nowhere).load()
    storages: dict[str, Storage] = {}
    result = _Reader(file, path, lambda storage: None, storages).load()
    for key in _Reader(file, path, _nowhere).load():
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise ValueError(f"the storage {key} has {count} elements, expected {storage.count}")
        storage.offset = file.tell()
        file.seek(storage.size, 1)
    if any(storage.offset < 0 for storage in storages.values()) or file.tell() > path.stat().st_size:
        raise ValueError("it ends before its numbers do")
    return result


def _nowhere(storage: Storage) -> None:
    raise ValueError(f"the storage {storage.key} is named where none can be")


class _Reader(pickle.Unpickler):
    """Unpickles containers, numbers and text, tensors as StoredTensor, and everything else as placeholders.

    What ``find_class`` gives is made anew for every file, so that a stream that writes to it changes nothing else.
    """

    def __init__(
        self,
        file: Any,
        path: Path,
        locate: Callable[[Storage], None],
        storages: dict[str, Storage] | None = None,
    ):
        super().__init__(file, encoding="utf-8")
        self._path, self._locate = path, locate
        self._storages = {} if storages is None else storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return type("OrderedDict", (dict,), {})
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _placeholder(f"{module}.{name}", dtype=_STORAGES[name])
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, stride, *_: _stored_tensor(storage, offset, shape, stride)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda tensor, *_: tensor
        return _placeholder(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_class, key, _, count, *_ = pid
        dtype = getattr(storage_class, "dtype", None)
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(count, int) or count < 0:
            raise ValueError(f"it refers to {str(pid)[:80]}, expected the storage of a tensor")
        if key not in self._storages:
            storage = Storage(dtype, str(key), count, self._path)
            self._locate(storage)
            self._storages[key] = storage
        return self._storages[key]


def _placeholder(name: str, **attributes: object) -> type:
    """A class that takes anything, does nothing, and remembers what it stands for."""

    def ignore(self: object, *_: object, **__: object) -> None:
        pass

    body: dict[str, Any] = {
        "__new__": lambda cls, *_, **__: object.__new__(cls),
        "__init__": ignore,
        "__setstate__": ignore,
        "__setitem__": ignore,
        "append": ignore,
        "extend": ignore,
        "add": ignore,
        "__repr__": lambda self: f"<{name}>",
        "stands_for": name,
    }
    return type("Placeholder", (), {**body, **attributes})


def _stored_tensor(storage: object, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> StoredTensor:
    if not isinstance(storage, Storage) or len(shape) != len(stride) or min((offset, *shape, *stride), default=0) < 0:
        raise ValueError("it holds a tensor without a storage or of an impossible shape")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    if 0 not in shape and last >= storage.count:
        raise ValueError(f"a tensor of shape {tuple(shape)} reaches beyond its storage of {storage.count} elements")
    return StoredTensor(storage, int(offset), tuple(shape), tuple(stride))
