"""Figure 6: vectors found elsewhere, on images of another kind."""

from functools import partial

import numpy as np

from taskvec import evaluation
from taskvec.experiments.evidence import METHOD_TITLES
from taskvec.experiments.layout import task_column
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.report.panels import answers_figure
from taskvec.results import Picture, Row, Scores, Table

SHOWN = ("inpainting", "low_light")  # as in the paper
ROWS = ("one_shot", "query_only", "vectors", "copy_input", "reconstruction")


def _groups(study: Study) -> list[tuple[Group, Group]]:
    """Every group, and the same judged on the x-rays."""
    images = study.protocol.xrays
    return [(g, Group(g.name, g.train, images, g.seed)) for g in study.protocol.groups] if images else []


def xray_scores(study: Study) -> dict[tuple[str, str], Scores]:
    """By method and task; empty where no x-rays were named."""
    if study.protocol.xrays is None:
        return {}
    scores = {}
    for task in SHOWN:
        for method in ROWS:
            groups = {g.name: study.group_scores(method, study.task(task), g, judged) for g, judged in _groups(study)}
            scores[method, task] = Scores(study.task(task).metric, groups)
    return scores


def figure_6(study: Study) -> list[Table | Picture]:
    scores = xray_scores(study)
    if not scores:
        return []
    rows = tuple(Row(METHOD_TITLES[m], tuple(scores[m, task].value() for task in SHOWN)) for m in ROWS)
    columns = tuple(task_column(study.task(task)) for task in SHOWN)
    note = "Task vectors were found on the study's own data, never on an x-ray."
    table = Table("figure-6-scores", "Out of domain: x-rays", note, columns, rows)
    group, judged = _groups(study)[0]
    pictures: list[Table | Picture] = [table]
    for task in SHOWN:
        prompts = study.prompts(study.task(task), judged)[: study.protocol.shown]
        show = partial(evaluation.answers, study.model, prompts=prompts)
        answers: dict[str, np.ndarray] = {
            METHOD_TITLES[method]: show(study.method(method, study.task(task), group, judged)).numpy()
            for method in ("query_only", "vectors")
        }
        figure = answers_figure({"query": prompts.query_input, **answers, "truth": prompts.query_output})
        title = f"X-rays: {study.task(task).title.lower()}"
        pictures.append(Picture(f"figure-6-{task}", title, "The first queries of the first group.", figure))
    return pictures
