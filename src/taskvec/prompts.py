"""Prompts: examples (supports) and a query of the same class, both sides of a task, ready for a canvas or a text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from taskvec.choices import SAMPLINGS, Sampling
from taskvec.data.examples import DataSet, Examples, numbered
from taskvec.tasks import Images, Source, Task, own_output


@dataclass(frozen=True, repr=False)
class Prompts:
    """A batch of prompts of one task.

    Inputs and outputs are images, or texts as they stand in the prompt: str [n] of queries, [n, shots] of supports.
    Names and images of several supports are one str, in which those of images have a space between them. ``origin``
    says what they were drawn from and how; indices which examples of that data set they were made of, names
    what it calls them, images the digests of the images that they are in, groups what hangs together with them. All of
    supports is empty where only queries were drawn. ``query_ignored`` is where the query's output does not count, None
    where all of all does.
    """

    task: Task
    origin: dict[str, object]
    support_input: Images
    support_output: Images
    query_input: Images
    query_output: Images
    support_indices: Int[np.ndarray, "n *shots"]
    query_indices: Int[np.ndarray, " n"]
    support_names: list[str]
    query_names: list[str]
    support_images: list[str]
    query_images: list[str]
    query_groups: list[str]
    query_ignored: Bool[np.ndarray, "n size size"] | None = None

    def __len__(self) -> int:
        return len(self.query_input)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self.task.name})"

    @property
    def shots(self) -> int:
        """Supports in a prompt."""
        return 1 if self.support_indices.ndim == 1 else self.support_indices.shape[1]

    def __getitem__(self, rows: slice) -> "Prompts":
        values = {field.name: getattr(self, field.name) for field in fields(self)[2:]}
        chosen: dict[str, Any] = {name: value[rows] for name, value in values.items() if value is not None}
        return Prompts(self.task, self.origin, **chosen)

    def take(self, rows: Int[np.ndarray, " chosen"]) -> "Prompts":
        """These prompts, in this order."""
        chosen: dict[str, Any] = {}
        for name in (f.name for f in fields(self)[2:]):
            values = getattr(self, name)
            if values is not None and len(values) == 0:  # supports that were not drawn
                chosen[name] = values
            elif values is not None:
                chosen[name] = values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows]
        return Prompts(self.task, self.origin, **chosen)


@dataclass(frozen=True, repr=False)
class PlannedPrompts:
    """Prompts that are drawn but not read: ``planned[rows]`` reads these as ``Prompts``, however many there are.

    ``queries`` and ``supports`` are numbers of examples in ``data``; all else is as in ``Prompts``.
    """

    task: Task
    origin: dict[str, object]
    data: DataSet
    size: int
    queries: Int[np.ndarray, " n"]
    supports: Int[np.ndarray, "n shots"]  # without a row where only queries were drawn
    query_holes: Float[np.ndarray, "n 2"]
    support_holes: Float[np.ndarray, "n 2"]

    def __len__(self) -> int:
        return len(self.queries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} of {self.task.name})"

    @property
    def shots(self) -> int:
        """Supports in a prompt."""
        return 1 if self.data.wording is None or not len(self.supports) else self.supports.shape[1]

    @property
    def query_names(self) -> list[str]:
        return self.data.names(self.queries)

    @property
    def query_images(self) -> list[str]:
        return self.data.images_of(self.queries)

    @property
    def query_groups(self) -> list[str]:
        return self.data.groups_of(self.queries)

    @property
    def support_names(self) -> list[str]:
        return _joined(self.data.names(self.supports.ravel()), self.supports.shape[1], ", ")

    @property
    def support_images(self) -> list[str]:
        return _joined(self.data.images_of(self.supports.ravel()), self.supports.shape[1], " ")

    def take(self, rows: Int[np.ndarray, " chosen"]) -> "PlannedPrompts":
        """These prompts, in this order."""
        return self._at(rows)

    def __getitem__(self, rows: slice) -> Prompts:
        return self._at(rows)._read()

    def _at(self, rows: slice | Int[np.ndarray, " chosen"]) -> "PlannedPrompts":
        supports = self.supports[rows] if len(self.supports) else self.supports
        at = {"queries": self.queries[rows], "supports": supports}
        holes = {"query_holes": self.query_holes[rows], "support_holes": self.support_holes[rows]}
        return replace(self, **at, **holes)

    def _read(self) -> Prompts:
        data, task, supports = self.data, self.task, self.supports
        query_examples = data.load(self.queries, self.size)
        query = source_of(query_examples, self.query_holes)
        query_input, query_output = (np.ascontiguousarray(side(query)) for side in (task.input, task.output))
        if not len(supports):
            indices, support_input, support_output = supports[:, 0], query_input[:0], query_output[:0]
        elif data.wording is None:
            examples = data.load(supports[:, 0], self.size)
            indices, support = examples.indices, source_of(examples, self.support_holes)
            support_input, support_output = (np.ascontiguousarray(side(support)) for side in (task.input, task.output))
        else:
            examples = data.load(supports.ravel(), self.size)
            indices = examples.indices.reshape(supports.shape)
            support = source_of(examples, self.support_holes)
            support_input, support_output = (
                side(support).reshape(supports.shape) for side in (task.input, task.output)
            )
            support_output = np.char.add(support_output, data.wording.separator)
        return Prompts(
            task,
            self.origin,
            support_input=support_input,
            support_output=support_output,
            query_input=query_input,
            query_output=query_output,
            support_indices=indices,
            query_indices=query_examples.indices,
            support_names=self.support_names,
            query_names=self.query_names,
            support_images=self.support_images,
            query_images=self.query_images,
            query_groups=self.query_groups,
            query_ignored=query_examples.ignored if task.output is own_output else None,
        )


AnyPrompts = Prompts | PlannedPrompts  # whose slices are Prompts


@dataclass(frozen=True)
class Batch:
    """Inputs and outputs alone, of any tasks."""

    support_input: Images
    support_output: Images
    query_input: Images
    query_output: Images
    query_ignored: Bool[np.ndarray, "n size size"] | None

    def __getitem__(self, rows: slice) -> "Batch":
        ignored = None if self.query_ignored is None else self.query_ignored[rows]
        images = (self.support_input, self.support_output, self.query_input, self.query_output)
        return Batch(*(side[rows] for side in images), query_ignored=ignored)


def joined(prompts: Sequence[Prompts]) -> Batch:
    """The inputs and outputs of several tasks' prompts, one after the other."""
    sides = ("support_input", "support_output", "query_input", "query_output")
    images = {side: np.concatenate([getattr(each, side) for each in prompts]) for side in sides}
    if all(each.query_ignored is None for each in prompts):
        return Batch(**images, query_ignored=None)
    ignored = [
        np.zeros(each.query_output.shape[:3], np.bool_) if each.query_ignored is None else each.query_ignored
        for each in prompts
    ]
    return Batch(**images, query_ignored=np.concatenate(ignored))


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
    """The prompts of ``plan_prompts``, all of them read: for few. Arguments, draws and errors are as there."""
    options: Any = {"sampling": sampling, "same_hole": same_hole, "query_only": query_only}
    return plan_prompts(data, task, count, size, seed, **options)[:]


