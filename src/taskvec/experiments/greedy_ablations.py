"""Tables 10 and 11 and Figure 14: where greedy random search may patch, in which groups, and how it starts."""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from taskvec.experiments.layout import group_table
from taskvec.experiments.methods import PATCHINGS, find_settings, layers_of
from taskvec.experiments.study import Study
from taskvec.finding import pose_search
from taskvec.metrics import IOU
from taskvec.report.panels import grid_figure
from taskvec.results import GroupScores, Picture, Scores, Table

TABLE_10 = ("greedy_encoder", "greedy_decoder", "greedy")
TABLE_11 = ("greedy_layer", "greedy_head", "greedy")
SEGMENTATION = ["segmentation"]


def table_10(study: Study) -> list[Table]:
    note = (
        "Segmentation. Confined to the decoder, all its layers are searched, else the paper's 17 of 32. Means with "
        "95 % intervals."
    )
    return _segmentation(study, "table-10", "Greedy random search in the encoder, the decoder, or both", note, TABLE_10)


def table_11(study: Study) -> list[Table]:
    note = "Segmentation. Means with 95 % intervals."
    return _segmentation(study, "table-11", "Granularity of greedy random search", note, TABLE_11)


def _segmentation(study: Study, name: str, title: str, note: str, methods: tuple[str, ...]) -> list[Table]:
    if "segmentation" not in study.task_names:
        return []
    return [group_table(study, name, title, note, methods, SEGMENTATION)]


def start_scores(study: Study) -> dict[tuple[int, float], Scores]:
    """Figure 14's numbers, of the first group: the best random start's IoU on each search item, by layers, share."""
    protocol, group = study.protocol, study.protocol.groups[0]
    base = find_settings(PATCHINGS["greedy"], protocol, study.model, group.seed)
    grid = {}
    for layers in dict.fromkeys(layers_of(share, study.model) for share in protocol.grid_layers):
        for share in protocol.grid_shares:
            search = replace(protocol.greedy, layers=layers, share=share)
            settings = replace(base, search=search)

            def compute(settings=settings, search=search) -> dict[str, Any]:
                task, statistics = study.task("segmentation"), study.statistics(group)
                posed = pose_search(study.model, group.train, [task], settings, statistics)
                mask = search.start(posed.problem)[0]
                (losses,) = posed.problem.evaluate_product(mask[None], posed.problem.every_item)
                return {"scores": (-losses).tolist(), "query_groups": posed.objective.prompts[0].query_groups}

            key = {"cell": "scores of starts", "settings": settings}
            kept = study.cell(f"starts in {layers} layers at {share}", key, group, compute)
            grid[layers, share] = Scores(IOU, {group.name: GroupScores(np.array(kept["scores"]), kept["query_groups"])})
    return grid


def figure_14(study: Study) -> list[Picture]:
    if "segmentation" not in study.task_names:
        return []
    figure: Figure = grid_figure(
        {place: each.mean for place, each in start_scores(study).items()}, "layers k", "share p", "best start's IoU"
    )
    note = (
        "Segmentation IoU on the search items of the best of the random starts, in the first group. The paper's best "
        "is k = 17 of 32 layers, p = 0.3."
    )
    return [Picture("figure-14", "Initialisation of greedy random search", note, figure)]
