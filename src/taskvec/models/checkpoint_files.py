"""Files that may be checkpoints: those of torch.save and safetensors are read, others are told by what they are."""

import json
import re
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from taskvec.files import printable
from taskvec.models.pickles import LEGACY_START, is_legacy, read_pickled
from taskvec.models.stored import Storage, StoredTensor

_SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LONGEST_HEADER = 100_000_000  # bytes: the limit of the safetensors format itself
_LONGEST_INDEX = 64_000_000

# how files begin that are brought in place of checkpoints: what they are, and what to do
_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "is compressed by gzip: unpack it (gunzip, or tar -xzf for a .tar.gz) and pass the checkpoint in it"),
    (b"BZh", "is compressed by bzip2: unpack it (bunzip2, or tar -xjf) and pass the checkpoint in it"),
    (b"\xfd7zXZ\x00", "is compressed by xz: unpack it (unxz, or tar -xJf) and pass the checkpoint in it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it (unzstd) and pass the checkpoint in it"),
    (b"7z\xbc\xaf'\x1c", "is a 7z archive: unpack it and pass the checkpoint in it"),
    (b"Rar!", "is a RAR archive: unpack it and pass the checkpoint in it"),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file (Keras or TensorFlow), expected one of torch.save or safetensors"),
    (b"\x93NUMPY", "is a NumPy array, expected a checkpoint of torch.save or safetensors"),
    (b"GGUF", "is a GGUF file, expected a checkpoint of torch.save or safetensors"),
    (b"%PDF", "is a PDF document, not a checkpoint: download the file itself"),
    (b"\x89PNG", "is an image, not a checkpoint"),
    (b"\xff\xd8\xff", "is an image, not a checkpoint"),
)


@dataclass(frozen=True)
class Checkpoint:
    """What is in a checkpoint, with StoredTensor for tensors, and the files that it is in."""

    path: Path
    content: Any
    files: tuple[Path, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """A file of torch.save (zip or stream), a safetensors file, or the index of several of either.

    Nothing in a file runs, and no tensor is read yet. Raises ValueError, which names the file and says what it is and
    what to do, where it is none of these, damaged, cut short, or not a regular file.
    """
    if path.name.endswith(".index.json"):
        return _read_index(path)
    if (part := re.search(r"-\d{5}-of-(\d{5})\.(\w+)$", path.name)) and int(part.group(1)) > 1:
        whole = f"{path.name[: part.start()]}.{part.group(2)}.index.json"
        raise ValueError(f"{path} is one of {int(part.group(1))} files: pass their index, such as {printable(whole)}")
    return Checkpoint(path, _read_file(path), (path,))


def _read_file(path: Path) -> Any:
    _regular(path)
    with path.open("rb") as file:
        start = file.read(1024)
    try:
        _refuse_other_kinds(path, start)
    except Exception as error:  # whatever a broken archive makes the libraries stumble over
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path} is a damaged archive, fetch it again: {error}") from error
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return _read_safetensors(path)
    return read_pickled(path)


