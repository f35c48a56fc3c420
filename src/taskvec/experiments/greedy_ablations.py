"""Tables 10 and 11 and Figure 14: where greedy random search may patch, in which groups, and how it starts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from taskvec.experiments.cells import Cell
from taskvec.experiments.layout import group_table, method_cells
from taskvec.experiments.methods import PATCHINGS, find_settings, layers_of
from taskvec.experiments.study import Study
from taskvec.finding import FindSettings, pose_search
from taskvec.metrics import IOU
from taskvec.report.panels import grid_figure
from taskvec.results import GroupScores, Picture, Scores, Table
from taskvec.search import GreedySettings

TABLE_10 = ("greedy_encoder", "greedy_decoder", "greedy")
TABLE_11 = ("greedy_layer", "greedy_head", "greedy")
SEGMENTATION = ["segmentation"]


def cells_10(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, TABLE_10, SEGMENTATION)


def cells_11(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, TABLE_11, SEGMENTATION)


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


@dataclass(frozen=True)
class StartsCell(Cell[Study]):
    """What the best random start scores on each search item of the first group, and what these hang together with."""

    layers: int
    share: float

    def title(self, study: Study) -> str:
        return f"starts in {self.layers} layers at {self.share}, {study.protocol.groups[0].name}"

    def needs(self, study: Study) -> Sequence[Cell[Study]]:
        return (study.statistics_cell(study.protocol.groups[0]),)

    def key(self, study: Study) -> dict[str, Any]:
        origin = study.origin(study.protocol.groups[0])
        return {"cell": "scores of starts", "settings": self._settings(study), **origin}

    def compute(self, study: Study) -> dict[str, Any]:
        group, task = study.protocol.groups[0], study.task("segmentation")
        posed = pose_search(study.model, group.train, [task], self._settings(study), study.statistics(group))
        mask = self._search(study).start(posed.problem)[0]
        (losses,) = posed.problem.evaluate_product(mask[None], posed.problem.every_item)
        return {"scores": (-losses).tolist(), "query_groups": posed.objective.prompts[0].query_groups}

    def _search(self, study: Study) -> GreedySettings:
        return replace(study.protocol.greedy, layers=self.layers, share=self.share)

    def _settings(self, study: Study) -> FindSettings:
        base = find_settings(PATCHINGS["greedy"], study.protocol, study.model, study.protocol.groups[0].seed)
        return replace(base, search=self._search(study))


def cells_14(study: Study) -> Sequence[StartsCell]:
    if "segmentation" not in study.task_names:
        return []
    every = dict.fromkeys(layers_of(share, study.model) for share in study.protocol.grid_layers)
    return [StartsCell(layers, share) for layers in every for share in study.protocol.grid_shares]


def start_scores(study: Study) -> dict[tuple[int, float], Scores]:
    """Figure 14's numbers, of the first group: the best random start's IoU on each search item, by layers, share."""
    grid = {}
    for cell in cells_14(study):
        kept = cell.value(study)
        scores = GroupScores(np.array(kept["scores"]), kept["query_groups"])
        grid[cell.layers, cell.share] = Scores(IOU, {study.protocol.groups[0].name: scores})
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
