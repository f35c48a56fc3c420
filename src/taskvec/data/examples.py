"""What every data set gives: images at the size asked for, with the mask of one object or an output of their own, or
texts with an output each."""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from jaxtyping import Bool, Int, Shaped, UInt8

from taskvec.data.templates import Wording
from taskvec.files import digest, read_bytes
from taskvec.tasks import LACKING, TASKS, Need, Task, task_named

T = TypeVar("T")
Texts = Shaped[np.ndarray, " n"]  # of str
REMEMBERED = 2**26  # bytes of examples that are kept: 1,300 at 111 x 111 pixels with a mask
FEW = 10  # examples that a class gives to its smallest part; with fewer, how a share is rounded matters


@dataclass(frozen=True)
class Examples:
    """A batch of examples at one size.

    Of texts, ``images`` are the inputs as they stand in a prompt, str [n], and ``outputs`` what follows them.

    images: RGB, 0..255. masks: 255 on the object, 0 elsewhere, grey where resizing mixed the two; None where the data
    has none. classes: the object's class. indices: which examples of their data set these are. outputs: the images'
    own outputs, RGB, where the data set is a task of its own. ignored: True where an output does not count, None where
    all of them do. Where the data is texts, images and outputs are these as a prompt has them, and have no size.
    """

    images: UInt8[np.ndarray, "n height width 3"] | Texts
    masks: UInt8[np.ndarray, "n height width"] | None
    classes: Int[np.ndarray, " n"]
    indices: Int[np.ndarray, " n"]
    outputs: UInt8[np.ndarray, "n height width 3"] | Texts | None = None
    ignored: Bool[np.ndarray, "n height width"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def at(self, row: int) -> "Examples":
        """One of them as a batch, in memory of its own."""
        values = (getattr(self, each.name) for each in fields(self))
        return Examples(*(None if value is None else value[row : row + 1].copy() for value in values))  # pyright: ignore[reportArgumentType]

    @property
    def bytes(self) -> int:
        """Of memory."""
        values = (getattr(self, each.name) for each in fields(self))
        return sum(value.nbytes for value in values if value is not None)


class DataSet(Protocol):
    """Examples that can be loaded by index; ``class_of`` is cheap and lets pairs of one class be drawn.

    ``own_task`` is that of a data set which is a task by itself, such as a user's folder, else None. ``wording`` is
    that of texts, None of images.
    """

    @property
    def own_task(self) -> Task | None: ...

    @property
    def wording(self) -> Wording | None: ...

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples: ...

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]: ...

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """What people and records call these examples."""
        ...

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """Digests of the images that these examples are in, whatever they are called; several may share one."""
        ...

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """What hangs together, such as all images of a patient or a video; where nothing is known, the image."""
        ...

    def __len__(self) -> int: ...

    def remarks(self) -> list[str]:
        """What a user should know of how the files were taken, a line each."""
        ...

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

    @property
    def own_task(self) -> Task | None:
        return self.whole.own_task

    @property
    def wording(self) -> Wording | None:
        return self.whole.wording

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return self.whole.class_of(self.members[indices])

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.whole.names(self.members[indices])

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.whole.images_of(self.members[indices])

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.whole.groups_of(self.members[indices])

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        return self.whole.load(self.members[indices], size)

    def remarks(self) -> list[str]:
        return self.whole.remarks()

    def describe(self) -> dict[str, object]:
        return self.whole.describe()


@dataclass(frozen=True)
class Remembered(Part):
    """A whole data set that keeps examples which it has read, the first ``REMEMBERED`` bytes of them."""

    _known: dict[tuple[int, int], Examples] = field(init=False, repr=False, default_factory=dict)  # by index and size

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        wanted = np.asarray(indices).tolist()
        missing = [index for index in dict.fromkeys(wanted) if (index, size) not in self._known]
        read = {}
        if missing:
            examples = self.whole.load(np.array(missing, np.int64), size)
            read = {index: examples.at(row) for row, index in enumerate(missing)}
        for index, example in read.items():
            if (1 + len(self._known)) * example.bytes <= REMEMBERED:
                self._known[index, size] = example
        return _together([read[index] if index in read else self._known[index, size] for index in wanted])


def remembered(data: DataSet) -> DataSet:
    """A data set that will be read several times; of texts, which cost nothing to read, itself."""
    return data if data.wording is not None else Remembered(data, np.arange(len(data)))