def plan_prompts(
    data: DataSet,
    task: Task,
    count: int,
    size: int,
    seed: int,
    *,
    sampling: Sampling = "balanced",
    same_hole: bool = False,
    query_only: bool = False,
) -> PlannedPrompts:
    """``count`` prompts with images of ``size`` pixels, their support and query two different examples of one class.

    They are of different groups, too, such as two patients, but where a class has a single one. ``balanced``: classes
    are equally frequent, and an example is a query again only when every one of its class has been. ``official``, as
    the paper's code: queries in the order of the data, from its start again when it ends, so classes are as frequent as
    they are there, and those late in the data may not occur. The support is drawn uniformly; a query that comes again
    gets another one, so that ``pairs_of`` prompts of balanced classes are all the pairs.

    Classes of a single example have no pair and are left out; ``origin`` counts them. For runs that see no support,
    ``query_only``, they are taken, and no support is read: queries and holes are those that there would be with one.

    The same data, task, count and seed give the same prompts. Holes are at different places in support and query,
    unless ``same_hole``, which is how the official code has it. Raises ValueError where no class has two examples.

    Of texts, ``size`` is 0 and there are as many supports as the data's wording has shots, all different, or as there
    are others of the class, where these are fewer. ValueError for images of size 0, and for texts of any other.
    """
    _check_size(data, size)
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
    shots = _shots(data, taken)
    queries, supports = np.empty(count, np.int64), np.empty((count, shots), np.int64)
    members = [of_class.members for of_class in taken]
    for of_class, (rows, own) in zip(taken, SAMPLERS[sampling](members, count, random), strict=True):
        queries[rows] = own
        if len(of_class) > 1:
            choices = of_class.choices(own)
            if shots > 1:
                supports[rows] = _several_partners(of_class, own, shots, random)
                continue
            same = len(choices) == 0 or (choices == choices[0]).all()
            highest = int(choices.max(initial=1)) if same else choices
            partners = _partners(own, random.integers(0, highest, len(rows)), choices)
            supports[rows] = of_class.support(own, partners)[:, None]
        else:  # which only a run without a support takes: as many numbers as there would be with one
            random.integers(0, max(1, len(data) - 1), len(rows))
    support_holes, query_holes = (random.random((count, 2)) for _ in range(2))
    origin: dict[str, object] = {**data.describe(), "draw_seed": seed, "sampling": sampling, "same_hole": same_hole}
    origin |= {"sides": sides(task), "classes_of_one": len(classes) - len(taken)}
    shown = supports[:0] if query_only else supports
    query_holes = support_holes if same_hole else query_holes
    return PlannedPrompts(task, origin, data, size, queries, shown, query_holes, support_holes)


