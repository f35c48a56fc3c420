"""Tensors that are still in their files."""

import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass
class Storage:
    """Where the numbers of tensors are: ``size`` bytes from byte ``offset`` of the file on, of type ``dtype`` if known.

    ``checksum`` is the CRC-32 of ``checked_size`` bytes from ``offset`` on, where the file has one.
    """

    dtype: torch.dtype | None
    key: str
    size: int
    path: Path
    offset: int = -1
    big_endian: bool = False
    checksum: int | None = None
    checked_size: int | None = None
    _checked: bool = field(default=False, repr=False)

    def __setstate__(self, state: object) -> None:
        raise ValueError("it writes to the description of a storage")

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize if self.dtype is not None else 1

    def bytes(self) -> np.ndarray:
        """Its bytes, mapped from the file: pages are read when they are used and may be dropped again.

        Raises ValueError, which names the file, where they are not those that its checksum was made of.
        """
        if self.size == 0:
            return np.empty(0, np.uint8)
        length = self.size if self.checked_size is None else self.checked_size
        mapped = np.memmap(self.path, np.uint8, "c", self.offset, (length,))
        if self.checksum is not None and not self._checked:
            if zlib.crc32(mapped.data) != self.checksum:
                raise ValueError(
                    f"{self.path} is damaged, or its numbers were never written: {self.key} does not have the "
                    "checksum that the file states; fetch or save it again"
                )
            self._checked = True
        return mapped[: self.size]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file; ``offset`` and ``stride`` count elements of the storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    negative: bool = False  # the stored numbers are to be negated
    conjugate: bool = False
    kind: str = ""  # the class it was saved as, where that is not one of torch's

    def __setstate__(self, state: object) -> None:
        raise ValueError("it writes to the description of a tensor")

    @property
    def path(self) -> Path:
        return self.storage.path

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=object)) if self.shape else 1

    @property
    def repeats(self) -> bool:
        """Whether it has more elements than are stored, as expanded tensors do."""
        return self.elements > self.storage.size // self.dtype.itemsize

    def read(self) -> Tensor:
        """Its values. Raises ValueError, which names the file, where they are damaged."""
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.dtype)
        mapped = self.storage.bytes()
        size = self.dtype.itemsize
        whole = mapped[: len(mapped) // size * size]
        if self.storage.big_endian and size > 1:
            part = size // 2 if self.dtype.is_complex else size
            whole = whole.view(f"u{part}").byteswap().view(np.uint8)
        values = torch.frombuffer(whole, dtype=self.dtype).as_strided(self.shape, self.stride, self.offset)
        if self.conjugate:
            values = values.conj().resolve_conj()
        return -values if self.negative else values


@dataclass(frozen=True)
class Unreadable:
    """What stands where a tensor was saved that has no plain numbers: what it is, and how to save it otherwise."""

    reason: str

    def __setstate__(self, state: object) -> None:
        raise ValueError("it writes to the description of a tensor")
