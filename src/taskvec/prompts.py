"""Prompts: an example (support) and a query of the same class, both sides of a task, ready for a canvas."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from taskvec.canvas import CanvasGeometry
from taskvec.data.examples import DataSet, Examples, numbered
from taskvec.tasks import Images, Source, Task, own_output

Sampling = Literal["balanced", "official"]
SAMPLINGS: tuple[Sampling, ...] = ("balanced", "official")


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts of one task.

    ``origin`` says what they were drawn from and how; indices which examples of that data set they were made of, names
    what it calls them, images the digests of the images that they are in, groups what hangs together with them.
    ``query_ignored`` is where the query's output does not count, None where all of all does.
    """

    task: Task
    origin: dict[str, object]
    support_input: Images
    support_output: Images
    query_input: Images
    query_output: Images
    support_indices: Int[np.ndarray, " n"]
    query_indices: Int[np.ndarray, " n"]
    support_names: list[str]
    query_names: list[str]
    support_images: list[str]
    query_images: list[str]
    query_groups: list[str]
    query_ignored: Bool[np.ndarray, "n size size"] | None = None

    def __len__(self) -> int:
        return len(self.query_input)

    def __getitem__(self, rows: slice) -> "Prompts":
        values = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        chosen: dict[str, Any] = {name: value[rows] for name, value in values.items() if value is not None}
        return Prompts(self.task, self.origin, **chosen)

    def take(self, rows: Int[np.ndarray, " chosen"]) -> "Prompts":
        """These prompts, in this order."""
        chosen: dict[str, Any] = {}
        for name in (f.name for f in fields(self)[2:]):
            values = getattr(self, name)
            if values is not None:
                chosen[name] = values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        return Prompts(self.task, self.origin, **chosen)

    def canvases(self, geometry: CanvasGeometry) -> UInt8[Tensor, "n canvas canvas 3"]:
        """Complete canvases; the query output is there as the truth, and no view shows it to a model."""
        return torch.from_numpy(
            geometry.compose(
                {
                    "support_input": self.support_input,
                    "support_output": self.support_output,
                    "query_input": self.query_input,
                    "query_output": self.query_output,
                }
            )
        )


