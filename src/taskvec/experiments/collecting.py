"""The evidence of a study: every number that the claims are judged by."""

from collections.abc import Sequence
from functools import cache

from taskvec.experiments.cells import Cell
from taskvec.experiments.clustering import cells_2, correlations
from taskvec.experiments.comparison import ROWS_3
from taskvec.experiments.composition import cells_7, composed_scores
from taskvec.experiments.evidence import COMPOSED, Evidence
from taskvec.experiments.granularity import ROWS as GRANULARITY
from taskvec.experiments.greedy_ablations import cells_14, start_scores
from taskvec.experiments.layout import method_cells, tasks_in_order
from taskvec.experiments.location import cells_5
from taskvec.experiments.paper import TABLE_5, TABLE_9
from taskvec.experiments.study import Study
from taskvec.experiments.xrays import cells_6, xray_scores
from taskvec.models import published_architecture

METHODS = tuple(dict.fromkeys((*ROWS_3, *GRANULARITY, *TABLE_9)))


def evidence_cells(study: Study) -> Sequence[Cell[Study]]:
    """What ``collect_evidence`` asks for."""
    others = [cell for cells_of in (cells_5, cells_7, cells_6, cells_2, cells_14) for cell in cells_of(study)]
    return [*method_cells(study, METHODS), *others]


def collect_evidence(study: Study) -> Evidence:
    """Ask for every cell that a claim needs; those of the tables are there already."""
    scores = {(method, task): study.scores(method, task) for method in METHODS for task in tasks_in_order(study)}
    segments = "segmentation" in study.task_names
    if segments:
        scores |= {(method, "segmentation"): study.scores(method, "segmentation") for method in TABLE_5}
        scores |= {(method, COMPOSED): each for method, each in composed_scores(study).items()}
    stacks = study.model.stacks.values()
    return Evidence(
        scores=scores,
        xrays=xray_scores(study),
        clustering=correlations(study),
        gigaflops={
            "this model": study.model.gigaflops(),
            "published": _published(),
        },
        starts=start_scores(study) if segments else {},
        layers=sum(stack.layers for stack in stacks),
        heads=sum(stack.layers * stack.heads for stack in stacks),
    )


@cache
def _published() -> dict[str, float]:
    return published_architecture().gigaflops()
