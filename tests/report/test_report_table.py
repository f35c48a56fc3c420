import json
from dataclasses import asdict, replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from taskvec.metrics import IOU, MSE
from taskvec.report.outcomes import METHODS, Outcome
from taskvec.report.table import TABLE_WIDTH, results_json, results_table, span, verdicts_text, winners


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
            score = task.intervals[method]
            assert f" {score.mean:.3f}" in text
            assert f"{score.low:.3f}\N{EN DASH}{score.high:.3f}" in text
    assert text.count("of 24") == 3
    assert "123 queries" in text


def test_prompts_are_told_from_the_pairs_that_they_are_drawn_of(outcome: Outcome):
    data = {**outcome.data, "judged on": {"data": "folder", "split": "test", "examples": 12}}
    own = replace(outcome, tasks=[replace(outcome.tasks[0], task="lungs")], data=data)
    assert own.counted == "123 queries"
    assert replace(own, queries=12).counted == "123 prompts drawn from the 12 pairs kept aside"
    assert replace(own, queries=12, tasks=outcome.tasks[:1]).counted == "123 prompts with 12 queries"


def test_the_one_thing_that_limits_the_queries_is_named(outcome: Outcome):
    """The judged pairs, or how many queries were asked for; which may be of too few groups, too."""
    undecided = replace(outcome.tasks[0], scores={**outcome.tasks[0].scores, "task_vectors": _far_apart(0.5)})
    few = replace(undecided, groups=["a"] * 60 + ["b"] * 63)
    folder = {"data": "folder", "split": "test", "examples": 12}
    data = {**outcome.data, "judged on": folder}
    of_all = replace(outcome, tasks=[undecided, few], data=data, queries=12)
    assert of_all.advice(undecided)[0] == "Bring more pairs: all 12 that are kept aside judge already."
    assert of_all.advice(few) == ("Bring more pairs: a fifth of them is kept aside to judge by, so it takes 25.",)
    of_some = replace(of_all, data={**outcome.data, "judged on": {**folder, "examples": 300}}, queries=123)
    for task in (undecided, few):
        assert of_some.advice(task)[0] == "Judge by more queries: --queries 246 or more."
    shipped = replace(of_all, data={**outcome.data, "judged on": {"data": "pictures", "split": "test"}}, queries=6)
    assert shipped.advice(undecided)[0].startswith("Bring more pairs: all 6 ")
    for told in (of_all, of_some):
        assert not any("where that is what limits them" in advice for advice in told.advice(undecided))


def test_another_model_is_named_where_it_may_help(outcome: Outcome):
    nothing = replace(outcome.tasks[0], scores={**outcome.tasks[0].scores, "task_vectors": _far_apart(0.1)})
    small = "Try --model small, which is for photographs: this is tiny, which is for drawn scenes."
    tiny = replace(outcome, tasks=[nothing], model={"name": "tiny", **outcome.model})
    assert small in tiny.advice(nothing)
    assert small not in tiny.advice(replace(nothing, scores=outcome.tasks[0].scores))  # which are better
    scenes = replace(tiny, data={**tiny.data, "judged on": {"data": "scenes"}})
    assert small not in scenes.advice(nothing)
    for name in ("small", "seggpt"):
        assert small not in replace(tiny, model={"name": name}).advice(nothing)


def _far_apart(mean: float) -> np.ndarray:
    return mean + np.random.default_rng(1).choice([-0.4, 0.4], 123)


def test_names_are_not_markup(outcome: Outcome):
    outcome = replace(outcome, tasks=[replace(outcome.tasks[0], task="[bold]x[/]")])
    assert "[bold]x[/]" in printed(outcome)


def test_the_better_score_is_bold(outcome: Outcome):
    text = printed(outcome, styled=True)
    bold = [mean for mean in ("0.511", "0.533", "0.311", "0.333", "0.966") if f"\x1b[1m{mean}" in text]
    assert bold == ["0.533", "0.311"]


@pytest.mark.parametrize(("metric", "best"), [(IOU, {"task_vectors"}), (MSE, {"query_only"})])
def test_the_winner_depends_on_the_metric(outcome: Outcome, metric, best: set[str]):
    assert winners(replace(outcome.tasks[0], metric=metric)) == best


def test_equal_scores_both_win(outcome: Outcome):
    task = outcome.tasks[0]
    scores = {**task.scores, "one_shot": task.scores["task_vectors"]}
    assert winners(replace(task, scores=scores)) == {"one_shot", "task_vectors"}


def test_copying_may_be_the_best(outcome: Outcome):
    task = outcome.tasks[1]
    scores = {**task.scores, "copy_input": np.zeros(123)}
    assert winners(replace(task, scores=scores)) == {"copy_input"}


def test_what_task_vectors_are_beside_each_method_is_in_its_column(outcome: Outcome):
    lines = [line.split() for line in printed(outcome).splitlines()]
    beside = ["vectors", "are"]
    assert [*beside, *["better"] * 6] in lines  # segmentation: than one-shot, .533 to .511, and the rest
    assert [*beside, "worse", *["better"] * 5] in lines


