"""Two curves beyond the paper: scores by the number of prompts behind the means, and by the number of search items."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from taskvec.experiments.cells import Cell
from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.methods import PATCHINGS, find_settings
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.experiments.study_cells import SearchCell
from taskvec.experiments.ways import Way, WayOn
from taskvec.finding import FindSettings
from taskvec.heads import Patch
from taskvec.report.panels import curves_figure
from taskvec.results import Picture

WayWith = Callable[[str, int], Way]  # of a task and a number
REFERENCES = {"one-shot prompt": "one_shot", "query only": "query_only"}


@dataclass(frozen=True)
class PromptsWay(Way):
    """Task vectors whose sites were found with all prompts behind the means, and whose means are of ``count``."""

    count: int

    @property
    def name(self) -> str:
        return f"vectors of {self.count} prompts"

    def needs(self, study: Study, task: str, group: Group) -> Sequence[Cell[Study]]:
        return study.search_cell("vectors", task, group), study.statistics_cell(group, self.count)

    def key(self, study: Study, task: str, group: Group) -> dict[str, Any]:
        return {"method": self.name, "settings": _settings(study, group), "prompts": self.count}

    def on(self, study: Study, task: str, group: Group) -> WayOn:
        sites, mask = study.mask("vectors", task, group)
        return study.patched(Patch(sites, mask[None], study.statistics(group, self.count).means([task])))


@dataclass(frozen=True)
class ItemsWay(Way):
    """Task vectors that were found on ``count`` items, with the means of all prompts."""

    count: int
    task: str

    @property
    def name(self) -> str:
        return f"vectors from {self.count} items {self.task}"

    def needs(self, study: Study, task: str, group: Group) -> Sequence[Cell[Study]]:
        return self._search(study, task, group), study.statistics_cell(group)

    def key(self, study: Study, task: str, group: Group) -> dict[str, Any]:
        return {"method": self.name, "settings": _settings(study, group), "items": self.count}

    def on(self, study: Study, task: str, group: Group) -> WayOn:
        sites = study.model.sites()
        mask = sites.mask(self._search(study, task, group).value(study).sites)
        return study.patched(Patch(sites, mask[None], study.statistics(group).means([task])))

    def _search(self, study: Study, task: str, group: Group) -> SearchCell:
        return SearchCell((task,), group.name, replace(_settings(study, group), items=self.count), self.name)


def _settings(study: Study, group: Group) -> FindSettings:
    return find_settings(PATCHINGS["vectors"], study.protocol, study.model, group.seed)


def _with_prompts(task: str, count: int) -> Way:
    return PromptsWay(count)


def _with_items(task: str, count: int) -> Way:
    return ItemsWay(count, task)


def cells_of_curves(study: Study) -> Sequence[Cell[Study]]:
    tasks, protocol = tasks_in_order(study), study.protocol
    ways = [(_with_prompts(task, count), task) for task in tasks for count in protocol.prompt_counts]
    ways += [(_with_items(task, count), task) for task in tasks for count in protocol.item_counts]
    references = [(name, task) for task in tasks for name in REFERENCES.values()]
    return [cell for way, task in [*ways, *references] for cell in study.scores_cells(way, task)]


def curves(study: Study) -> list[Picture]:
    prompts, items = study.protocol.prompt_counts, study.protocol.item_counts
    return [
        Picture(
            "curve-prompts",
            "Scores by the number of prompts behind the means",
            "The sites are those found with all prompts; only the means that are patched change.",
            _figure(study, prompts, _with_prompts, "prompts behind the means"),
        ),
        Picture(
            "curve-items",
            "Scores by the number of items searched on",
            "Means of all prompts; every point is a search of its own.",
            _figure(study, items, _with_items, "items searched on"),
        ),
    ]


def _figure(study: Study, counts: tuple[int, ...], way: WayWith, horizontal: str) -> Figure:
    panels, vertical, references = {}, {}, {}
    for task in tasks_in_order(study):
        scores = [study.scores(way(task, count), task) for count in counts]
        values = [[each.groups[group.name].scores.mean() for each in scores] for group in study.protocol.groups]
        chosen = study.task(task)
        panels[chosen.title] = (counts, np.array(values))
        vertical[chosen.title] = chosen.metric.label
        references[chosen.title] = {
            label: study.scores(method, task).value().mean for label, method in REFERENCES.items()
        }
    return curves_figure(panels, horizontal, vertical, references)