def _together(examples: Sequence[Examples]) -> Examples:
    """Batches of examples as one."""

    def joined(values: Sequence[np.ndarray | None]) -> np.ndarray | None:
        known = [value for value in values if value is not None]
        return np.concatenate(known) if len(known) == len(values) else None

    ignored = [each.ignored for each in examples]
    if any(each is not None for each in ignored):
        shape = examples[0].images.shape[:3]
        ignored = [
            np.zeros((len(each), *shape[1:]), np.bool_) if each.ignored is None else each.ignored for each in examples
        ]
    return Examples(
        np.concatenate([each.images for each in examples]),
        joined([each.masks for each in examples]),
        np.concatenate([each.classes for each in examples]),
        np.concatenate([each.indices for each in examples]),
        joined([each.outputs for each in examples]),
        joined(ignored),
    )


def partition(data: DataSet, shares: tuple[float, ...], seed: int) -> list[Part]:
    """Random parts of these shares (which sum to 1), each with its share of every class; no group is in two of them.

    A class that its shares do not divide gives what is left to the parts that are the furthest behind, so that many
    small classes starve none. No part is empty where there are as many groups as parts.
    """
    random = np.random.default_rng(seed)
    every = np.arange(len(data))
    classes = data.class_of(every)
    groups = numbered(data.groups_of(every))
    part_of_group = np.full(len(every), -1)
    owed = np.zeros(len(shares))  # what small classes before have not given to each part
    for one_class in np.unique(classes):
        members = np.flatnonzero(classes == one_class)
        members = random.permutation(members[part_of_group[groups[members]] < 0])  # others followed another class
        if len(members) * min(shares) >= FEW:
            ends = np.round(np.cumsum(shares) * len(members)).astype(int)
        else:
            exact = np.array(shares) * len(members)
            sizes = np.floor(exact + 1e-9).astype(int)
            owed += exact - sizes
            behind = np.argsort(-owed, kind="stable")[: len(members) - sizes.sum()]
            sizes[behind] += 1
            owed[behind] -= 1
            ends = np.cumsum(sizes)
        own, first, counts = np.unique(groups[members], return_index=True, return_counts=True)
        order = first.argsort()
        middles = np.cumsum(counts[order]) - counts[order] / 2
        part_of_group[own[order]] = np.searchsorted(ends[:-1], middles, side="right")
    _feed(part_of_group, np.bincount(groups, minlength=len(every)), len(shares))
    return [Part(data, np.flatnonzero(part_of_group[groups] == part)) for part in range(len(shares))]


def _feed(part_of_group: Int[np.ndarray, " groups"], sizes: Int[np.ndarray, " groups"], parts: int) -> None:
    """Give every empty part the smallest group of the part that has the most of them, where that leaves it one."""
    for part in range(parts):
        counts = np.bincount(part_of_group[part_of_group >= 0], minlength=parts)
        if counts[part] == 0 and counts.max() > 1:
            groups = np.flatnonzero(part_of_group == counts.argmax())
            part_of_group[groups[sizes[groups].argmin()]] = part


def numbered(names: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Names as numbers from 0 on, in the order in which they come first."""
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([known[name] for name in names], np.int64)


def read_each(read: Callable[[int], T], indices: Int[np.ndarray, " n"]) -> list[T]:
    """``read`` of every index, in threads, and only once where an index occurs again."""
    different, place = np.unique(indices, return_inverse=True)
    with ThreadPoolExecutor() as threads:
        values = list(threads.map(read, different.tolist()))
    return [values[index] for index in place]


def digests(paths: Sequence[Path]) -> list[str]:
    """What identifies the content of files, whatever they are called: the first 16 hexadecimal digits of SHA-256."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda path: digest(read_bytes(path)), paths))


def tasks_of(data: DataSet) -> list[Task]:
    """The data's own task, or the built-in tasks that need nothing which its examples lack."""
    if data.own_task is not None:
        return [data.own_task]
    example = data.load(np.arange(1), 1)
    return [task for task in TASKS.values() if not _lacking(task, example)]


def _lacking(task: Task, examples: Examples) -> list[Need]:
    return [need for need in task.needs if getattr(examples, need) is None]


def task_for(data: DataSet, task: Task | str | None) -> Task:
    """The task itself, the data's own where that or none is named, or the built-in task of this name.

    Raises ValueError without, and where the data lacks what the task needs.
    """
    own = data.own_task
    if own is not None and task in (None, own, own.name):
        return own
    if task is None:
        raise ValueError("a task is needed (--task): only a folder with input/ and output/ is one of its own")
    chosen = task if isinstance(task, Task) else TASKS[task] if task in TASKS else task_named(task)
    if chosen.needs and (lacking := _lacking(chosen, data.load(np.arange(1), 1))):
        raise ValueError(f"{chosen.name}: {LACKING[lacking[0]]}")
    return chosen
