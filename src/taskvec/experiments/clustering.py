"""Table 2 and Figure 2: the scores of heads, and whether their outputs cluster by task."""

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
from taskvec.experiments.paper import TABLE_2
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.report.analysis_figures import analysis_figure, quadrant_side
from taskvec.results import Column, Picture, Row, Table


def _outputs(study: Study, group: Group) -> HeadOutputs:
    """Head outputs of as many prompts of each task as are clustered, or as there are."""
    prompts = [study.prompts(task, group) for task in study.protocol.tasks]
    return head_outputs(study.model, prompts, min(study.protocol.clustered, *(len(each) for each in prompts)))


def clusterings(study: Study) -> list[HeadClustering]:
    """Every head's scores in the first group."""
    group = study.protocol.groups[0]

    def compute() -> list[dict[str, Any]]:
        scores = head_taskness(taskness(study.statistics(group)))
        return [vars(each) for each in cluster_heads(_outputs(study, group), scores)]

    drawn = [[each.origin, len(each)] for each in (study.prompts(task, group) for task in study.protocol.tasks)]
    settings = {"prompts": study.protocol.clustered, "of": drawn, "settings": study.protocol.settings}
    key = {"cell": "clustering", **settings}
    return [HeadClustering(**each) for each in study.cell("clustering of heads", key, group, compute)]


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
