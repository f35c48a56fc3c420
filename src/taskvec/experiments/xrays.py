"""Figure 6: vectors found elsewhere, on images of another kind."""

from collections.abc import Sequence

from taskvec.experiments.cells import Cell
from taskvec.experiments.evidence import METHOD_TITLES
from taskvec.experiments.layout import task_column
from taskvec.experiments.protocol import X_RAYS
from taskvec.experiments.study import Study
from taskvec.report.panels import answers_figure
from taskvec.results import Picture, Row, Scores, Table

SHOWN = ("inpainting", "low_light")  # as in the paper
ROWS = ("one_shot", "query_only", "vectors", "copy_input", "reconstruction")


def cells_6(study: Study) -> Sequence[Cell[Study]]:
    """Those of the scores, which have all that the answers need; none where no x-rays were named."""
    if X_RAYS not in study.protocol.others:
        return []
    shown = [(method, task) for task in SHOWN for method in ROWS]
    return [cell for method, task in shown for cell in study.scores_cells(method, task, judged_on=X_RAYS)]


def xray_scores(study: Study) -> dict[tuple[str, str], Scores]:
    """By method and task; empty where no x-rays were named."""
    if X_RAYS not in study.protocol.others:
        return {}
    return {(method, task): study.scores(method, task, judged_on=X_RAYS) for task in SHOWN for method in ROWS}


def figure_6(study: Study) -> list[Table | Picture]:
    scores = xray_scores(study)
    if not scores:
        return []
    rows = tuple(Row(METHOD_TITLES[m], tuple(scores[m, task].value() for task in SHOWN)) for m in ROWS)
    columns = tuple(task_column(study.task(task)) for task in SHOWN)
    note = "Task vectors were found on the study's own data, never on an x-ray."
    table = Table("figure-6-scores", "Out of domain: x-rays", note, columns, rows)
    judged = study.group(study.protocol.groups[0].name, X_RAYS)
    pictures: list[Table | Picture] = [table]
    for task in SHOWN:
        count = study.protocol.shown
        prompts = study.prompts(task, judged)[:count]
        answers = {
            METHOD_TITLES[method]: study.answers(method, task, count, X_RAYS) for method in ("query_only", "vectors")
        }
        figure = answers_figure({"query": prompts.query_input, **answers, "truth": prompts.query_output})
        title = f"X-rays: {study.task(task).title.lower()}"
        pictures.append(Picture(f"figure-6-{task}", title, "The first queries of the first group.", figure))
    return pictures
