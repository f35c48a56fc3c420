"""What identifies tensors and records by their content: SHA-256, of which 16 hexadecimal digits are kept."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

LENGTH = 16  # hexadecimal digits


def of_tensors(tensors: Mapping[str, Tensor], *facts: object, compact: bool = False) -> str:
    """The digest of tensors, with names, dtypes and shapes, and of ``facts``, which are what JSON can hold.

    Tensors are hashed in as many threads as there are processors. With ``compact``, float32 values that half precision
    holds exactly are hashed as such: stored in either, the same numbers have the same digest.
    """

    def hashed(name: str) -> str:
        tensor = tensors[name].detach().cpu()
        if compact:
            tensor = _compact(tensor)
        content = tensor.contiguous().flatten().view(torch.uint8).numpy().data
        return f"{name} {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(content).hexdigest()}"

    with ThreadPoolExecutor() as threads:
        return of_json([list(threads.map(hashed, sorted(tensors))), *facts])


def of_json(value: object) -> str:
    """The digest of what JSON can hold, in whatever order and layout it is written."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:LENGTH]


def plain(value: Any) -> Any:
    """What JSON can hold, as it would be read back: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def _compact(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    head = tensor.flatten()[:256]  # where half precision does not do, this mostly tells
    for part in (head, tensor):
        half = part.half()
        if not torch.equal(half.float().view(torch.int32), part.contiguous().view(torch.int32)):
            return tensor
    return half
