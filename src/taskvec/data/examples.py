"""What every data set gives: images with the mask of one object each, at the size that was asked for."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Int, UInt8


@dataclass(frozen=True)
class Examples:
    """A batch of examples at one size.

    images: RGB, 0..255. masks: 255 on the object, 0 elsewhere, grey where resizing mixed the two. classes: the object's
    class. indices: which examples of their data set these are.
    """

    images: UInt8[np.ndarray, "n height width 3"]
    masks: UInt8[np.ndarray, "n height width"]
    classes: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.images)


class DataSet(Protocol):
    """Examples that can be loaded by index; ``class_of`` is cheap and lets pairs of one class be drawn."""

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples: ...

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]: ...

    def __len__(self) -> int: ...

    def describe(self) -> dict[str, object]:
        """What identifies the data set in a record of a run."""
        ...


@dataclass(frozen=True)
class Part:
    """Some of the examples of a data set, as a data set; ``Examples.indices`` still speak of the whole."""

    whole: DataSet
    members: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.members)

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return self.whole.class_of(self.members[indices])

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        return self.whole.load(self.members[indices], size)

    def describe(self) -> dict[str, object]:
        return self.whole.describe()


def partition(data: DataSet, shares: tuple[float, ...], seed: int) -> list[Part]:
    """Disjoint random parts of these shares (which sum to 1), each with its share of every class."""
    random = np.random.default_rng(seed)
    classes = data.class_of(np.arange(len(data)))
    parts: list[list[np.ndarray]] = [[] for _ in shares]
    for one_class in np.unique(classes):
        members = random.permutation(np.flatnonzero(classes == one_class))
        ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, ends[:-1]), strict=True):
            part.append(piece)
    return [Part(data, np.sort(np.concatenate(part))) for part in parts]
