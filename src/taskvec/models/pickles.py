"""PyTorch checkpoint files read as data: nothing in them is imported, called or built.

The published files hold argparse namespaces, optimizer states and callback objects beside their tensors. Every class or
function that a file names becomes an inert placeholder, except for the few that describe tensors, which become our own.
Tensors stay on disk until they are asked for.
"""

import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch

from taskvec.files import check_regular
from taskvec.models.pickle_limits import check_limits
from taskvec.models.stored import Storage, StoredTensor, Unreadable

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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
}
_DTYPES = {name: dtype for name, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}
_WITHOUT_NUMBERS = {
    "_rebuild_sparse_tensor": "a sparse tensor; save it with .to_dense()",
    "_rebuild_qtensor": "a quantised tensor; save it with .dequantize()",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor on the meta device, which has no numbers",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device; save it with .cpu()",
    "_rebuild_xla_tensor": "a tensor of another device; save it with .cpu()",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the number that the older format begins with, pickled
LEGACY_START = b"\x80\x02\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little")  # in the usual protocol
_MOST_PICKLED = 2**28  # bytes of data.pkl: descriptions, not numbers


def read_pickled(path: Path) -> Any:
    """The object in a file of torch.save, with StoredTensor for tensors and inert placeholders for unknown classes.

    Reads the zip format and the older stream format. Raises ValueError, which names the file, where it is neither, is
    damaged or compressed, or describes tensors outside itself.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _read_zip(path)
            file.seek(0)
            return _read_stream(path, file)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error
    except Exception as error:  # whatever a hostile or broken stream makes the unpickler stumble over
        raise ValueError(f"{path} cannot be read as a checkpoint: {type(error).__name__}: {error}") from error


def _read_zip(path: Path) -> Any:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            raise ValueError("two of its entries have one name")
    for entry in entries.values():
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError(f"{entry.filename} is compressed, which checkpoints are not")
        if entry.file_size > size:
            raise ValueError(f"{entry.filename} claims to be larger than the file")
    pickles = [name for name in entries if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(pickles) != 1:
        raise ValueError("it is a zip file without the one data.pkl of a checkpoint")
    prefix = pickles[0].removesuffix("data.pkl")
    # torch.serialization.set_crc32_options(False) leaves every checksum 0; numbers that were never written, as under
    # torch.serialization.skip_data, have 0 in a file whose other checksums are right
    checked = entries[pickles[0]].CRC != 0

    def stored(name: str) -> Storage:
        entry = entries[name]
        offset = _data_offset(path, entry)
        if offset + entry.file_size > size:
            raise ValueError(f"{name} reaches beyond the end of the file")
        return Storage(None, name, entry.file_size, path, offset, checksum=entry.CRC if checked else None)

    byteorder = stored(f"{prefix}byteorder").bytes().tobytes() if f"{prefix}byteorder" in entries else b"little"
    if byteorder not in (b"little", b"big"):
        raise ValueError(f"its byte order is {byteorder[:20]!r}, expected little or big")

    def locate(storage: Storage) -> None:
        name = f"{prefix}data/{storage.key}"
        if name not in entries or entries[name].file_size < storage.size:
            raise ValueError(f"the storage {storage.key} is missing or too short")
        found = stored(name)
        storage.offset, storage.checksum, storage.checked_size = found.offset, found.checksum, found.size
        storage.big_endian = byteorder == b"big"

    if entries[pickles[0]].file_size > _MOST_PICKLED:
        raise ValueError(f"{pickles[0]} has {entries[pickles[0]].file_size:,} bytes, more than any checkpoint's")
    pickled = BytesIO(stored(pickles[0]).bytes().tobytes())
    check_limits(pickled)
    pickled.seek(0)
    return _Reader(pickled, path, locate).load()


def _data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: after its local header, whose name and extra field have lengths of their own."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return entry.header_offset + 30 + name + extra


def _read_stream(path: Path, file: BinaryIO) -> Any:
    """The format before torch 1.6: five pickles, then for every storage its number of elements and its bytes.

    The numbers are little-endian whichever machine wrote them.
    """
    if _load(file, path, _nowhere) != _LEGACY_MAGIC:
        raise ValueError("it is not a PyTorch file")
    for _ in ("protocol version", "system information"):
        _load(file, path, _nowhere)
    storages: dict[str, Storage] = {}
    result = _load(file, path, lambda storage: None, storages)
    for key in _load(file, path, _nowhere):
        storage = storages[key]
        count = int.from_bytes(file.read(8), "little")
        if file.tell() < path.stat().st_size and count * storage.itemsize != storage.size:
            expected = storage.size // storage.itemsize
            raise ValueError(f"the storage {key} has {count} elements, expected {expected}")
        storage.offset = file.tell()
        file.seek(storage.size, 1)
    if any(storage.offset < 0 for storage in storages.values()) or file.tell() > path.stat().st_size:
        raise ValueError("it ends before its numbers do: it was cut short, fetch it again")
    return result


def _load(
    file: BinaryIO, path: Path, locate: Callable[[Storage], None], storages: dict[str, Storage] | None = None
) -> Any:
    start = file.tell()
    check_limits(file)
    file.seek(start)
    return _Reader(file, path, locate, storages).load()


def is_legacy(start: bytes) -> bool:
    """Whether a file that begins so has the older format, in any protocol of pickle."""
    return _LEGACY_MAGIC.to_bytes(10, "little") in start[:40] or start.startswith(b"L119547037146038801333356L")


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

    def find_class(self, module: str, name: str) -> Any:  # noqa: PLR0911 one line a kind
        if module == "collections" and name in ("OrderedDict", "defaultdict"):
            kind = type(name, (dict,), {})
            return kind if name == "OrderedDict" else lambda *_: kind()
        if module in ("torch", "torch.storage", "torch.cuda") and name in _STORAGES:
            return _placeholder(f"{module}.{name}", dtype=_STORAGES[name])
        if module in ("torch", "torch.storage") and name == "UntypedStorage":
            return _placeholder(f"{module}.{name}", untyped=True)
        if module == "torch" and name in _DTYPES:
            return _placeholder(f"{module}.{name}", dtype=_DTYPES[name])
        if module == "torch._utils" and name in _REBUILDS:
            function = _REBUILDS[name]
            return lambda *arguments: function(*arguments)  # noqa: PLW0108 a function of its own
        if module == "torch._utils" and name in _WITHOUT_NUMBERS:
            return lambda *_: Unreadable(_WITHOUT_NUMBERS[name])
        if module in ("torch._tensor", "torch.tensor") and name in ("_rebuild_from_type", "_rebuild_from_type_v2"):
            return lambda *arguments: _of_class(*arguments)  # noqa: PLW0108
        return _placeholder(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not _whole(pid[4]):
            if isinstance(pid, tuple) and pid and pid[0] == "module":
                raise ValueError(f"it holds a whole pickled module; {SAVE_STATE_DICT}")
            raise ValueError(f"it refers to {str(pid)[:80]}, expected the storage of a tensor")
        _, kind, key, _, count, *view = pid
        dtype, untyped = getattr(kind, "dtype", None), getattr(kind, "untyped", False)
        if not isinstance(dtype, torch.dtype) and untyped is not True:
            raise ValueError(f"it refers to {str(pid)[:80]}, expected the storage of a tensor")
        if any(part is not None for part in view):
            raise ValueError("its storages are views of others, as in torch before 0.4; save it again with a newer one")
        described = Storage(dtype, str(key), count * (dtype.itemsize if dtype else 1), self._path)
        storage = self._storages.setdefault(str(key), described)
        if storage is described:
            self._locate(storage)
        elif (storage.dtype, storage.size) != (described.dtype, described.size):
            raise ValueError(f"the storage {key} is described twice, as different types")
        return storage


SAVE_STATE_DICT = "save its weights: torch.save(model.state_dict(), FILE)"


def _placeholder(name: str, **attributes: object) -> type:
    """A class that takes anything, does nothing, and remembers what it stands for and the state it was given."""

    def ignore(self: object, *_: object, **__: object) -> None:
        pass

    def remember(self: Any, state: object) -> None:
        self.__dict__["state"] = state

    body: dict[str, Any] = {
        "__new__": lambda cls, *_, **__: object.__new__(cls),
        "__init__": ignore,
        "__setstate__": remember,
        "__setitem__": ignore,
        "append": ignore,
        "extend": ignore,
        "add": ignore,
        "__repr__": lambda self: f"<{name}>",
        "stands_for": name,
        "state": None,
    }
    return type("Placeholder", (), {**body, **attributes})


def _whole(*numbers: object) -> bool:
    """Whether all are whole numbers that a file can have as sizes."""
    return all(type(number) is int and 0 <= number < 2**62 for number in numbers)


def _tensor_v2(storage: object, offset: Any, shape: Any, stride: Any, *more: Any) -> StoredTensor:
    """``more``: requires_grad, hooks and, in newer files, what is lazily done to the numbers."""
    dtype = storage.dtype if isinstance(storage, Storage) else None
    return _tensor(storage, dtype, offset, shape, stride, *more[2:])


def _tensor_v3(
    storage: object, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, kind: Any, *more: Any
) -> StoredTensor:
    return _tensor(storage, getattr(kind, "dtype", None), offset, shape, stride, *more)


def _tensor(storage: object, dtype: Any, offset: Any, shape: Any, stride: Any, lazy: Any = None) -> StoredTensor:
    fits = isinstance(shape, tuple) and isinstance(stride, tuple) and len(shape) == len(stride)
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype) or not fits:
        raise ValueError("it holds a tensor without a storage or of an impossible shape")
    if not _whole(offset, *shape, *stride):
        raise ValueError("it holds a tensor without a storage or of an impossible shape")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    count = storage.size // dtype.itemsize
    if 0 not in shape and last >= count:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {count} elements")
    lazy = lazy or {}
    if not isinstance(lazy, dict) or not lazy.keys() <= {"neg", "conj"}:
        raise ValueError(f"a tensor is to be changed in an unknown way: {str(lazy)[:80]}")
    return StoredTensor(storage, dtype, offset, shape, stride, lazy.get("neg") is True, lazy.get("conj") is True)


@dataclass
class _Wrapper:
    """A tensor of a class that keeps its numbers in attributes, such as DTensor, before these are known."""

    kind: str
    shape: object


def _wrapper(kind: Any, dtype: Any, shape: Any, *_: object) -> _Wrapper:
    return _Wrapper(str(getattr(kind, "stands_for", kind)), shape)


_REBUILDS: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _tensor_v2,
    "_rebuild_tensor_v2": _tensor_v2,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": lambda tensor, *_: tensor,
    "_rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "_rebuild_device_tensor_from_cpu_tensor": lambda tensor, *_: tensor,
    "_rebuild_wrapper_subclass": _wrapper,
}


def _of_class(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """The plain tensor within one of another class or with attributes; Unreadable where it is not the whole of it."""
    if isinstance(function, type) or not callable(function):
        return Unreadable(f"a tensor of the class {getattr(kind, 'stands_for', kind)}; save it as a plain tensor")
    made = function(*arguments)
    parts = state if isinstance(state, tuple) else (state,)  # __dict__, and slots where there are any
    attributes = {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}
    if isinstance(made, _Wrapper):
        return _local(made, attributes)
    name = str(getattr(kind, "stands_for", kind))
    if name in ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"):
        return made
    if any(isinstance(value, StoredTensor | Unreadable) for value in attributes.values()):
        return Unreadable(f"a tensor of the class {name}, which keeps numbers beside it; save it as a plain tensor")
    return replace(made, kind=name) if isinstance(made, StoredTensor) else made


def _local(wrapper: _Wrapper, attributes: dict[Any, Any]) -> StoredTensor | Unreadable:
    """A distributed tensor's local part where that is all of it: not a shard, and not a summand of a sum to come."""
    if not wrapper.kind.endswith(".DTensor"):
        return Unreadable(f"a tensor of the class {wrapper.kind}; save it as a plain tensor, as its class can make it")
    local, specification = attributes.get("_local_tensor"), getattr(attributes.get("_spec"), "state", None)
    placements = specification.get("placements") if isinstance(specification, dict) else None
    names = [str(getattr(part, "stands_for", part)) for part in placements] if isinstance(placements, tuple) else [""]
    whole = all(name.endswith((".Replicate", ".Shard")) for name in names)
    if isinstance(local, StoredTensor) and local.shape == wrapper.shape and whole:
        return local
    return Unreadable("one process's part of a distributed tensor (DTensor); save it with .full_tensor()")
