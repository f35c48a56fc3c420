"""Two curves beyond the paper: scores by the number of prompts behind the means, and by the number of search items."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.methods import PATCHINGS, find_settings
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.heads import Patch
from taskvec.report.panels import curves_figure
from taskvec.results import Picture

Score = Callable[[Study, str, Group, int], float]


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


def _with_prompts(study: Study, task: str, group: Group, count: int) -> float:
    sites, mask = study.mask("vectors", task, group)
    patch = Patch(sites, mask[None], study.statistics(group, count).means([task]))
    return _score(study, patch, task, group, f"vectors of {count} prompts", {"prompts": count})


def _with_items(study: Study, task: str, group: Group, count: int) -> float:
    settings = find_settings(PATCHINGS["vectors"], study.protocol, study.model, group.seed)
    what = f"vectors from {count} items {task}"
    found = study.search([study.task(task)], group, replace(settings, items=count), what)
    sites = study.model.sites()
    patch = Patch(sites, sites.mask(found.sites)[None], study.statistics(group).means([task]))
    return _score(study, patch, task, group, what, {"items": count})


def _score(study: Study, patch: Patch, task: str, group: Group, what: str, key: dict[str, int]) -> float:
    settings = find_settings(PATCHINGS["vectors"], study.protocol, study.model, group.seed)
    kept = {"method": what, "settings": settings, **key}
    return float(study.score_patch(patch, study.task(task), group, what, kept).scores.mean())


def _figure(study: Study, counts: tuple[int, ...], score: Score, horizontal: str) -> Figure:
    panels, vertical, references = {}, {}, {}
    for task in tasks_in_order(study):
        values = [[score(study, task, group, count) for count in counts] for group in study.protocol.groups]
        chosen = study.task(task)
        panels[chosen.title] = (counts, np.array(values))
        vertical[chosen.title] = chosen.metric.label
        references[chosen.title] = {
            "one-shot prompt": study.scores("one_shot", task).value().mean,
            "query only": study.scores("query_only", task).value().mean,
        }
    return curves_figure(panels, horizontal, vertical, references)
