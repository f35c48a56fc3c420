"""What identifies tensors and records by their content: SHA-256, of which 16 hexadecimal digits are kept.

Records, and tensors that are in a file, are read without PyTorch, which takes a second to import.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 16  # hexadecimal digits
PIECE = 1 << 18  # numbers that are looked at together: what stays in a processor's cache


def of_tensors(tensors: "Mapping[str, Tensor]", *facts: object, compact: bool = False) -> str:
    """The digest of tensors, with names, dtypes and shapes, and of ``facts``, which are what JSON can hold.

    Tensors are hashed in as many threads as there are processors. With ``compact``, float32 values that half precision
    holds exactly are hashed as such: stored in either, the same numbers have the same digest.
    """
    import torch  # noqa: PLC0415

    def hashed(name: str) -> str:
        tensor = tensors[name].detach().cpu().contiguous()
        pieces = tensor.flatten().split(PIECE)
        dtype = tensor.dtype
        if compact and dtype == torch.float32 and all(map(_is_half, pieces)):
            dtype = torch.float16
        content = hashlib.sha256()
        for piece in pieces:
            content.update(piece.to(dtype).view(torch.uint8).numpy().data)
        return f"{name} {dtype} {tuple(tensor.shape)} {content.hexdigest()}"

    with ThreadPoolExecutor() as threads:
        return of_json([list(threads.map(hashed, sorted(tensors))), *facts])


def of_stored(path: Path, *facts: object) -> str | None:
    """``of_tensors``, ``compact``, of those in a safetensors file; None where some are not of half precision.

    Raises OSError, ValueError, KeyError or TypeError where it is no such file.
    """
    content = memoryview(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start]))
    header.pop("__metadata__", None)
    if any(entry["dtype"] != "F16" for entry in header.values()):
        return None
    told = []
    for name, entry in sorted(header.items()):
        begin, end = (start + offset for offset in entry["data_offsets"])
        told.append(f"{name} torch.float16 {tuple(entry['shape'])} {hashlib.sha256(content[begin:end]).hexdigest()}")
    return of_json([told, *facts])


def of_json(value: object) -> str:
    """The digest of what JSON can hold, in whatever order and layout it is written."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:LENGTH]


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path, metadata: Mapping[str, str]) -> None:
    """A safetensors file, the same to the byte whoever writes it: its own library writes metadata in an order that
    differs from process to process."""
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file(dict(tensors), path, dict(metadata))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        ordered = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(ordered) == length:
            file.seek(8)
            file.write(ordered)


def plain(value: Any) -> Any:
    """What JSON can hold, as it would be read back: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def _is_half(piece: "Tensor") -> bool:
    """Whether half precision holds all of these float32 values to the last bit."""
    import torch  # noqa: PLC0415

    return torch.equal(piece.half().float().view(torch.int32), piece.view(torch.int32))
