"""Figure 7: in-painting + segmentation - identity, at the sites of the multi-task search, does both at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskvec.experiments.cells import Cell
from taskvec.experiments.evidence import COMPOSED, METHOD_TITLES
from taskvec.experiments.layout import spread_note
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.experiments.ways import Way, WayOn
from taskvec.heads import Patch
from taskvec.report.panels import answers_figure
from taskvec.results import Column, Picture, Row, Scores, Table
from taskvec.tasks import task_named

# Of the means of which tasks each method's vectors are the sum.
SUMS = {
    "combined": {"inpainting": 1.0, "segmentation": 1.0, "identity": -1.0},
    "vectors_multi": {"segmentation": 1.0},
    "inpainting_multi": {"inpainting": 1.0},
}
ROWS = ("one_shot", "query_only", *SUMS)


@dataclass(frozen=True)
class SumWay(Way):
    """A sum of tasks' means at the sites of the multi-task search."""

    method: str  # of SUMS

    @property
    def name(self) -> str:
        return self.method

    def needs(self, study: Study, task: str, group: Group) -> Sequence[Cell[Study]]:
        return study.search_cell("vectors_multi", "segmentation", group), study.statistics_cell(group)

    def key(self, study: Study, task: str, group: Group) -> dict[str, Any]:
        sites = study.found("vectors_multi", "segmentation", group).sites
        return {
            "method": self.method,
            "weights": SUMS[self.method],
            "sites": sites,
            "settings": study.protocol.settings,
        }

    def on(self, study: Study, task: str, group: Group) -> WayOn:
        sites, mask = study.mask("vectors_multi", "segmentation", group)
        return study.patched(Patch(sites, mask[None], study.means(group, SUMS[self.method])))


METHODS: dict[str, str | Way] = {name: SumWay(name) if name in SUMS else name for name in ROWS}


def _is_composed(study: Study) -> bool:
    return {"inpainting", "segmentation", "identity"} <= {task.name for task in study.protocol.tasks}


def composed_scores(study: Study) -> dict[str, Scores]:
    """Scores at the composed task: an image with a hole in, the object's mask out."""
    if not _is_composed(study):
        return {}
    return {name: study.scores(method, COMPOSED) for name, method in METHODS.items()}


def cells_7(study: Study) -> Sequence[Cell[Study]]:
    """Those of the scores, which have all that the answers need."""
    every = METHODS.values() if _is_composed(study) else ()
    return [cell for method in every for cell in study.scores_cells(method, COMPOSED)]


def figure_7(study: Study) -> list[Table | Picture]:
    scores = composed_scores(study)
    if not scores:
        return []
    labels = {**METHOD_TITLES, "vectors_multi": "segmentation's vectors alone"}
    cells = [Row(labels[method], (scores[method].value(),)) for method in ROWS]
    note = f"Input: the image with a hole; truth: the object's mask. {spread_note(study)}"
    metric = task_named(COMPOSED).metric
    columns = (Column(f"Composed task, {metric.label}", metric.better),)
    table = Table("figure-7-scores", "Vector arithmetic on the composed task", note, columns, tuple(cells))
    count = study.protocol.shown
    prompts = study.prompts(COMPOSED, study.protocol.groups[0])[:count]
    shown = {name: method for name, method in METHODS.items() if name != "query_only"}
    answers = {labels[name]: study.answers(method, COMPOSED, count) for name, method in shown.items()}
    figure = answers_figure({"query": prompts.query_input, **answers, "truth": prompts.query_output})
    title = "In-painting + segmentation - identity"
    return [table, Picture("figure-7", title, "The first queries of the first group.", figure)]
