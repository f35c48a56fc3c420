"""Table 9: whether an example in the prompt helps, once task vectors are patched."""

from taskvec.experiments.layout import method_table
from taskvec.experiments.results import Table
from taskvec.experiments.study import Study

# Table 9 lists in-painting before colorization, and 0.6 for one-shot low light, where Table 3 has 0.685.
PAPER = {
    "one_shot": ("0.338", "0.6", "0.618", "0.55"),
    "vectors": ("0.353", "0.458", "0.453", "0.480"),
    "one_shot_vectors": ("0.346", "0.496", "0.490", "0.454"),
}


def table_9(study: Study) -> list[Table]:
    note = "The same task-specific vectors at the same canvas tokens, with the query alone and with a whole prompt."
    return [method_table(study, "table-9", "Task vectors with and without an example", note, tuple(PAPER), PAPER)]