def test_intervals_of_too_few_queries_are_not_shown(outcome: Outcome):
    few = [replace(task, groups=["a"] * 60 + ["b"] * 63) for task in outcome.tasks]
    text = printed(replace(outcome, tasks=few))
    assert text.count("too few") == 2 * len(METHODS)
    assert "\N{EN DASH}" not in text
    assert "vectors are" not in [line.strip()[:11] for line in text.splitlines()]
    assert "no intervals, for which 5 or more independent images are needed" in " ".join(text.split())


def test_scores_with_the_likeliest_codes_are_in_a_line_of_their_own(outcome: Outcome):
    lines = [line.split() for line in printed(outcome).splitlines()]
    assert ["(0.501)", "(0.112)", "(0.523)"] in lines
    assert "in brackets, with the likeliest codes" in " ".join(printed(outcome).split())
    papers = replace(outcome, tasks=[replace(each, likeliest={}, decodings={}) for each in outcome.tasks])
    assert "(0." not in printed(papers)
    assert "likeliest" not in printed(papers)


def test_the_terminal_says_what_follows(outcome: Outcome):
    text = verdicts_text(outcome).plain
    for task in outcome.tasks:
        assert f"{task.task}: {task.judgement.headline}\n" in text + "\n"
        assert all(f"  - {advice}" in text for advice in task.judgement.advice)


def test_intervals_hold_only_what_a_score_can_be(outcome: Outcome):
    task = replace(outcome.tasks[0], groups=["a"] * 123)
    assert (task.intervals["one_shot"].low, task.intervals["one_shot"].high) == (0, 1)
    task = replace(outcome.tasks[1], groups=["a"] * 123)
    assert (task.intervals["one_shot"].low, task.intervals["one_shot"].high) == (0, float("inf"))
    assert span(task.intervals["one_shot"]) == "too few"
    written = json.dumps(results_json(replace(outcome, tasks=[task])), allow_nan=False)
    assert json.loads(written)["tasks"][task.task]["one_shot"]["high"] is None


def test_the_json_has_the_numbers_and_what_follows(outcome: Outcome):
    results = results_json(outcome)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert results.keys() == {"tasks", "model", "pairs", "queries", "data", "seconds", "machine", "versions"}
    assert (results["pairs"], results["queries"], results["seconds"]) == (123, 123, 200.4)
    for task in outcome.tasks:
        written = results["tasks"][task.task]
        assert written.keys() == {"metric", *METHODS, "judgement", "task_vectors_against", "sites", "of"} | {
            "decodings",
            "likeliest",
            "curve",
            "enough_sites",
            "harmful_sites",
        }
        assert {method: written[method] for method in METHODS} == {
            method: asdict(each) for method, each in task.intervals.items()
        }
        assert written["judgement"]["headline"] == task.judgement.headline
        decoding = {"kind": "expected", "temperature": 1.5, "level": None}
        assert written["decodings"] == dict.fromkeys(("one_shot", "query_only", "task_vectors"), decoding)
        assert written["likeliest"].keys() == written["decodings"].keys()
        for method, each in written["likeliest"].items():
            assert each["mean"] == pytest.approx(written[method]["mean"] - 0.01)
        assert written["task_vectors_against"].keys() == {
            *("one_shot", "several", "query_only", "random", "copy_input", "constant")
        }
    better, worse = (results["tasks"][task.task]["task_vectors_against"]["one_shot"] for task in outcome.tasks)
    assert (better["gain"]["mean"], worse["gain"]["mean"]) == (pytest.approx(0.022), pytest.approx(-0.022))
    assert (better["relation"], better["verdict"], better["reverse"]) == ("better", "better", "worse")
    assert (worse["relation"], worse["verdict"], worse["reverse"]) == ("worse", "worse", "better")
    assert (better["allowed"], worse["allowed"]) == (0.02, pytest.approx(0.05 * 0.311))


def test_how_many_sites_are_enough(outcome: Outcome):
    """By the metric's margin: 0.02 of IoU, 5 % of an error."""
    iou, mse = outcome.tasks
    assert iou.fewest is None
    assert replace(iou, curve=((1, -0.5), (2, -0.579), (4, -0.581), (8, -0.6))).fewest == 4
    assert replace(mse, curve=((1, 0.3), (2, 0.106), (4, 0.104), (8, 0.1))).fewest == 4
    task = replace(iou, curve=((1, -0.5), (2, -0.6)), harmful=iou.sites[:1])
    assert "enough: 2" in printed(replace(outcome, tasks=[task]))
    assert "enough" not in printed(outcome)
    written = results_json(replace(outcome, tasks=[task]))["tasks"][task.task]
    assert written["curve"] == [{"sites": 1, "validation_loss": -0.5}, {"sites": 2, "validation_loss": -0.6}]
    assert written["harmful_sites"] == [asdict(iou.sites[0])]


def test_every_pair_is_a_record(outcome: Outcome):
    task = outcome.tasks[0]
    assert len(task.pairs) == 123
    assert task.pairs[1]["support"] == "query 121"
    assert task.pairs[1]["query"] == "query 1"
    assert [task.pairs[1][method] for method in METHODS] == [task.scores[method][1] for method in METHODS]