def _check_size(data: DataSet, size: int) -> None:
    if size and data.wording is not None:
        raise ValueError(f"{data.describe()['data']} are texts, and the model takes images of {size} pixels")
    if not size and data.wording is None:
        raise ValueError(f"{data.describe()['data']} are images, and the model takes texts")


def shots_of(data: DataSet) -> int:
    """How many supports a prompt has: one of images, of texts as many as their wording says, or as the query for which
    there are the fewest can have."""
    return _shots(data, [of_class for of_class in _classes(data) if len(of_class) > 1])


def _shots(data: DataSet, classes: Sequence["_Class"]) -> int:
    return 1 if data.wording is None else min([data.wording.shots, *(of_class.fewest for of_class in classes)])


def _joined(names: list[str], shots: int, between: str) -> list[str]:
    """The names of each prompt's supports as one."""
    return [between.join(names[start : start + shots]) for start in range(0, len(names), shots)]


def sides(task: Task) -> str:
    """What a task turns into what; tasks of one name may differ in it."""
    names = [getattr(side, "__name__", type(side).__name__) for side in (task.input, task.output)]
    return " to ".join(names)


def pairs_of(data: DataSet) -> int:
    """How many different prompts there are: ordered pairs of different examples of one class.

    Of different groups, too, but where a class has a single one.
    """
    return sum(int(each.choices(each.members).sum()) for each in _classes(data))


def with_supports(
    prompts: Prompts, data: DataSet, supports: Int[np.ndarray, " n"], holes: Float[np.ndarray, "n 2"]
) -> Prompts:
    """The same queries with these examples of a data set as supports, whose holes, if the task has any, are there."""
    examples = data.load(supports, prompts.query_input.shape[1])
    source = source_of(examples, holes)
    task = prompts.task
    support_input, support_output = (np.ascontiguousarray(side(source)) for side in (task.input, task.output))
    return replace(
        prompts,
        support_input=support_input,
        support_output=support_output,
        support_indices=examples.indices,
        support_names=data.names(supports),
        support_images=data.images_of(supports),
    )


Indices = Int[np.ndarray, " n"]


def choices_of(data: DataSet) -> Callable[[int], Indices]:
    """What gives, by the number of a query, every example that ``draw_prompts`` may draw as its support."""
    classes = _classes(data)
    class_at = np.empty(len(data), np.int64)
    for number, of_class in enumerate(classes):
        class_at[of_class.members] = number

    def choices(query: int) -> Indices:
        of_class = classes[class_at[query]]
        count = int(of_class.choices(np.array([query]))[0])
        return of_class.support(np.full(count, query), np.arange(count))

    return choices


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

    @property
    def fewest(self) -> int:
        """How many supports a query may have at least; 1 where there is a single example, which is no support."""
        return max(1, int(self.choices(self.members).min()))

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


def _several_partners(
    of_class: _Class, queries: Indices, shots: int, random: np.random.Generator
) -> Int[np.ndarray, "n shots"]:
    """Of each query so many different supports, in random order."""
    numbers = [random.permutation(count)[:shots] for count in of_class.choices(queries).tolist()]
    flat = of_class.support(np.repeat(queries, shots), np.concatenate([*numbers, queries[:0]]))
    return flat.reshape(len(queries), shots)


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


def source_of(examples: Examples, holes: Float[np.ndarray, "n 2"]) -> Source:
    """The examples as the sides of a task see them."""
    return Source(examples.images, examples.masks, holes, examples.outputs)
