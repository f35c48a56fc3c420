"""Where statistics and task vectors come from: images, or texts, by their content, never where or under what name they
lay."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from pydantic import AliasChoices, Field, JsonValue, TypeAdapter

from taskvec.digests import of_json, plain
from taskvec.metrics import METRICS, MetricName
from taskvec.prompts import AnyPrompts
from taskvec.sites import Site

PROMPTED = ("draw_seed", "sampling", "same_hole", "sides", "classes_of_one")  # of an origin, beside the data's own
MAKERS = ("root", "query", "support", "directories")  # what formats 1 and 2 had of the maker's, and no other has

Facts = dict[str, JsonValue]


@dataclass(frozen=True)
class Drawn:
    """Prompts that were drawn from data.

    ``data`` is what ``DataSet.describe`` says of the data, ``prompts`` how many were drawn, ``images`` the digests of
    the images that they are of, sorted. Raises ValueError where there is none: such a record would guard nothing.
    """

    data: Facts
    prompts: Annotated[int, Field(ge=1)]
    draw_seed: int
    sampling: str
    same_hole: bool
    sides: str
    classes_of_one: int
    images: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("there are no images in the record of prompts that were drawn")

    @property
    def digest(self) -> str:
        """What identifies the record, and with it the prompts."""
        return of_json(plain(asdict(self)))

    @classmethod
    def of(cls, prompts: AnyPrompts) -> "Drawn":
        """The record of prompts, with their supports if they have any."""
        data = {name: value for name, value in prompts.origin.items() if name not in PROMPTED}
        images = {*prompts.query_images, *(image for several in prompts.support_images for image in several.split())}
        how: dict[str, Any] = {name: prompts.origin[name] for name in PROMPTED}
        return cls(plain(data), len(prompts), images=tuple(sorted(images)), **how)


@dataclass(frozen=True)
class Refinement:
    """How the values at the sites were refined by a gradient, from the means that they were.

    ``learnt`` and ``validation`` have the queries that it followed and was chosen by; ``step`` is that of the values
    that are kept, 0 where none was better than the means, with their losses on the validation queries.
    """

    settings: Facts
    learnt: Drawn
    validation: Drawn
    step: int
    loss_before: float
    loss: float
    history: tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class Search:
    """How the sites of task vectors were found.

    ``search`` and ``validation`` have the queries of each task that sites were searched and chosen on, in the order of
    ``tasks``; some searches need none of the latter. ``statistics`` are behind the means, None until they are of one
    task. ``loss`` is that on validation items, else on those of the search. ``history`` are the records of its steps,
    ``non_finite`` how many losses were NaN or infinite and left out. Where asked for, ``harmful`` are the sites of the
    set that the search came to whose removal lowered the loss, the worst first, and ``curve`` losses by numbers of
    sites. ``refinement`` is None of values that are means.
    """

    method: str
    settings: Facts
    tasks: tuple[str, ...]
    search: tuple[Drawn, ...]
    validation: Annotated[tuple[Drawn, ...], Field(validation_alias=AliasChoices("validation", "held_out"))]
    statistics: "Drawn | Former | None"
    step: int
    loss: float | None
    evaluations: int
    interrupted: bool
    history: tuple[dict[str, float | None], ...]
    versions: dict[str, str]
    non_finite: int = 0
    refinement: Refinement | None = None
    harmful: tuple[Site, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()

    def drawn(self) -> "Iterator[Drawn | Former]":
        yield from (*self.search, *self.validation)
        if self.refinement is not None:
            yield from (self.refinement.learnt, self.refinement.validation)
        if self.statistics is not None:
            yield self.statistics


@dataclass(frozen=True)
class Former:
    """What task vectors of formats 1 and 2 and their statistics recorded, without what was their maker's.

    They knew images by their names, of which only those of drawn scenes still say which they are.
    """

    record: Facts
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Term:
    """One term of a combination: its factor, and what was known of the task vectors that it is of."""

    factor: float
    task: str
    metric: MetricName
    fingerprint: str
    found: "Search | Former | None"


@dataclass(frozen=True)
class Combination:
    """Task vectors as a sum of others. ``expression`` is as it was written; ``metric`` was asked for, not inferred."""

    expression: str
    terms: tuple[Term, ...] = field()
    metric: MetricName | None = None


def as_sum(terms: Sequence[Term]) -> str:
    """The tasks of terms with their factors, such as ``0.5 * a - b``."""
    text = ""
    for term in terms:
        size = abs(term.factor)
        text += " - " if term.factor < 0 else " + "
        text += term.task if size == 1 else f"{size:g} * {term.task}"
    return f"-{text[3:]}" if text.startswith(" - ") else text[3:]


@dataclass(frozen=True)
class Measured:
    """A mean over pairs with its 95 % interval, None where there are too few groups of pairs to tell."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        between = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.mean:.3f}{between}"


