"""The results as a table for the terminal and as data, and the words and number formats that every output shares."""

from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from taskvec.evaluate import Interval
from taskvec.report.outcomes import METHODS, Outcome, TaskOutcome
from taskvec.tasks import Metric

METHOD_LABELS = {
    "one_shot": "one-shot",
    "query_only": "query only",
    "task_vectors": "task vectors",
    "random": "random sites",
    "copy_input": "copy input",
    "ceiling": "ceiling",
}
METRIC_LABELS: dict[Metric, str] = {"iou": "IoU", "mse": "MSE"}
BETTER: dict[Metric, str] = {"iou": "higher is better", "mse": "lower is better"}
CONTENDERS = ("one_shot", "task_vectors")
TABLE_WIDTH = 104  # columns


def number(value: float) -> str:
    """A score with three decimals."""
    return f"{value:.3f}"


def span(interval: Interval) -> str:
    """The ends of an interval, such as 0.393-0.431 with an en dash."""
    return f"{number(interval.low)}\N{EN DASH}{number(interval.high)}"


def winners(task: TaskOutcome) -> frozenset[str]:
    """Which of one-shot prompting and task vectors has the better mean; both where they are equal."""
    means = {method: task.scores[method].mean for method in CONTENDERS}
    best = max(means.values()) if task.metric == "iou" else min(means.values())
    return frozenset(method for method, mean in means.items() if mean == best)


def matches_one_shot(task: TaskOutcome) -> bool:
    """Whether task vectors' mean is inside one-shot prompting's interval or beyond its better end."""
    vectors, one_shot = task.scores["task_vectors"].mean, task.scores["one_shot"]
    return vectors >= one_shot.low if task.metric == "iou" else vectors <= one_shot.high


def results_table(outcome: Outcome) -> Table:
    """A row for every task, TABLE_WIDTH columns wide: means over 95 % intervals, bold as ``winners`` says."""
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"means over {outcome.counted}, below them 95 % intervals",
        caption_justify="left",
    )
    table.add_column("task", overflow="fold", min_width=12)
    for method in METHODS:
        table.add_column(METHOD_LABELS[method], justify="right", width=11)
    table.add_column("sites", justify="right")
    for task in outcome.tasks:
        better = winners(task)
        scores = [_cell(task.scores[method], method in better) for method in METHODS]
        arrow = "\N{UPWARDS ARROW}" if task.metric == "iou" else "\N{DOWNWARDS ARROW}"
        name = Text.assemble(f"{task.task}\n", (f"{METRIC_LABELS[task.metric]} {arrow}", "dim"))
        table.add_row(name, *scores, Text.assemble(f"{len(task.sites):,}\n", (f"of {task.of:,}", "dim")))
    return table


def _cell(interval: Interval, best: bool) -> Text:
    return Text.assemble((number(interval.mean), "bold" if best else ""), "\n", (span(interval), "dim"))


def results_json(outcome: Outcome) -> dict[str, Any]:
    """The results as data for JSON. ``sites`` of the ``of`` searched were chosen; ``seconds`` is the whole run."""
    return {
        "tasks": {task.task: _task_json(task) for task in outcome.tasks},
        "pairs": outcome.pairs,
        "queries": outcome.queries,
        "data": outcome.data,
        "seconds": outcome.seconds,
        "machine": outcome.machine,
        "versions": outcome.versions,
    }


def _task_json(task: TaskOutcome) -> dict[str, Any]:
    scores = {method: asdict(task.scores[method]) for method in METHODS}
    return {"metric": task.metric, **scores, "sites": len(task.sites), "of": task.of}
