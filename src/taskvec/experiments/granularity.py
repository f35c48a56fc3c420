"""Tables 4 and 7: sites that are single tokens, quadrants, whole heads, and, beyond the paper, whole layers."""

from taskvec.experiments.layout import group_table, method_table
from taskvec.experiments.results import Table
from taskvec.experiments.study import Study

# Table 4 prints 0.338 for task-specific quadrants at segmentation, where Table 3 has 0.353.
PAPER = {
    "vectors_token": ("0.350 ± 0.025", "0.495 ± 0.036", "0.453 ± 0.036", "0.485 ± 0.018"),
    "vectors": ("0.338 ± 0.023", "0.458 ± 0.032", "0.465 ± 0.036", "0.480 ± 0.022"),
    "vectors_head": ("0.245 ± 0.015", "0.942 ± 0.070", "0.857 ± 0.069", "0.885 ± 0.067"),
    "vectors_multi_token": ("0.318 ± 0.023", "0.510 ± 0.028", "0.510 ± 0.039", "0.565 ± 0.025"),
    "vectors_multi": ("0.325 ± 0.026", "0.492 ± 0.025", "0.502 ± 0.036", "0.558 ± 0.022"),
    "vectors_multi_head": ("0.253 ± 0.013", "1.105 ± 0.064", "0.998 ± 0.069", "0.980 ± 0.082"),
}
ROWS = (*list(PAPER)[:3], "vectors_layer", *list(PAPER)[3:])


def table_4(study: Study) -> list[Table]:
    """Table 4, and table 7, which is the same by split."""
    counts = {
        granularity: len(study.model.sites(granularity)) for granularity in ("token", "quadrant", "head", "layer")
    }
    sizes = ", ".join(f"{count:,} {name}s" for name, count in counts.items())
    note = f"Sites to choose from: {sizes}. Layers are not in the paper's table."
    title = "Granularity of the patched sites"
    return [
        method_table(study, "table-4", title, note, ROWS, PAPER),
        group_table(study, "table-7", f"{title}, group by group", "Means with 95 % intervals.", ROWS),
    ]
