"""The evidence of a study: every number that the claims are judged by."""

from collections.abc import Sequence

from taskvec.experiments.cells import Cell
from taskvec.experiments.clustering import cells_2, correlations
from taskvec.experiments.comparison import ROWS_3, cells_3
from taskvec.experiments.composition import cells_7, composed_scores
from taskvec.experiments.evidence import COMPOSED, Evidence
from taskvec.experiments.granularity import ROWS as GRANULARITY
from taskvec.experiments.granularity import cells_4
from taskvec.experiments.greedy_ablations import cells_14, start_scores
from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.location import cells_5
from taskvec.experiments.one_shot_vectors import cells_9
from taskvec.experiments.paper import TABLE_5, TABLE_9
from taskvec.experiments.study import Study
from taskvec.experiments.xrays import cells_6, xray_scores
from taskvec.models import published_architecture


def evidence_cells(study: Study) -> Sequence[Cell[Study]]:
    """What ``collect_evidence`` asks for."""
    tables = [cells_3, cells_4, cells_9, cells_5, cells_7, cells_6, cells_2, cells_14]
    return [cell for cells_of in tables for cell in cells_of(study)]


def collect_evidence(study: Study) -> Evidence:
    """Ask for every cell that a claim needs; those of the tables are there already."""
    methods = dict.fromkeys((*ROWS_3, *GRANULARITY, *TABLE_9))
    scores = {(method, task): study.scores(method, task) for method in methods for task in tasks_in_order(study)}
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
            "published": published_architecture().gigaflops(),
        },
        starts=start_scores(study) if segments else {},
        layers=sum(stack.layers for stack in stacks),
        heads=sum(stack.layers * stack.heads for stack in stacks),
    )