def draw_prompts(
    data: DataSet,
    task: Task,
    count: int,
    size: int,
    seed: int,
    *,
    sampling: Sampling = "balanced",
    same_hole: bool = False,
    query_only: bool = False,
) -> Prompts:
    """``count`` prompts with images of ``size`` pixels, their support and query two different examples of one class.

    They are of different groups, too, such as two patients, but where a class has a single one. ``balanced``: classes
    are equally frequent, and an example is a query again only when every one of its class has been. ``official``, as
    the paper's code: queries in the order of the data, from its start again when it ends, so classes are as frequent as
    they are there, and those late in the data may not occur. The support is drawn uniformly; a query that comes again
    gets another one, so that ``pairs_of`` prompts of balanced classes are all the pairs.

    Classes of a single example have no pair and are left out; ``origin`` counts them. For runs that see no support,
    ``query_only``, they are taken, with a support of another class, or the query itself where there is nothing else.

    The same data, task, count and seed give the same prompts. Holes are at different places in support and query,
    unless ``same_hole``, which is how the official code has it. Raises ValueError where no class has two examples.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"there is no sampling {sampling!r}: expected one of {', '.join(SAMPLINGS)}")
    random = np.random.default_rng(seed)
    classes = _classes(data)
    taken = [of_class for of_class in classes if query_only or len(of_class) > 1]
    if not taken:
        raise ValueError(
            f"no class of {data.describe()['data']} has two examples here, which a prompt needs: there are {len(data)} "
            f"examples of {len(classes)} classes"
        )
    queries, supports = np.empty(count, np.int64), np.empty(count, np.int64)
    members = [of_class.members for of_class in taken]
    for of_class, (rows, own) in zip(taken, SAMPLERS[sampling](members, count, random), strict=True):
        queries[rows] = own
        if len(of_class) > 1:
            choices = of_class.choices(own)
            same = len(choices) == 0 or (choices == choices[0]).all()
            highest = int(choices.max(initial=1)) if same else choices
            supports[rows] = of_class.support(own, _partners(own, random.integers(0, highest, len(rows)), choices))
        else:
            others = np.delete(np.arange(len(data)), own[:1]) if len(data) > 1 else own[:1]
            supports[rows] = others[random.integers(0, len(others), len(rows))]
    support_examples, query_examples = data.load(supports, size), data.load(queries, size)
    support, query = draw_source(support_examples, random), draw_source(query_examples, random)
    if same_hole:
        query = replace(query, holes=support.holes)
    origin: dict[str, object] = {**data.describe(), "draw_seed": seed, "sampling": sampling, "same_hole": same_hole}
    origin["sides"] = sides(task)
    return Prompts(
        task,
        {**origin, "classes_of_one": len(classes) - len(taken)},
        support_input=np.ascontiguousarray(task.input(support)),
        support_output=np.ascontiguousarray(task.output(support)),
        query_input=np.ascontiguousarray(task.input(query)),
        query_output=np.ascontiguousarray(task.output(query)),
        support_indices=support_examples.indices,
        query_indices=query_examples.indices,
        support_names=data.names(supports),
        query_names=data.names(queries),
        support_images=data.images_of(supports),
        query_images=data.images_of(queries),
        query_groups=data.groups_of(queries),
        query_ignored=query_examples.ignored if task.output is own_output else None,
    )


def sides(task: Task) -> str:
    """What a task turns into what; tasks of one name may differ in it."""
    names = [getattr(side, "__name__", type(side).__name__) for side in (task.input, task.output)]
    return " to ".join(names)


def pairs_of(data: DataSet) -> int:
    """How many different prompts there are: ordered pairs of different examples of one class.

    Of different groups, too, but where a class has a single one.
    """
    return sum(int(each.choices(each.members).sum()) for each in _classes(data))


Indices = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class _Class:
    """The examples of a class, in the order of the data, and which of them may be the support of which.

    ``ordered`` are the same with those of a group side by side. ``start`` and ``size`` are of every member: where those
    begin that it must not be paired with, and how many they are.
    """

    members: Indices
    ordered: Indices
    start: Indices
    size: Indices

    @classmethod
    def of(cls, members: Indices, groups: Indices) -> "_Class":
        """``groups`` are those of the members. Of a single group, only the example itself is no support."""
        order = np.argsort(groups, kind="stable")
        if (groups == groups[0]).all():
            return cls(members, members, np.arange(len(members)), np.ones(len(members), np.int64))
        start = np.searchsorted(groups[order], groups, side="left")
        return cls(members, members[order], start, np.searchsorted(groups[order], groups, side="right") - start)

    def __len__(self) -> int:
        return len(self.members)

    def choices(self, queries: Indices) -> Indices:
        """How many supports each query may have."""
        return len(self) - self.size[np.searchsorted(self.members, queries)]

    def support(self, queries: Indices, numbers: Indices) -> Indices:
        """The support of each query of this number, from 0 to its choices."""
        places = np.searchsorted(self.members, queries)
        return self.ordered[numbers + np.where(numbers >= self.start[places], self.size[places], 0)]


def _classes(data: DataSet) -> list[_Class]:
    every = np.arange(len(data))
    classes, groups = data.class_of(every), numbered(data.groups_of(every))
    members = [np.flatnonzero(classes == one_class) for one_class in np.unique(classes)]
    return [_Class.of(each, groups[each]) for each in members]


def _partners(queries: Indices, drawn: Indices, choices: Indices) -> Indices:
    """Of each query the number of its support among its ``choices``: as drawn, one further each time."""
    first: dict[int, int] = {}
    partners = np.empty_like(drawn)
    for row, (query, number, others) in enumerate(zip(queries.tolist(), drawn.tolist(), choices.tolist(), strict=True)):
        partners[row] = first[query] = (first[query] + 1) % others if query in first else number
    return partners


def _balanced(classes: list[Indices], count: int, random: np.random.Generator) -> Iterator[tuple[Indices, Indices]]:
    """For each class: the rows it has among the prompts, and the queries of those rows."""
    turns = random.permutation(np.arange(count) % len(classes))
    for index, members in enumerate(classes):
        rows = np.flatnonzero(turns == index)
        rounds = [random.permutation(members) for _ in range(-(-len(rows) // len(members)))]
        yield rows, np.concatenate([*rounds, members[:0]])[: len(rows)]


def _official(classes: list[Indices], count: int, random: np.random.Generator) -> Iterator[tuple[Indices, Indices]]:
    ordered = np.resize(np.sort(np.concatenate(classes)), count)
    for members in classes:
        rows = np.flatnonzero(np.isin(ordered, members))
        yield rows, ordered[rows]


SAMPLERS = {"balanced": _balanced, "official": _official}


def draw_source(examples: Examples, random: np.random.Generator) -> Source:
    """The examples, with holes at random places, as the sides of a task see them."""
    return Source(examples.images, examples.masks, random.random((len(examples), 2)), examples.outputs)
