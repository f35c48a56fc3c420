"""The cells of a study: statistics, searches, decodings that were chosen, and scores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool
from torch import Tensor

from taskvec import evaluation
from taskvec.answering import Answering, calibrate
from taskvec.experiments.cells import Cell
from taskvec.experiments.ways import Way
from taskvec.finding import FindSettings, find_sites, statistics_prompts
from taskvec.models.interface import DecodingKind
from taskvec.search import Checkpoint, SearchResult
from taskvec.statistics import collect

if TYPE_CHECKING:
    from taskvec.experiments.study import Study


@dataclass(frozen=True)
class FoundSites:
    """What a search came to, as its cell holds it: the numbers of its sites, their loss, and how many evaluations."""

    sites: list[int]
    loss: float
    evaluations: int


@dataclass(frozen=True)
class StatisticsCell(Cell["Study"]):
    """The statistics of every task over a number of prompts, in a file beside the cell, which counts the prompts."""

    group: str
    prompts: int

    def title(self, study: "Study") -> str:
        return f"statistics of {self.prompts} prompts, {self.group}"

    def key(self, study: "Study") -> dict[str, Any]:
        settings = self._settings(study)
        kept = {name: getattr(settings, name) for name in ("prompts", "pool", "sampling", "same_hole", "seed", "area")}
        return {"cell": "statistics", **kept, **study.origin(study.group(self.group))}

    def compute(self, study: "Study") -> dict[str, int]:
        train, settings = study.group(self.group).train, self._settings(study)
        drawn = (statistics_prompts(study.model, train, task, settings) for task in study.protocol.tasks)
        collected = collect(study.model, drawn)
        collected.save(self.path(study))
        return {name: task.count for name, task in collected.tasks.items()}

    def value(self, study: "Study") -> dict[str, int]:
        counts = super().value(study)
        if not self.path(study).exists():  # cells travel as JSON, without the files beside them, which are large
            self.compute(study)
        return counts

    def path(self, study: "Study") -> Path:
        """That of the statistics themselves."""
        return study.store.path(self.key(study), ".safetensors")

    def _settings(self, study: "Study") -> FindSettings:
        return replace(study.protocol.settings, seed=study.group(self.group).seed, prompts=self.prompts)


@dataclass(frozen=True)
class SearchCell(Cell["Study"]):
    """The sites that a search finds for tasks; ``what`` is what the first who asks for it calls it."""

    tasks: tuple[str, ...]
    group: str
    settings: FindSettings
    what: str = field(compare=False)

    def title(self, study: "Study") -> str:
        return f"{self.what}, {self.group}"

    def needs(self, study: "Study") -> Sequence[Cell["Study"]]:
        return (study.statistics_cell(study.group(self.group)),)

    def key(self, study: "Study") -> dict[str, Any]:
        key = {"cell": "search", "tasks": list(self.tasks), "settings": self.settings}
        return {**key, **study.origin(study.group(self.group))}

    def compute(self, study: "Study") -> dict[str, Any]:
        group, tasks = study.group(self.group), [study.task(name) for name in self.tasks]
        statistics, state = study.statistics(group), self._state(study)
        result = find_sites(study.model, group.train, tasks, self.settings, statistics, checkpoint=state).result
        if result.interrupted:
            raise KeyboardInterrupt
        return asdict(FoundSites(self.chosen(result).nonzero()[:, 0].tolist(), result.loss, result.evaluations))

    def chosen(self, result: SearchResult) -> Bool[Tensor, " sites"]:
        """The sites that are taken of what a search came to."""
        return result.mask

    def value(self, study: "Study") -> FoundSites:
        found = FoundSites(**super().value(study))
        self._state(study).forget()  # now that the result is safe
        return found

    def _state(self, study: "Study") -> Checkpoint:
        """From which a search goes on whose process was ended."""
        return Checkpoint(study.store.path(self.key(study), ".state.safetensors"))


@dataclass(frozen=True)
class DecodingCell(Cell["Study"]):
    """The decoding that is best for a way of doing a task, on prompts that judge nothing."""

    way: Way
    task: str
    group: str
    decoding: DecodingKind | None = None  # that is chosen among, None for the protocol's

    def title(self, study: "Study") -> str:
        return f"decoding of {self.way.name} at {self.task}, {self.group}"

    def needs(self, study: "Study") -> Sequence[Cell["Study"]]:
        return self.way.needs(study, self.task, study.group(self.group))

    def key(self, study: "Study") -> dict[str, Any]:
        group = study.group(self.group)
        of = {"choices": study.choices(self.decoding), "task": self.task}
        return {"cell": "decoding", **self.way.key(study, self.task, group), **of, **study.origin(group)}

    def compute(self, study: "Study") -> dict[str, Any]:
        group = study.group(self.group)
        method = answering(self.way.on(study, self.task, group)(group.train))
        return asdict(calibrate(method, study.calibrating(self.task, group), study.choices(self.decoding)))


@dataclass(frozen=True)
class ScoresCell(Cell["Study"]):
    """The score of every prompt by a way of doing a task, with the decoding that is best for it; references have none.

    ``judged_on`` names one of ``Protocol.others``, None for the group's own data.
    """

    way: Way
    task: str
    group: str
    decoding: DecodingKind | None = None
    judged_on: str | None = None

    def title(self, study: "Study") -> str:
        with_codes = "" if self.decoding is None else f" by {self.decoding}"
        on = "" if self.judged_on is None else f" on {self.judged_on}"
        return f"{self.way.name} at {self.task}{on}, {self.group}{with_codes}"

    def needs(self, study: "Study") -> Sequence[Cell["Study"]]:
        group = study.group(self.group)
        return *self.way.needs(study, self.task, group), *study.decoding_cells(
            self.way, self.task, group, self.decoding
        )

    def key(self, study: "Study") -> dict[str, Any]:
        group, judged = study.group(self.group), study.group(self.group, self.judged_on)
        prompts, area = study.prompts(self.task, judged), study.protocol.settings.area
        of = {"pairs": len(prompts), "area": area, "origin": prompts.origin, "task": self.task}
        if not self.way.is_reference:
            of |= {"decoding": study.choices(self.decoding)}
        return {"cell": "scores", **self.way.key(study, self.task, group), **of, **study.origin(judged)}

    def compute(self, study: "Study") -> list[float]:
        group, judged = study.group(self.group), study.group(self.group, self.judged_on)
        run = study.decoded(self.way, self.task, group, self.decoding)
        return evaluation.scores(study.model, run(judged.test), study.prompts(self.task, judged)).tolist()


def answering(method: evaluation.Method) -> Answering:
    """A method that answers by a model; TypeError for any other."""
    if not isinstance(method, Answering):
        raise TypeError(f"{method} is no way in which a model answers")
    return method
