import json
from dataclasses import asdict, replace
from io import StringIO

import pytest
from rich.console import Console

from taskvec.evaluate import Interval
from taskvec.report.outcomes import METHODS, Outcome
from taskvec.report.table import TABLE_WIDTH, matches_one_shot, results_json, results_table, winners


def printed(outcome: Outcome, *, styled: bool = False) -> str:
    console = Console(width=TABLE_WIDTH, file=StringIO(), record=True, force_terminal=styled)
    console.print(results_table(outcome))
    return console.export_text(styles=styled)


def test_the_terminal_has_every_number_in_its_columns(outcome: Outcome):
    outcome = replace(outcome, tasks=[*outcome.tasks, replace(outcome.tasks[1], task="a_name_that_is_too_long")])
    text = printed(outcome)
    assert max(map(len, text.splitlines())) <= TABLE_WIDTH
    assert "…" not in text
    for task in outcome.tasks[:2]:
        assert task.task in text
        for method in METHODS:
            score = task.scores[method]
            assert f" {score.mean:.3f}" in text
            assert f"{score.low:.3f}\N{EN DASH}{score.high:.3f}" in text
    assert text.count("of 24") == 3
    assert "123 queries" in text


def test_names_are_not_markup(outcome: Outcome):
    outcome = replace(outcome, tasks=[replace(outcome.tasks[0], task="[bold]x[/]")])
    assert "[bold]x[/]" in printed(outcome)


def test_the_better_score_is_bold(outcome: Outcome):
    text = printed(outcome, styled=True)
    bold = [mean for mean in ("0.511", "0.533", "0.311", "0.333", "0.966") if f"\x1b[1m{mean}" in text]
    assert bold == ["0.533", "0.311"]


@pytest.mark.parametrize(("metric", "best"), [("iou", {"task_vectors"}), ("mse", {"one_shot"})])
def test_the_winner_depends_on_the_metric(outcome: Outcome, metric, best: set[str]):
    assert winners(replace(outcome.tasks[0], metric=metric)) == best


def test_equal_scores_both_win(outcome: Outcome):
    task = outcome.tasks[0]
    scores = {**task.scores, "one_shot": Interval(task.scores["task_vectors"].mean, 0.1, 0.9)}
    assert winners(replace(task, scores=scores)) == {"one_shot", "task_vectors"}


@pytest.mark.parametrize(
    ("metric", "mean", "matches"),
    [("iou", 0.41, True), ("iou", 0.39, False), ("iou", 0.9, True), ("mse", 0.59, True), ("mse", 0.61, False)],
)
def test_matching_one_shot_is_its_interval_or_better(outcome: Outcome, metric, mean: float, matches: bool):
    scores = {"one_shot": Interval(0.5, 0.4, 0.6), "task_vectors": Interval(mean, 0, 1)}
    assert matches_one_shot(replace(outcome.tasks[0], metric=metric, scores=scores)) == matches


def test_the_json_is_exactly_this(outcome: Outcome):
    tasks = {
        task.task: {
            "metric": task.metric,
            "one_shot": asdict(task.scores["one_shot"]),
            "query_only": asdict(task.scores["query_only"]),
            "task_vectors": asdict(task.scores["task_vectors"]),
            "random": asdict(task.scores["random"]),
            "copy_input": asdict(task.scores["copy_input"]),
            "ceiling": asdict(task.scores["ceiling"]),
            "sites": 3,
            "of": 24,
        }
        for task in outcome.tasks
    }
    expected = {
        "tasks": tasks,
        "pairs": 123,
        "queries": 123,
        "seconds": 200.4,
        "data": {"found on": {"data": "scenes"}, "judged on": {"data": "folder", "root": "a<b>"}},
        "machine": {"processor": "abacus", "cores": 2},
        "versions": {"python": "3.11.0"},
    }
    assert results_json(outcome) == expected
    assert json.loads(json.dumps(results_json(outcome))) == expected
    assert set(tasks["segmentation"]["one_shot"]) == {"mean", "low", "high"}
