"""What is said of made-up scores: one situation after another, by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvec.metrics import IOU, METRICS, MSE, TOP1, Metric
from taskvec.report.verdicts import BASELINES, Judgement, compare, judge, number

GOOD = {
    "one_shot": 0.8,
    "query_only": 0.2,
    "task_vectors": 0.8,
    "random": 0.3,
    "copy_input": 0.1,
    "constant": 0.15,
    "reconstruction": 0.95,
}
MASKS = "If the outputs are masks, score them so: --metric iou."


def scores(metric: Metric = IOU, count: int = 40, spread: float = 0.02, **means: float) -> dict[str, Any]:
    """Of every method scores about its mean, which they have exactly; of errors one minus those of GOOD by default."""
    random = np.random.default_rng(0)
    usual = GOOD if metric is IOU else {method: 1 - mean for method, mean in GOOD.items()}
    made = {}
    for method, mean in {**usual, **means}.items():
        noise = (spread if mean else 0) * random.standard_normal(count)
        made[method] = mean + noise - noise.mean()
    return made


def said(metric: Metric = IOU, **options: Any) -> Judgement:
    return judge(metric, scores(metric, **options))


def test_as_well_as_an_example() -> None:
    judgement = said(one_shot=0.805)
    assert (judgement.kind, judgement.notes, judgement.advice) == ("as well", (), ())
    assert judgement.headline == "Task vectors (IoU 0.800) do as well as an example in the prompt (0.805)."
    judgement = said(MSE, one_shot=0.195, spread=0.005)
    assert judgement.headline == "Task vectors (MSE 0.200) do as well as an example in the prompt (0.195)."


def test_better_than_an_example() -> None:
    judgement = said(one_shot=0.7)
    assert judgement.headline == "Task vectors (IoU 0.800) do better than an example in the prompt (0.700)."
    assert said(MSE, one_shot=0.3).kind == "better"


def test_better_by_less_than_matters_is_as_well() -> None:
    judgement = said(one_shot=0.79, spread=0.001)
    assert judgement.comparisons["one_shot"].verdict == "better"
    assert judgement.kind == "as well"


def test_less_well_than_an_example() -> None:
    judgement = said(one_shot=0.9)
    assert judgement.kind == "less well"
    assert judgement.headline == (
        "Task vectors help (IoU 0.800, the query alone 0.200), but less than an example in the prompt (0.900)."
    )
    assert judgement.advice == ("Search longer (--steps 100, or --preset paper), or bring more pairs.",)


def test_several_examples_that_do_better_are_told() -> None:
    """Where one does not, which the headline would tell."""
    judgement = said(several=0.9)
    assert judgement.kind == "as well"
    assert judgement.notes == ("The mean of five examples (0.900) does better than task vectors (IoU 0.800).",)
    assert judgement.comparisons["several"].relation == "worse"
    assert said(several=0.805).notes == ()
    assert said(several=0.9, one_shot=0.9).notes == ()


def test_what_the_queries_cannot_tell_is_not_told() -> None:
    """The same means as in 'as well', of scores that differ by far more than what matters."""
    judgement = said(one_shot=0.805, spread=0.2)
    assert judgement.kind == "undecided"
    assert judgement.headline.endswith("; whether as much as an example in the prompt (0.805) cannot be told.")
    assert judgement.advice[0].startswith("Judge by more queries")


def test_copying_the_input_is_told_first() -> None:
    judgement = said(MSE, copy_input=0.0, reconstruction=0.15, spread=0.001)
    assert judgement.kind == "copying"
    assert judgement.headline == (
        "Copying the input (0.000) does better than task vectors (MSE 0.200), though these do as well as an example in "
        "the prompt (0.200)."
    )
    assert judgement.notes == (
        "Even the right codes (0.150), the true output through the model's tokenizer and back, are further from it "
        "than the input is (0.000).",
    )
    assert MASKS in judgement.advice
    judgement = said(copy_input=0.81, one_shot=0.9)
    assert judgement.headline == "Copying the input (0.810) does as well as task vectors (IoU 0.800)."
    assert judgement.notes == ()
    assert MASKS not in judgement.advice


def test_one_answer_to_every_query() -> None:
    """Means over ten x-rays, once reported as better than an example in the prompt."""
    judgement = said(query_only=0.2, one_shot=0.533, task_vectors=0.576, constant=0.69)
    assert judgement.kind == "ignoring"
    assert judgement.headline == (
        "Answering every query with the mean output (0.690) does better than task vectors (IoU 0.576), though these do "
        "better than an example in the prompt (0.533)."
    )
    assert "looks at no query" in judgement.advice[0]
    assert "Try another model" in judgement.advice[2]
    copied = said(copy_input=0.81, constant=0.82)
    assert copied.kind == "copying"
    assert copied.notes == (
        "Answering every query with the mean output (0.820) does better than task vectors (IoU 0.800).",
    )
    words = {**{name: 1 - mean for name, mean in GOOD.items()}, "constant": 0.9, "task_vectors": 0.8, "query_only": 0.2}
    del words["copy_input"], words["reconstruction"]
    rows = {name: (np.arange(400) % 100 < 100 * mean).astype(float) for name, mean in words.items()}
    assert judge(TOP1, rows).headline.startswith("Answering every query with the commonest output (0.900) does better")


def test_a_newcomers_task() -> None:
    """The query alone .834, copying .983, task vectors .710, once reported as a success."""
    means: dict[str, Any] = {
        "query_only": 0.834,
        "copy_input": 0.983,
        "task_vectors": 0.71,
        "one_shot": 0.72,
        "reconstruction": 0.9,
    }
    judgement = said(**means)
    assert judgement.kind == "nothing learnt"
    assert judgement.headline == (
        "Nothing was learnt: the query alone (0.834) does better than task vectors (IoU 0.710)."
    )
    assert judgement.notes[:2] == (
        "Copying the input (0.983) does better than task vectors (IoU 0.710).",
        "An example in the prompt (0.720) does not help this model either: the query alone has 0.834.",
    )
    assert "Try another model" in judgement.advice[1]
    judgement = said(**means, count=3)
    assert judgement.headline == "Too few queries to tell: 3 independent queries were judged, it takes 5 or more."
    assert judgement.notes == ("Among these few, copying the input is ahead: 0.983, task vectors 0.710.",)
    assert "so it takes 25." in judgement.advice[0]


@pytest.mark.parametrize(
    ("means", "who"),
    [
        ({"query_only": 0.8}, "the query alone (0.800) does as well as"),
        ({"random": 0.8}, "patching as many random sites (0.800) does as well as"),
        ({"random": 0.85}, "patching as many random sites (0.850) does better than"),
    ],
)
def test_nothing_was_learnt(means: dict[str, Any], who: str) -> None:
    judgement = said(**means)
    assert judgement.headline == f"Nothing was learnt: {who} task vectors (IoU 0.800)."
    assert judgement.advice[0].startswith("Look at the pictures in the report")


def test_whether_anything_was_learnt_may_be_open() -> None:
    judgement = said(query_only=0.76, one_shot=0.76, spread=0.3, count=12)
    assert judgement.kind == "cannot tell"
    assert judgement.headline == (
        "It cannot be told whether anything was learnt: task vectors (IoU 0.800) are not shown to be better than the "
        "query alone (0.760)."
    )
    assert judgement.notes == (
        "An example in the prompt (0.760) is not shown to help this model: the query alone has 0.760.",
    )


def test_an_example_that_does_not_help_is_told() -> None:
    judgement = said(one_shot=0.2)
    assert judgement.kind == "better"
    assert judgement.notes == ("An example in the prompt (0.200) does not help this model: the query alone has 0.200.",)


@pytest.mark.parametrize("metric", METRICS.values())
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_exact_ties_are_ties(metric: Metric, value: float) -> None:
    means: dict[str, Any] = dict.fromkeys(GOOD, value)
    judgement = said(metric, spread=0.0, **means)
    assert {comparison.relation for comparison in judgement.comparisons.values()} == {"as good"}
    assert judgement.kind == "nothing learnt"


def test_queries_that_hang_together_count_once() -> None:
    groups = [index // 10 for index in range(40)]
    judgement = judge(IOU, scores(), groups)
    assert judgement.headline.startswith("Too few queries to tell: 4 independent queries were judged")
    assert judge(IOU, scores(count=4), [0] * 4).headline.startswith("Too few queries to tell: 1 independent query was")


@given(st.sampled_from(list(METRICS.values())), st.integers(2, 12), st.integers(0, 1000))
def test_two_sides_of_a_comparison_agree(metric: Metric, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.random((2, count)) * random.choice([0.01, 1])
    opposite = {"better": "worse", "not worse": "not better"}
    opposite |= {value: name for name, value in opposite.items()}
    one, other = compare(metric, first, second), compare(metric, second, first)
    assert (one.verdict, one.reverse) == (other.reverse, other.verdict)
    assert one.relation == opposite.get(other.relation, other.relation)
    assert (one.relation == "too few") == (count < 5)


@given(st.sampled_from(list(METRICS.values())), st.integers(1, 30), st.integers(0, 1000))
def test_nothing_does_as_well_without_the_test(metric: Metric, count: int, seed: int) -> None:
    """Whatever the scores: the words follow from the comparisons."""
    random = np.random.default_rng(seed)
    made = {method: random.random() + 0.1 * random.standard_normal(count) for method in GOOD}
    judgement = judge(metric, made)
    relation = {other: judgement.comparisons[other].relation for other in BASELINES}
    learnt = relation["query_only"] == relation["random"] == "better"
    if judgement.kind in ("better", "as well"):
        assert learnt
        assert relation["one_shot"] in ("better", "as good", "not worse")
        assert relation["copy_input"] not in ("as good", "not better", "worse")
    if "Task vectors" in judgement.headline:
        assert learnt
    assert (judgement.kind == "too few") == (count < 5)
    assert judgement.headline.endswith(".")
    assert judgement.headline.count("\n") == 0


def test_large_errors_take_no_more_room() -> None:
    assert [number(value) for value in (0.1234, 9.9994, 9.9996, 15.412, 99.996, 312.34)] == [
        "0.123",
        "9.999",
        "10.00",
        "15.41",
        "100.0",
        "312.3",
    ]


def test_of_texts_nothing_is_said_of_pictures() -> None:
    """Nor of a copy of the input, which is no answer."""
    made = scores(TOP1, one_shot=0.9, query_only=0.2, task_vectors=0.2, random=0.2)
    made = {method: made[method] for method in ("one_shot", "query_only", "task_vectors", "random")}
    judgement = judge(TOP1, made)
    assert judgement.comparisons.keys() == made.keys() - {"task_vectors"}
    assert judgement.kind == "nothing learnt"
    said_of_it = " ".join([judgement.headline, *judgement.notes, *judgement.advice])
    assert "answers in the report" in said_of_it
    assert not any(word in said_of_it for word in ("picture", "photograph", "mask"))
    helped = judge(TOP1, {**made, "task_vectors": made["one_shot"] + 0.0})
    assert helped.headline == "Task vectors (top-1 0.900) do as well as a prompt with examples (0.900)."
