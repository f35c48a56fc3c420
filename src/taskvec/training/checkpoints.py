"""Checkpoints of a training: whole or not there, finite, and what they were when they were written."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taskvec.files import check_regular, replacing

Content = dict[str, Any]


class DivergedError(ValueError):
    """A training whose numbers are no longer finite."""


def clip_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Scale gradients down to a norm of 1 together; DivergedError where it is not finite, as of a loss that is not."""
    try:
        nn.utils.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    except RuntimeError as error:
        raise DivergedError("the gradient is not finite") from error


def check_finite(value: object) -> None:
    """DivergedError where a state, of a model or an optimizer, holds a tensor with a number that is not finite."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and not value.isfinite().all():
            raise DivergedError("a weight or a moment of the optimizer is not finite")
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            check_finite(item)


def write(path: Path, content: Content) -> None:
    """``content``, tensors and plain values in dictionaries and lists, with its digest."""
    # through a file of ours: of torch's, the system's own words of a full disk are lost
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save({**content, "digest": digest(content)}, file)


def read(path: Path) -> Content:
    """What ``write`` wrote; ValueError, which names the file, where it is not as it was."""
    check_regular(path)
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        if content.pop("digest") != digest(content):
            raise ValueError("its content is not what its digest says")
    except Exception as error:  # torch raises anything for damaged files
        said = str(error).partition("\n")[0]
        raise ValueError(f"{path} is damaged; remove it to begin the stage again: {said}") from error
    return content


def digest(content: object) -> str:
    """SHA-256 of structure, names, plain values, and the bytes of tensors with their shapes and types."""
    hashed = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, Tensor):
            hashed.update(f"{value.dtype} {tuple(value.shape)}:".encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            hashed.update(f"{len(value)} named:".encode())
            for name, item in value.items():
                add(name)
                add(item)
        elif isinstance(value, list | tuple):
            hashed.update(f"{len(value)} in a row:".encode())
            for item in value:
                add(item)
        else:
            hashed.update(f"{type(value).__name__} {value!r};".encode())

    add(content)
    return hashed.hexdigest()