def _regular(path: Path) -> None:
    """ValueError where there is no regular file of at least one byte: pipes would be waited for."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{path} is a directory, expected a checkpoint file{_in_directory(path)}")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is a pipe or a device, expected a checkpoint file")
        if status.st_size == 0:
            raise ValueError(f"{path} is empty: the download or the copy failed, fetch it again")
        path.open("rb").close()
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _in_directory(path: Path) -> str:
    """What to pass or to do instead of a directory, by what is in it."""
    names = sorted(entry.name for entry in path.iterdir())
    if ".metadata" in names:
        return (
            ": it is one of torch.distributed.checkpoint; `python -m torch.distributed.checkpoint.format_utils "
            f"dcp_to_torch {printable(path)} FILE.pth` makes a file of it"
        )
    if "zero_to_fp32.py" in names:
        return (
            ": it is one of DeepSpeed; python zero_to_fp32.py DIRECTORY FILE, with the script in it, makes a file of it"
        )
    if "data.pkl" in names:
        return ": it is an unpacked file of torch.save; pass the file as it was"
    for ending in (".index.json", ".safetensors", ".pth", ".ckpt", ".pt", ".bin"):
        for name in names:
            if name.endswith(ending):
                return f": pass a file in it, such as {printable(path / name)}"
    return ""


def _refuse_other_kinds(path: Path, start: bytes) -> None:
    """ValueError for files of known kinds that are no checkpoints."""
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise ValueError(
            f"{path} is a git-lfs pointer, not the file that it stands for: run `git lfs pull` in its repository"
        )
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", start, re.IGNORECASE)
        titled = f" ({_quoted(title.group(1))})" if title else ""
        raise ValueError(f"{path} is a web page{titled}, not a checkpoint: download the file behind the page")
    for beginning, sentence in _BEGINNINGS:
        if start.startswith(beginning):
            raise ValueError(f"{path} {sentence}")
    if not any(start):
        raise ValueError(f"{path} begins with zeros alone: its download is not complete, fetch it again")
    if start.startswith(b"PK\x03\x04"):
        _refuse_other_zips(path)
    elif start[257:262] == b"ustar" or (not start.startswith(b"\x80") and tarfile.is_tarfile(path)):
        _refuse_tar(path)
    elif is_legacy(start):
        return
    elif LEGACY_START.startswith(start):
        raise ValueError(f"{path} is cut short after {len(start)} bytes: fetch it again")
    elif start.startswith(b"\x80"):
        raise ValueError(
            f"{path} is a pickle, but not one of torch.save: load it where it was made and torch.save the state dict"
        )
    elif all(byte >= 32 or byte in b"\t\r\n\x0c\x1b" for byte in start[:256]):
        raise ValueError(f"{path} is text that begins {_quoted(start[:40])}, not a checkpoint")


def _quoted(text: bytes) -> str:
    """A piece of a file as printable text."""
    return repr(text.decode(errors="replace").strip())


def _refuse_other_zips(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is a zip file, as PyTorch's are, whose end is missing: it was cut short at "
            f"{path.stat().st_size:,} bytes, fetch it again"
        )
    if path.suffix == ".distcp":
        raise ValueError(
            f"{path} is a part of a checkpoint that is a directory; see {path.parent}{_in_directory(path.parent)}"
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    parts = {Path(name).name for name in names}
    if "constants.pkl" in parts and "data.pkl" in parts:
        raise ValueError(
            f"{path} is a TorchScript program: torch.save(torch.jit.load(FILE).state_dict(), OTHER) makes a checkpoint"
        )
    if {"archive_format", "serialized_exported_program.json"} & parts:
        raise ValueError(f"{path} is a program of torch.export, not a checkpoint; save the model's state_dict()")
    if names and all(name.endswith(".npy") for name in names):
        raise ValueError(f"{path} is a NumPy archive, expected a checkpoint of torch.save or safetensors")
    if "data.pkl" not in parts:
        raise ValueError(f"{path} is a zip archive{_with(names)}: unpack it (unzip) and pass the checkpoint in it")


def _refuse_tar(path: Path) -> None:
    with tarfile.open(path, "r:") as archive:
        names = [member.name for member, _ in zip(archive, range(100), strict=False)]
    if "storages" in names:
        raise ValueError(f"{path} has the tar format of torch before 0.2: save it again with a newer torch")
    raise ValueError(f"{path} is a tar archive{_with(names)}: unpack it (tar -xf) and pass the checkpoint in it")


def _with(names: list[str]) -> str:
    shown = [name for name in names if name.endswith((".pth", ".ckpt", ".pt", ".bin", ".safetensors"))] or names
    return f" with {_quoted(shown[0].encode(errors='replace')[:80])}" if shown else ""


def _read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The library judges the header; tensors are then described as those of other files."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        start = 8 + length
        ends = [entry["data_offsets"][1] for entry in header.values()]
        if start + max(ends, default=0) > size:
            raise ValueError(f"it is cut short at {size:,} of {start + max(ends):,} bytes, fetch it again")
        if start + max(ends, default=0) < size:
            raise ValueError(f"it has {size - start - max(ends, default=0):,} bytes more than its header says")
        with safe_open(path, "pt") as library:
            names = library.keys()
        tensors = {}
        for name in names:
            entry = header[name]
            if entry["dtype"] not in _SAFETENSORS_DTYPES:
                raise ValueError(f"{name} is of type {entry['dtype']}, which is not read")
            dtype, shape, (begin, end) = _SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
            storage = Storage(dtype, name, end - begin, path, start + begin)
            stride = [1] * len(shape)
            for axis in range(len(shape) - 2, -1, -1):
                stride[axis] = stride[axis + 1] * shape[axis + 1]
            tensors[name] = StoredTensor(storage, dtype, 0, tuple(shape), tuple(stride))
        return tensors
    except (ValueError, SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a safetensors file: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as a safetensors file: its header is not that of one") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("its header names something twice")
    return result


def _read_index(path: Path) -> Checkpoint:
    """The tensors of all files that an index names; ValueError where they are not what it says."""
    _regular(path)
    try:
        if path.stat().st_size > _LONGEST_INDEX:
            raise ValueError(f"it has more than {_LONGEST_INDEX:,} bytes")
        places = json.loads(path.read_text(), object_pairs_hook=_unique)["weight_map"]
        if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()) or not places:
            raise ValueError("weight_map must give a file for every weight")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        _refuse_other_kinds(
            path, path.open("rb").read(1024)[:40] if isinstance(error, UnicodeDecodeError) else b"x\x00"
        )
        raise ValueError(f"{path} is not the index of a checkpoint in several files: {error}") from error
    names = list(dict.fromkeys(places.values()))
    tensors: dict[str, Any] = {}
    for name in names:
        if Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"{path} names the file {name!r}, expected one in its own directory")
        shard = path.parent / name
        if not shard.exists():
            raise ValueError(
                f"{path} names {name}, which is not beside it: fetch that file too ({len(names)} belong together)"
            )
        content = _read_file(shard)
        expected = {weight for weight, file in places.items() if file == name}
        if not isinstance(content, dict) or content.keys() != expected:
            found = set(content) if isinstance(content, dict) else set()
            different = min(str(weight) for weight in found ^ expected)
            raise ValueError(f"{shard} and {path.name} do not belong together: only one of them has {different}")
        tensors.update(content)
    return Checkpoint(path, tensors, (path, *(path.parent / name for name in names)))
