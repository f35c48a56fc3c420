"""The evidence of a study: every number that the claims are judged by."""

from taskvec.experiments.clustering import correlations
from taskvec.experiments.comparison import ROWS_3
from taskvec.experiments.composition import composed_scores
from taskvec.experiments.evidence import COMPOSED, Evidence
from taskvec.experiments.granularity import ROWS as GRANULARITY
from taskvec.experiments.greedy_ablations import start_scores
from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.paper import TABLE_5, TABLE_9
from taskvec.experiments.study import Study
from taskvec.experiments.xrays import xray_scores
from taskvec.models import published_architecture


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
