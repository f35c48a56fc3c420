"""Ways of doing a task that scores are of, as data: each is made again in whatever process needs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskvec import evaluation
from taskvec.data.examples import DataSet
from taskvec.experiments.cells import Cell
from taskvec.experiments.methods import PATCHINGS, find_settings
from taskvec.experiments.protocol import Group
from taskvec.heads import Patch

if TYPE_CHECKING:
    from taskvec.experiments.study import Study

RANDOM_DRAWS = 5
WayOn = Callable[[DataSet], evaluation.Method]  # of doing a task, on prompts that were drawn from these data


class Way(ABC):
    """A way of doing a task in a group: its classes are frozen dataclasses."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What people call it."""

    @property
    def is_reference(self) -> bool:
        """Whether it has no decoding to choose, such as a copy of the input."""
        return False

    def needs(self, study: "Study", task: str, group: Group) -> Sequence[Cell["Study"]]:
        """The cells that have to be there first."""
        return ()

    @abstractmethod
    def key(self, study: "Study", task: str, group: Group) -> dict[str, Any]:
        """What tells its cells apart from those of other ways."""

    @abstractmethod
    def on(self, study: "Study", task: str, group: Group) -> WayOn:
        """How the study's model answers."""


@dataclass(frozen=True)
class MethodWay(Way):
    """A method of METHOD_TITLES; of random sites ``draw`` says which."""

    method: str
    draw: int = 0

    @property
    def name(self) -> str:
        return f"{self.method}, draw {self.draw + 1}" if self.draw else self.method

    @property
    def is_reference(self) -> bool:
        return self.method in evaluation.REFERENCES

    def needs(self, study: "Study", task: str, group: Group) -> Sequence[Cell["Study"]]:
        if self.method not in PATCHINGS:
            return ()
        return study.search_cell(self.method, task, group), study.statistics_cell(group)

    def key(self, study: "Study", task: str, group: Group) -> dict[str, Any]:
        key: dict[str, Any] = {"method": self.method}
        if self.method in PATCHINGS:
            patching = PATCHINGS[self.method]
            settings = find_settings(patching, study.protocol, study.model, group.seed)
            key |= {"patching": patching, "settings": settings}
        return {**key, "draw": self.draw}

    def on(self, study: "Study", task: str, group: Group) -> WayOn:
        if self.method not in PATCHINGS:
            return lambda data: evaluation.method_named(study.judged, self.method, data)
        sites, mask = study.mask(self.method, task, group, self.draw)
        patch = Patch(sites, mask[None], study.statistics(group).means([task]))
        return study.patched(patch, PATCHINGS[self.method].view)


def ways_of(method: str | Way) -> Sequence[Way]:
    """The ways whose mean a method is: several of random sites, else one."""
    if isinstance(method, Way):
        return [method]
    random = method in PATCHINGS and PATCHINGS[method].kind == "random"
    return [MethodWay(method, draw) for draw in range(RANDOM_DRAWS if random else 1)]