@dataclass(frozen=True)
class Score:
    """What task vectors scored on pairs, by the metric of these.

    ``of`` is the fingerprint of the vectors that answered. ``task`` is one of the built-in ones, or None. ``data`` and
    ``split`` are the kind of the pairs' data set and its part, ``pairs`` and ``groups`` how many pairs and independent
    groups of them there were; ``seen`` of their queries the vectors were found on. ``others`` are other ways of doing
    the same pairs, such as ``query_only``.
    """

    of: str
    task: str | None
    metric: MetricName
    data: str
    split: str
    pairs: int
    groups: int
    seen: int
    value: Measured
    others: dict[str, Measured] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{METRICS[self.metric].label} {self.value} on {self.pairs} pairs of {self.data}, split {self.split}"


Provenance = Search | Combination | Former | None


def images_of(found: Provenance) -> set[str]:
    """The digests of all images that task vectors were found on."""
    match found:
        case Search():
            return {image for drawn in found.drawn() for image in drawn.images}
        case Combination():
            return {image for term in found.terms for image in images_of(term.found)}
        case Former():
            return set(found.images)
    return set()


def former(record: Mapping[str, Any]) -> Provenance:
    """What formats 1 and 2 recorded; ValueError where it is no record."""
    terms = record.get("terms")
    if isinstance(terms, list):
        kept = []
        for term in terms:
            if not (isinstance(term, dict) and term.get("metric") in METRICS and isinstance(term.get("found"), dict)):
                raise ValueError("a term of the combination is no record")
            kept.append({**term, "found": {"record": _without_makers(term["found"]), "images": _scenes(term["found"])}})
        values = {"expression": record.get("combined"), "terms": kept}
        return TypeAdapter(Combination).validate_python(values)
    return Former(_without_makers(record), _scenes(record)) if record else None


def former_drawn(record: Mapping[str, Any], count: int) -> Drawn | Former:
    """What statistics of format 1 recorded of the prompts of a task; of drawn scenes that is all that there is now."""
    images = _scenes({"statistics": record})
    if not images:
        return Former(_without_makers(record))
    data = {name: value for name, value in _without_makers(record).items() if name not in PROMPTED}
    how: dict[str, Any] = {name: record[name] for name in PROMPTED}
    return Drawn(data, count, images=images, **how)


def _without_makers(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {name: item for name, item in value.items() if name not in (*MAKERS, "images")}
        return {name: _without_makers(item) for name, item in kept.items()}
    return [_without_makers(item) for item in value] if isinstance(value, list) else value


def _scenes(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The images of drawn scenes in a record, whose names are what they are a function of."""
    found: set[str] = set()
    for drawn in (record.get(part) for part in ("search", "held_out", "statistics")):
        if isinstance(drawn, dict) and drawn.get("data") == "scenes" and isinstance(drawn.get("images"), list):
            found.update(image for image in drawn["images"] if isinstance(image, str))
    return tuple(sorted(found))
