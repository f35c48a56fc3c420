"""Table 9: whether an example in the prompt helps, once task vectors are patched."""

from taskvec.experiments.layout import method_table
from taskvec.experiments.paper import TABLE_9
from taskvec.experiments.study import Study
from taskvec.results import Table


def table_9(study: Study) -> list[Table]:
    note = "The same task-specific vectors at the same canvas tokens, with the query alone and with a whole prompt."
    return [method_table(study, "table-9", "Task vectors with and without an example", note, tuple(TABLE_9), TABLE_9)]
