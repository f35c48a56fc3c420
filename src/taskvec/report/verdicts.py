"""What follows from the scores of task vectors beside those of every other way: one plain sentence, and what to try.

All methods answer the same queries, so each is compared with task vectors query by query, by the rules of
``taskvec.intervals``. Nothing is said to do as well as something else without that test.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from taskvec.intervals import FEWEST, Interval, Verdict, gain, margin, verdict
from taskvec.tasks import Metric

Scores = Mapping[str, Float[np.ndarray, " n"]]
BASELINES = ("one_shot", "query_only", "random", "copy_input")  # what task vectors are compared with

Relation = Literal["better", "as good", "not worse", "not better", "worse", "undecided", "too few"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
AT_MOST_AS_GOOD: tuple[Relation, ...] = ("as good", "not better", "worse")

Kind = Literal[
    "too few", "nothing learnt", "cannot tell", "copying", "better", "as well", "less well", "undecided"
]  # fmt: skip

NAMES = {
    "one_shot": "an example in the prompt",
    "query_only": "the query alone",
    "random": "patching as many random sites",
    "copy_input": "copying the input",
}
METRIC_LABELS: dict[Metric, str] = {"iou": "IoU", "mse": "MSE"}

LOOK = "Look at the pictures in the report: does every output follow from its input, and in the same way?"
COPYING = "Where outputs are nearly their inputs, a small error says little: look at what the pictures change."
MASKS: dict[Metric, tuple[str, ...]] = {"iou": (), "mse": ("If the outputs are masks, score them so: --metric iou.",)}
SEARCH_MORE = "Search longer (--steps 100, or --preset paper), or bring more pairs."
OTHER_MODEL = "Try another model: --model tiny is for drawn scenes, --model small for photographs."
MORE_PAIRS = f"Bring more pairs: a fifth of a directory is kept aside to judge by, so it takes {5 * FEWEST}."
MORE_QUERIES = "Judge by more queries: more pairs, or a higher --queries where that is what limits them."


@dataclass(frozen=True)
class Comparison:
    """One method against another on the same queries.

    ``gain`` is by how much it is better, positive for any metric; ``allowed`` by how much it may be worse and still as
    good. ``verdict`` is its own against the other, ``reverse`` the other's against it.
    """

    gain: Interval
    allowed: float
    verdict: Verdict
    reverse: Verdict

    @property
    def relation(self) -> Relation:
        """Both verdicts in a word: ``as good`` where neither is worse, though one may be better by less than matters;
        ``not worse`` or ``not better`` where the test of one side alone says something.
        """
        if self.verdict == "too few":
            return "too few"
        holds, reversed_holds = (each in ("better", "not worse") for each in (self.verdict, self.reverse))
        if holds and reversed_holds:
            return "as good"
        if holds:
            return "better" if self.verdict == "better" else "not worse"
        if reversed_holds:
            return "worse" if self.reverse == "better" else "not better"
        return "undecided"


@dataclass(frozen=True)
class Judgement:
    """What is to be said of a task: ``headline`` is one sentence, ``notes`` explain it, ``advice`` is what to try next.

    ``comparisons`` are those of task vectors with each of BASELINES.
    """

    kind: Kind
    headline: str
    notes: tuple[str, ...]
    advice: tuple[str, ...]
    comparisons: dict[str, Comparison]


def compare(
    metric: Metric,
    scores: Float[np.ndarray, " n"],
    others: Float[np.ndarray, " n"],
    groups: Sequence[Hashable] | None = None,
) -> Comparison:
    """The first scores against the second ones of the same queries."""
    allowed = margin(metric, float(others.mean()))
    difference = gain(metric, scores, others, groups)
    reverse = verdict(gain(metric, others, scores, groups), margin(metric, float(scores.mean())))
    return Comparison(difference, allowed, verdict(difference, allowed), reverse)


def judge(metric: Metric, scores: Scores, groups: Sequence[Hashable] | None = None) -> Judgement:
    """What follows for task vectors from the scores [queries] of ``task_vectors``, all of BASELINES and ``ceiling``.

    ``groups`` tell which queries hang together. In this order: too few queries say nothing; vectors that are no better
    than the query alone, or than as many random sites, have learnt nothing; where copying the input does as well, that
    is said before how they stand to an example in the prompt.
    """
    versus = {other: compare(metric, scores["task_vectors"], scores[other], groups) for other in BASELINES}
    independent = versus["one_shot"].gain.groups
    if independent < FEWEST:
        judged = "query was" if independent == 1 else "queries were"
        headline = f"Too few queries to tell: {independent} independent {judged} judged, it takes {FEWEST} or more."
        return Judgement("too few", headline, _ahead(metric, scores), (MORE_PAIRS, MORE_QUERIES), versus)
    mean = {method: f"{values.mean():.3f}" for method, values in scores.items()}
    one_shot = compare(metric, scores["one_shot"], scores["query_only"], groups).relation
    example_fails = one_shot in AT_MOST_AS_GOOD
    notes = []
    if example_fails:
        notes.append(
            f"An example in the prompt ({mean['one_shot']}) does not help this model either: "
            f"the query alone has {mean['query_only']}."
        )
    if compare(metric, scores["copy_input"], scores["ceiling"], groups).relation == "better":
        notes.append(
            f"The ceiling ({mean['ceiling']}) is what the model's tokenizer makes of the true output, so no answer of "
            f"the model can be expected to be better; the input is nearer to the output ({mean['copy_input']})."
        )
    relation = {other: comparison.relation for other, comparison in versus.items()}
    own = f"{METRIC_LABELS[metric]} {mean['task_vectors']}"
    kind, headline, advice = _nothing_learnt(metric, relation, mean, own, example_fails=example_fails) or _learnt(
        metric, relation, mean, own
    )
    return Judgement(kind, headline, tuple(notes), tuple(advice), versus)


Said = tuple[Kind, str, Sequence[str]]  # kind, headline, advice
Relations = Mapping[str, Relation]
Means = Mapping[str, str]  # by method, as they are shown


def _nothing_learnt(metric: Metric, relation: Relations, mean: Means, own: str, *, example_fails: bool) -> Said | None:
    """Where task vectors are not better than no vectors, or than vectors at random sites; None where they are."""
    others = ("query_only", "random")
    for other in others:
        if relation[other] in AT_MOST_AS_GOOD:
            headline = f"Nothing was learnt: {_does_as_well(other, relation, mean, own)}."
            return "nothing learnt", headline, [LOOK, OTHER_MODEL if example_fails else SEARCH_MORE, *MASKS[metric]]
    for other in others:
        if relation[other] != "better":
            than = f"task vectors ({own}) are not shown to be better than {NAMES[other]} ({mean[other]})"
            return "cannot tell", f"It cannot be told whether anything was learnt: {than}.", [MORE_QUERIES, LOOK]
    return None


def _learnt(metric: Metric, relation: Relations, mean: Means, own: str) -> Said:
    """How task vectors that have learnt something stand to copying and to an example."""
    beside = {"better": "better than", "as good": "as well as", "not worse": "as well as"}.get(relation["one_shot"])
    example = f"an example in the prompt ({mean['one_shot']})"
    if relation["copy_input"] in AT_MOST_AS_GOOD:
        headline = _does_as_well("copy_input", relation, mean, own)
        though = f", though these do {beside} {example}" if beside else ""
        return "copying", f"{headline[0].upper()}{headline[1:]}{though}.", [COPYING, *MASKS[metric]]
    if beside:
        kind = "better" if relation["one_shot"] == "better" else "as well"
        return kind, f"Task vectors ({own}) do {beside} {example}.", []
    helps = f"Task vectors help ({own}, the query alone {mean['query_only']})"
    if relation["one_shot"] == "worse":
        return "less well", f"{helps}, but less than {example}.", [SEARCH_MORE]
    return "undecided", f"{helps}; whether as much as {example} cannot be told.", [MORE_QUERIES]


def _does_as_well(other: str, relation: Relations, mean: Means, own: str) -> str:
    """Of a relation of AT_MOST_AS_GOOD, how much better the other does."""
    how = {"worse": "better than", "as good": "as well as", "not better": "at least as well as"}[relation[other]]
    return f"{NAMES[other]} ({mean[other]}) does {how} task vectors ({own})"


def _ahead(metric: Metric, scores: Scores) -> tuple[str, ...]:
    """What has the best mean of too few queries, where it is not task vectors."""
    means = {method: float(scores[method].mean()) for method in ("task_vectors", *BASELINES)}
    best = (max if metric == "iou" else min)(means, key=lambda method: means[method])
    if best == "task_vectors" or means[best] == means["task_vectors"]:
        return ()
    return (f"Among these few, {NAMES[best]} is ahead: {means[best]:.3f}, task vectors {means['task_vectors']:.3f}.",)
