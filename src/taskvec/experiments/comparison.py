"""Tables 1, 3 and 6: one-shot prompting, task vectors and every baseline, at every task."""

from collections.abc import Sequence

from taskvec.experiments.cells import Cell
from taskvec.experiments.evidence import OPPONENTS
from taskvec.experiments.layout import group_table, method_cells, method_table
from taskvec.experiments.paper import TABLE_3, TABLE_6
from taskvec.experiments.study import Study
from taskvec.results import Table

ROWS_1 = ("one_shot", "random", "top", "cma", "cma_multi", "vectors_multi", "vectors")
BOUNDS = ("query_only", "copy_input", "reconstruction")  # not in the paper: what the numbers lie between
ROWS_3 = (
    "one_shot",
    "random",
    "random_multi",
    "greedy_random_layers",
    "top",
    "cma",
    "cma_multi",
    "greedy",
    "greedy_multi",
    "vectors_multi",
    "vectors",
    *OPPONENTS,
    *BOUNDS,
)


REDECODED = ("one_shot", "vectors", "query_only")


def cells_1(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, ROWS_1, likeliest=REDECODED)


def cells_3(study: Study) -> Sequence[Cell[Study]]:
    return method_cells(study, ROWS_3, likeliest=REDECODED)


def table_1(study: Study) -> list[Table]:
    note = "Random and top quadrants are as many as the task vectors' own."
    title = "One-shot prompting, task vectors, baselines"
    return [method_table(study, "table-1", title, note, ROWS_1, TABLE_3, REDECODED)]


def table_3(study: Study) -> list[Table]:
    """Table 3, and table 6, which is the same by split."""
    note = (
        "Not in the paper: four stronger prompts than a support at random, the query alone, the input as "
        "the answer, and the tokenizer's reconstruction of the truth, which is the best that single codes can say."
    )
    title = "All methods"
    return [
        method_table(study, "table-3", title, note, ROWS_3, TABLE_3, REDECODED),
        group_table(study, "table-6", f"{title}, group by group", "Means with 95 % intervals.", ROWS_3, paper=TABLE_6),
    ]
