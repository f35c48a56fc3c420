"""Table 5: task vectors in the encoder only, in the decoder only, and in both."""

from taskvec.experiments.layout import group_table
from taskvec.experiments.paper import TABLE_5
from taskvec.experiments.results import Row, Table
from taskvec.experiments.study import Study


def table_5(study: Study) -> list[Table]:
    if "segmentation" not in study.task_names:
        return []
    note = "Task-specific sites, restricted to one stack or not. Means with 95 % intervals."
    title = "Task vectors in the encoder, the decoder, or both"
    return [
        with_paper(
            group_table(study, "table-5", title, note, tuple(TABLE_5), ["segmentation"]), tuple(TABLE_5.values())
        )
    ]


def with_paper(table: Table, paper: tuple[tuple[str, ...], ...]) -> Table:
    """The paper's number beside each cell, where the columns are the paper's four splits."""
    if len(table.columns) != len(paper[0]) or not all("split" in column.label for column in table.columns):
        return table
    rows = tuple(Row(row.label, row.cells, printed) for row, printed in zip(table.rows, paper, strict=True))
    return Table(table.name, table.title, table.note, table.columns, rows)
