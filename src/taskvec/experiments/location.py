"""Table 5: task vectors in the encoder only, in the decoder only, and in both."""

from collections.abc import Sequence

from taskvec.experiments.cells import Cell
from taskvec.experiments.layout import group_table, method_cells
from taskvec.experiments.paper import TABLE_5
from taskvec.experiments.study import Study
from taskvec.results import Table


def cells_5(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, tuple(TABLE_5), ["segmentation"])


def table_5(study: Study) -> list[Table]:
    if "segmentation" not in study.task_names:
        return []
    note = "Task-specific sites, restricted to one stack or not. Means with 95 % intervals."
    title = "Task vectors in the encoder, the decoder, or both"
    return [group_table(study, "table-5", title, note, tuple(TABLE_5), ["segmentation"], TABLE_5)]
