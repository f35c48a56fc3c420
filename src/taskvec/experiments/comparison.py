"""Tables 1, 3 and 6: one-shot prompting, task vectors and every baseline, at every task."""

from taskvec.experiments.layout import group_table, method_table
from taskvec.experiments.results import Table
from taskvec.experiments.study import Study

# Mean and standard deviation over splits as Table 3 prints them: segmentation, low light, colorization, in-painting.
PAPER = {
    "one_shot": ("0.338 ± 0.033", "0.685 ± 0.032", "0.618 ± 0.027", "0.550 ± 0.042"),
    "random": ("0.170 ± 0.061", "3.000 ± 0.967", "3.025 ± 1.190", "2.350 ± 0.955"),
    "greedy_random_layers": ("0.090 ± 0.007", "1.825 ± 0.043", "0.568 ± 0.022", "0.875 ± 0.100"),
    "top": ("0.150 ± 0.023", "4.875 ± 0.228", "4.250 ± 0.269", "3.900 ± 0.141"),
    "cma": ("0.230 ± 0.012", "0.825 ± 0.043", "0.895 ± 0.063", "1.750 ± 0.112"),
    "cma_multi": ("0.150 ± 0.017", "1.400 ± 0.122", "1.130 ± 0.075", "1.225 ± 0.083"),
    "greedy": ("0.320 ± 0.021", "0.600 ± 0.025", "0.555 ± 0.025", "0.580 ± 0.047"),
    "greedy_multi": ("0.323 ± 0.019", "0.515 ± 0.032", "0.568 ± 0.029", "0.605 ± 0.036"),
    "vectors_multi": ("0.325 ± 0.026", "0.492 ± 0.025", "0.502 ± 0.036", "0.558 ± 0.022"),
    "vectors": ("0.353 ± 0.028", "0.458 ± 0.032", "0.453 ± 0.036", "0.480 ± 0.022"),
}
TABLE_1 = ("one_shot", "random", "top", "cma", "cma_multi", "vectors_multi", "vectors")
BOUNDS = ("query_only", "copy_input", "ceiling")  # not in the paper: what the numbers lie between
TABLE_3 = (
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
    *BOUNDS,
)


def table_1(study: Study) -> list[Table]:
    note = "Random and top quadrants are as many as the task vectors' own."
    return [method_table(study, "table-1", "One-shot prompting, task vectors, baselines", note, TABLE_1, PAPER)]


def table_3(study: Study) -> list[Table]:
    """Table 3, and table 6, which is the same by split."""
    note = (
        "The last three rows are not in the paper: the model with the query alone, the input as the answer, and the "
        "tokenizer's reconstruction of the truth, which no answer of the model can be expected to beat."
    )
    title = "All methods"
    return [
        method_table(study, "table-3", title, note, TABLE_3, PAPER),
        group_table(study, "table-6", f"{title}, group by group", "Means with 95 % intervals.", TABLE_3),
    ]
