"""Table 2 and Figure 2: the scores of heads, and whether their outputs cluster by task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskvec.analysis import head_taskness, taskness
from taskvec.analysis.clustering import (
    HeadClustering,
    HeadOutputs,
    cluster_heads,
    clustering_table,
    head_outputs,
    rank_correlations,
)
from taskvec.experiments.cells import Cell
from taskvec.experiments.paper import TABLE_2
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.prompts import Prompts
from taskvec.report.analysis_figures import analysis_figure, quadrant_side
from taskvec.results import Column, Picture, Row, Table


def _prompts(study: Study, group: Group) -> list[Prompts]:
    return [study.prompts(task.name, group) for task in study.protocol.tasks]


def _outputs(study: Study, group: Group) -> HeadOutputs:
    """Head outputs of as many prompts of each task as are clustered, or as there are."""
    prompts = _prompts(study, group)
    return head_outputs(study.model, prompts, min(study.protocol.clustered, *(len(each) for each in prompts)))


@dataclass(frozen=True)
class ClusteringCell(Cell[Study]):
    """The clustering scores of every head, in the first group."""

    def title(self, study: Study) -> str:
        return f"clustering of heads, {study.protocol.groups[0].name}"

    def needs(self, study: Study) -> Sequence[Cell[Study]]:
        return (study.statistics_cell(study.protocol.groups[0]),)

    def key(self, study: Study) -> dict[str, Any]:
        group = study.protocol.groups[0]
        drawn = [[each.origin, len(each)] for each in _prompts(study, group)]
        settings = {"prompts": study.protocol.clustered, "of": drawn, "settings": study.protocol.settings}
        return {"cell": "clustering", **settings, **study.origin(group)}

    def compute(self, study: Study) -> list[dict[str, Any]]:
        group = study.protocol.groups[0]
        scores = head_taskness(taskness(study.statistics(group)))
        return [vars(each) for each in cluster_heads(_outputs(study, group), scores)]


def clusterings(study: Study) -> list[HeadClustering]:
    """Every head's scores in the first group."""
    return [HeadClustering(**each) for each in ClusteringCell().value(study)]


def cells_2(study: Study) -> Sequence[Cell[Study]]:
    """Of Table 2."""
    return [ClusteringCell()] if len(study.protocol.tasks) > 1 else []


def cells_of_figure_2(study: Study) -> Sequence[Cell[Study]]:
    return ClusteringCell().needs(study)


def correlations(study: Study) -> tuple[float, float] | None:
    """Spearman's rank correlations of heads' taskness with their silhouette and Davies-Bouldin scores."""
    return rank_correlations(clusterings(study)) if len(study.protocol.tasks) > 1 else None


def table_2(study: Study) -> list[Table]:
    if len(study.protocol.tasks) < 2:
        return []
    rows = []
    for (label, head), printed in zip(clustering_table(clusterings(study)).items(), TABLE_2, strict=True):
        cells = (f"{head.taskness:.4f}", f"{head.silhouette:.4f}", f"{head.davies_bouldin:.4f}")
        rows.append(Row(f"{label}: {head.stack} {head.layer}, head {head.head}", cells, printed))
    silhouette, davies_bouldin = rank_correlations(clusterings(study))
    note = (
        "Layers and heads count from 0. Taskness is between-task over within-task variance. Over all heads, its rank "
        f"correlation is {silhouette:.2f} with the silhouette score and {davies_bouldin:.2f} with the Davies-Bouldin "
        "score, which is low where clusters are tight."
    )
    columns = (Column("Taskness"), Column("Silhouette"), Column("Davies-Bouldin"))
    return [Table("table-2", "Clustering of head outputs by task", note, columns, tuple(rows))]


def figure_2(study: Study) -> list[Picture]:
    places = next(iter(study.model.stacks.values())).places
    if len(study.protocol.tasks) < 2 or not quadrant_side(places):
        return []
    group = study.protocol.groups[0]
    scores = taskness(study.statistics(group))
    figure = analysis_figure(scores, _outputs(study, group), places)
    note = (
        "Left: taskness of every head. Right: two heads that score high and one that scores low, with the taskness "
        "of their tokens in the places of the canvas and the t-SNE of their outputs."
    )
    return [Picture("figure-2", "Taskness of heads and tokens", note, figure)]
