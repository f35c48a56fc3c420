"""What every search is: settings that search when they are given a problem, and the result that they come to."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self, TypeVar

from jaxtyping import Bool, Float
from torch import Tensor

from taskvec.search.checkpoint import Checkpoint
from taskvec.search.finite import NonFinite
from taskvec.search.problem import Problem

OnStep = Callable[[dict[str, Any]], None]  # sees the record of every step

Need = Literal["differentiate", "validate", "layers"]
NEEDS: dict[Need, str] = {
    "differentiate": "a gradient",
    "validate": "validation items",
    "layers": "layers ranked by taskness",
}

Part = TypeVar("Part")


@dataclass(frozen=True)
class SearchResult:
    """The set of sites that a search ends with, and how it was found.

    ``loss`` is the set's mean loss on validation items, or on the search's own items where it needs none. ``step`` is
    where the set was found. ``scores`` are what the search knows of each site, higher is better: Bernoulli logits of
    REINFORCE and the relaxed search, effects of attribution and CMA, None of the greedy search. ``evaluations`` are
    those of the search itself, without the validation items'; one with a gradient counts as three. ``interrupted`` is
    True where Ctrl-C ended the search before its last step. ``non_finite`` losses were NaN or infinite and left out, as
    the records of the history say; 0 for a search that refuses them.

    ``harmful`` and ``curve`` are what ``prune`` and ``with_curve`` add: sites without which the set that was found has
    a lower validation loss, the worst first, and validation losses by numbers of sites.
    """

    mask: Bool[Tensor, " sites"]
    loss: float
    step: int
    scores: Float[Tensor, " sites"] | None
    history: list[dict[str, Any]]
    evaluations: int
    interrupted: bool
    non_finite: int = 0
    harmful: tuple[int, ...] = ()
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class SearchSettings(ABC):
    """The settings of a search, which are the search itself; ``SEARCHES`` lists all of them.

    ``name`` is what commands, records and ``SEARCHES`` call it, ``needs`` the parts of a problem that it does not go
    without, and ``preset`` the one of ``taskvec.presets`` whose objective and number of items it is at home with.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    preset: ClassVar[str] = "paper"

    @abstractmethod
    def search(
        self,
        problem: Problem,
        on_step: OnStep = lambda record: None,
        checkpoint: Checkpoint | None = None,
        non_finite: NonFinite = "refuse",
    ) -> SearchResult:
        """Find the sites with the lowest loss.

        ``on_step`` sees a record of every step: step, loss, sites, and more that a search says of it. ``checkpoint``
        keeps the state of a search that takes several steps, so that an interrupted one goes on to the same end; it is
        there until the caller, whose result is safe then, calls ``checkpoint.forget()``.
        ``non_finite`` says what becomes of losses that are NaN or infinite, as in ``FiniteLosses``. Raises ValueError
        where the problem lacks what the search needs, or too few losses are finite.
        """

    @property
    def number_of_steps(self) -> int | None:
        """How many records there will be, None where that shows only in the search."""
        return None

    def coarse(self) -> Self:
        """The same in as little time as shows that everything works; its result is not to be judged."""
        return self

    def identity(self, problem: Problem, non_finite: NonFinite) -> dict[str, Any]:
        """All that a search depends on, as far as it knows: what its state is of."""
        of = {"method": self.name, "settings": asdict(self), "sites": problem.sites, "items": problem.items}
        of["tasks"] = None if problem.tasks is None else problem.tasks.tolist()
        return of | {"non_finite": non_finite, "seed": problem.seed, "at_most": problem.at_most}

    def required(self, part: Part | None, need: Need) -> Part:
        """A part of a problem; ValueError where it is None."""
        if part is None:
            raise ValueError(f"the {self.name} search needs {NEEDS[need]}, which this problem lacks")
        return part
