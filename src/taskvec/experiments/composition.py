"""Figure 7: in-painting + segmentation - identity, at the sites of the multi-task search, does both at once."""

from typing import Any

import numpy as np
from torch import Tensor

from taskvec import evaluation
from taskvec.experiments.evidence import COMPOSED, METHOD_TITLES
from taskvec.experiments.layout import spread_note
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
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


def composed_scores(study: Study) -> dict[str, Scores]:
    """Scores at the composed task: an image with a hole in, the object's mask out."""
    if not {"inpainting", "segmentation", "identity"} <= {task.name for task in study.protocol.tasks}:
        return {}
    task = task_named(COMPOSED)
    scores = {method: study.scores(method, task) for method in ("one_shot", "query_only")}
    for method, weights in SUMS.items():
        groups = {}
        for group in study.protocol.groups:
            patch, key = _patch(study, weights, group), _key(study, method, group)
            groups[group.name] = study.score_patch(patch, task, group, method, key)
        scores[method] = Scores(task.metric, groups)
    return scores


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
    group, count = study.protocol.groups[0], study.protocol.shown
    prompts = study.prompts(task_named(COMPOSED), group)[:count]
    answers: dict[str, np.ndarray] = {}
    for method, weights in SUMS.items():
        key = _key(study, method, group)
        run = study.patched(_patch(study, weights, group), task_named(COMPOSED), group, method, key)
        answers[labels[method]] = evaluation.answers(study.model, run, prompts).numpy()
    one_shot = {METHOD_TITLES["one_shot"]: study.answers("one_shot", task_named(COMPOSED), count)}
    figure = answers_figure({"query": prompts.query_input, **one_shot, **answers, "truth": prompts.query_output})
    title = "In-painting + segmentation - identity"
    return [table, Picture("figure-7", title, "The first queries of the first group.", figure)]


def _key(study: Study, method: str, group: Group) -> dict[str, Any]:
    sites = study.found("vectors_multi", "segmentation", group).sites
    return {"method": method, "weights": SUMS[method], "sites": sites, "settings": study.protocol.settings}


def _patch(study: Study, weights: dict[str, float], group: Group) -> Patch:
    sites, mask = study.mask("vectors_multi", "segmentation", group)
    masks: Tensor = mask[None]
    return Patch(sites, masks, study.means(group, weights))
