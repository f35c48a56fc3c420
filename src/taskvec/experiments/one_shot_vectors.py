"""Table 9: whether an example in the prompt helps, once task vectors are patched."""

from collections.abc import Sequence

from taskvec.experiments.cells import Cell
from taskvec.experiments.layout import method_cells, method_table
from taskvec.experiments.paper import TABLE_9
from taskvec.experiments.study import Study
from taskvec.results import Table


def cells_9(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, tuple(TABLE_9))


def table_9(study: Study) -> list[Table]:
    note = "The same task-specific vectors at the same canvas tokens, with the query alone and with a whole prompt."
    return [method_table(study, "table-9", "Task vectors with and without an example", note, tuple(TABLE_9), TABLE_9)]
