"""Tables 4 and 7: sites that are single tokens, quadrants, whole heads, and, beyond the paper, whole layers."""

from collections.abc import Sequence

from taskvec.experiments.cells import Cell
from taskvec.experiments.layout import group_table, method_cells, method_table
from taskvec.experiments.paper import TABLE_4, TABLE_7
from taskvec.experiments.study import Study
from taskvec.results import Table

ROWS = (*list(TABLE_4)[:3], "vectors_layer", *list(TABLE_4)[3:])


def cells_4(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, ROWS)


def table_4(study: Study) -> list[Table]:
    """Table 4, and table 7, which is the same by split."""
    counts = {
        granularity: len(study.model.sites(granularity)) for granularity in ("token", "quadrant", "head", "layer")
    }
    sizes = ", ".join(f"{count:,} {name}s" for name, count in counts.items())
    note = f"Sites to choose from: {sizes}. Layers are not in the paper's table."
    title = "Granularity of the patched sites"
    return [
        method_table(study, "table-4", title, note, ROWS, TABLE_4),
        group_table(study, "table-7", f"{title}, group by group", "Means with 95 % intervals.", ROWS, paper=TABLE_7),
    ]
