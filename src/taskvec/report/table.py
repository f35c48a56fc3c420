"""The results as a table for the terminal and as data, and the words and number formats that every output shares."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from taskvec.files import escaped
from taskvec.intervals import Interval
from taskvec.report.outcomes import Outcome, TaskOutcome
from taskvec.report.rendering import duration
from taskvec.report.style import ARROWS
from taskvec.report.verdicts import RELATIONS, Relation, number

METHOD_LABELS = {
    "one_shot": "one-shot",
    "several": "5 examples",
    "query_only": "query only",
    "task_vectors": "task vectors",
    "random": "random sites",
    "copy_input": "copy input",
    "constant": "one answer",
    "reconstruction": "tokenizer",
}


def method_label(method: str, task: TaskOutcome) -> str:
    """What tables and figures call a method at a task."""
    return f"{task.shots}-shot" if method == "one_shot" and task.shots > 1 else METHOD_LABELS[method]


RELATION_LABELS: dict[Relation, str] = {**{name: name for name in RELATIONS}, "undecided": "can't tell"}
BESIDE = "vectors are"  # before the line of relations: better, not better, ...
TABLE_WIDTH = 120  # columns


def span(interval: Interval) -> str:
    """The ends of an interval, such as 0.393-0.431 with an en dash; words where so few groups tell nothing."""
    if interval.too_few:
        return "too few"
    return f"{number(interval.low)}\N{EN DASH}{number(interval.high)}"


def winners(task: TaskOutcome) -> frozenset[str]:
    """The methods with the best mean, but for the tokenizer's reconstruction; several where they are equal."""
    means = {method: task.intervals[method].mean for method in task.methods if method != "reconstruction"}
    best = task.metric.best(means.values())
    return frozenset(method for method, mean in means.items() if mean == best)


def results_table(outcome: Outcome) -> Table:
    """A row for every task, TABLE_WIDTH columns wide: means, intervals, what task vectors are beside each method."""
    likeliest = "; in brackets, with the likeliest codes" if outcome.tasks[0].likeliest else ""
    table = Table(
        box=SIMPLE_HEAD,
        padding=0,  # the box has a space between columns
        caption=f"Means over {outcome.counted}, the best in bold; {outcome.explained};\n"
        f"below them whether task vectors are better than each method, by the differences query by query{likeliest}.",
        caption_justify="left",
    )
    table.add_column("task", overflow="fold", min_width=12)
    for method in outcome.methods:
        table.add_column(method_label(method, outcome.tasks[0]), justify="right", width=11)
    table.add_column("sites", justify="right")
    for task in outcome.tasks:
        scores = [_cell(task, method) for method in task.methods]
        beside = BESIDE if any(_relation(task, method) for method in task.methods) else ""
        metric = f"{task.metric.label} {ARROWS[task.metric.better]}"
        name = Text.assemble(f"{escaped(task.task)}\n", (f"{metric}\n{beside}", "dim"))
        enough = "" if task.fewest is None else f"\nenough: {task.fewest:,}"
        table.add_row(name, *scores, Text.assemble(f"{len(task.sites):,}\n", (f"of {task.of:,}{enough}", "dim")))
    return table


def _cell(task: TaskOutcome, method: str) -> Text:
    score, best = task.intervals[method], method in winners(task)
    text = Text.assemble((number(score.mean), "bold" if best else ""), "\n", (span(score), "dim"))
    text.append(f"\n{_relation(task, method)}")  # a line for all, so that the next agree
    if method in task.likeliest:
        text.append(f"\n({number(task.likeliest_intervals[method].mean)})", "dim")
    return text


def _relation(task: TaskOutcome, method: str) -> str:
    """What task vectors are beside a method, "" where that is not said: beside themselves, and of too few queries."""
    compared = task.judgement.comparisons.get(method)
    return "" if compared is None or compared.relation == "too few" else RELATION_LABELS[compared.relation]


def time_told(outcome: Outcome, seconds: float) -> str:
    """How long a whole job took by the clock, and what of it was spent on finding."""
    found = sum(task.seconds for task in outcome.tasks)
    return f"{duration(seconds)} by the clock, {duration(found)} of it for statistics and search"


def verdicts_text(outcome: Outcome) -> Text:
    """What is to be said of every task, and what to try next, for the terminal."""
    lines = Text()
    for task in outcome.tasks:
        judgement = task.judgement
        lines.append(f"{escaped(task.task)}: ", "bold").append(f"{judgement.headline}\n")
        for note in judgement.notes:
            lines.append(f"  {note}\n")
        for advice in outcome.advice(task):
            lines.append(f"  - {advice}\n")
    lines.rstrip()
    return lines


def results_json(outcome: Outcome) -> dict[str, Any]:
    """The results as data for JSON. ``sites`` of the ``of`` searched were chosen; ``seconds`` is the whole run.

    ``task_vectors_against`` has the paired difference with each baseline (positive where task vectors are better), how
    much worse is still as good, the verdict of either side, and both in a word. ``decodings`` has how each method's
    answers were decoded, ``likeliest`` the means and intervals where the likeliest codes are.
    """
    return {
        "tasks": {task.task: _task_json(task, outcome.advice(task)) for task in outcome.tasks},
        "model": outcome.model,
        "pairs": outcome.pairs,
        "queries": outcome.queries,
        "data": outcome.data,
        "seconds": outcome.seconds,
        "machine": outcome.machine,
        "versions": outcome.versions,
    }


def _task_json(task: TaskOutcome, advice: Sequence[str]) -> dict[str, Any]:
    scores = {method: _finite(asdict(task.intervals[method])) for method in task.methods}
    judgement = task.judgement
    compared = {
        other: {
            "relation": comparison.relation,
            "verdict": comparison.verdict,
            "reverse": comparison.reverse,
            "gain": _finite(asdict(comparison.gain)),
            "allowed": comparison.allowed,
        }
        for other, comparison in judgement.comparisons.items()
    }
    said = {"kind": judgement.kind, "headline": judgement.headline}
    said |= {"notes": list(judgement.notes), "advice": list(advice)}
    return {
        "metric": task.metric.name,
        **scores,
        "judgement": said,
        "decodings": {method: asdict(decoding) for method, decoding in task.decodings.items()},
        "likeliest": {method: _finite(asdict(each)) for method, each in task.likeliest_intervals.items()},
        "task_vectors_against": compared,
        "sites": len(task.sites),
        "of": task.of,
        "curve": [{"sites": count, "validation_loss": loss} for count, loss in task.curve],
        "enough_sites": task.fewest,
        "harmful_sites": [asdict(site) for site in task.harmful],
    }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """With None for what JSON has no number for: the ends of an interval that does not exist."""
    return {name: None if value is not None and math.isinf(value) else value for name, value in values.items()}
