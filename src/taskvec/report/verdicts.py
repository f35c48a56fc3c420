"""What follows from the scores of task vectors beside those of every other way: one plain sentence, and what to try.

All methods answer the same queries, so each is compared with task vectors query by query, by the rules of
``taskvec.intervals``. Nothing is said to do as well as something else without that test.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from taskvec.intervals import FEWEST, Interval, Verdict, gain, verdict
from taskvec.metrics import FOR_MASKS, Metric

Scores = Mapping[str, Float[np.ndarray, " n"]]
BASELINES = (
    "one_shot",
    "query_only",
    "random",
    "copy_input",
    "constant",
)  # what task vectors are compared with; copies are of images

Relation = Literal["better", "as good", "not worse", "not better", "worse", "undecided", "too few"]
RELATIONS: tuple[Relation, ...] = get_args(Relation)
AT_MOST_AS_GOOD: tuple[Relation, ...] = ("as good", "not better", "worse")

Kind = Literal[
    "too few", "nothing learnt", "cannot tell", "copying", "ignoring", "better", "as well", "less well", "undecided"
]  # fmt: skip

NAMES = {
    "one_shot": "an example in the prompt",
    "query_only": "the query alone",
    "random": "patching as many random sites",
    "copy_input": "copying the input",
    "constant": "answering every query with the mean output",
    "several": "the mean of five examples",
}
NAMES_OF_TEXTS = {
    **NAMES,
    "one_shot": "a prompt with examples",
    "constant": "answering every query with the commonest output",
}

LOOK = "Look at the pictures in the report: does every output follow from its input, and in the same way?"
LOOK_AT_TEXTS = "Look at the answers in the report: are they of the right kind, if not right?"
COPYING = "Where outputs are nearly their inputs, a small error says little: look at what the pictures change."
IGNORING = "An answer that looks at no query scores as much: outputs are alike, or the model cannot do the task."
MASKS = f"If the outputs are masks, score them so: --metric {FOR_MASKS.name}."
SEARCH_MORE = "Search longer (--steps 100, or --preset paper), or bring more pairs."
OTHER_MODEL = "Try another model: --model tiny is for drawn scenes, --model small for photographs."
OTHER_LANGUAGE_MODEL = "Try a model that does the task better with examples in its prompt, such as a larger one."
MORE_PAIRS = f"Bring more pairs: a fifth of them is kept aside to judge by, so it takes {5 * FEWEST}."
MORE_QUERIES = "Judge by more queries: more pairs, or a higher --queries where that is what limits them."


def number(value: float) -> str:
    """A score with three decimals, fewer of large ones: no more than five characters up to 999."""
    return f"{value:.{3 if value < 9.9995 else 2 if value < 99.995 else 1}f}"


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

    ``comparisons`` are those of task vectors with each of BASELINES and, if it was scored, ``several``.
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
    allowed = metric.allowed(float(others.mean()))
    difference = gain(metric, scores, others, groups)
    reverse = verdict(gain(metric, others, scores, groups), metric.allowed(float(scores.mean())))
    return Comparison(difference, allowed, verdict(difference, allowed), reverse)


def judge(metric: Metric, scores: Scores, groups: Sequence[Hashable] | None = None) -> Judgement:
    """What follows for task vectors from the scores [queries] of ``task_vectors``, of BASELINES, of which answers that
    are texts have no ``copy_input``, and, where they are there, ``several`` and ``reconstruction``.

    ``groups`` tell which queries hang together. In this order: too few queries say nothing; vectors that are no better
    than the query alone, or than as many random sites, have learnt nothing; where copying the input, or one answer to
    all, does as well, that is said before how they stand to an example in the prompt.
    """
    others = [other for other in (*BASELINES, "several") if other in scores]
    versus = {other: compare(metric, scores["task_vectors"], scores[other], groups) for other in others}
    independent = versus["one_shot"].gain.groups
    if independent < FEWEST:
        judged = "query was" if independent == 1 else "queries were"
        headline = f"Too few queries to tell: {independent} independent {judged} judged, it takes {FEWEST} or more."
        return Judgement("too few", headline, _ahead(metric, scores), (MORE_PAIRS, MORE_QUERIES), versus)
    mean = {method: number(float(values.mean())) for method, values in scores.items()}
    one_shot = compare(metric, scores["one_shot"], scores["query_only"], groups).relation
    case = _Case(
        metric,
        {other: comparison.relation for other, comparison in versus.items()},
        mean,
        f"{metric.label} {mean['task_vectors']}",
        one_shot,
    )
    kind, headline, advice = (
        case.nothing_learnt() or case.copying() or case.ignoring() or case.cannot_tell() or case.beside_an_example()
    )
    notes = []
    for other, said in (("copy_input", "copying"), ("constant", "ignoring")):
        if case.relation.get(other) in AT_MOST_AS_GOOD and kind != said:
            notes.append(f"{_sentence(case.does_as_well(other))}.")
    if case.relation.get("several") == "worse" and case.relation["one_shot"] != "worse":
        notes.append(f"{_sentence(case.does_as_well('several'))}.")
    if one_shot != "better":
        how = "does not help" if one_shot in AT_MOST_AS_GOOD else "is not shown to help"
        either = " either" if kind == "nothing learnt" else ""
        alone = f"the query alone has {mean['query_only']}"
        notes.append(f"{_sentence(case.named('one_shot'))} {how} this model{either}: {alone}.")
    if (
        "reconstruction" in scores
        and compare(metric, scores["copy_input"], scores["reconstruction"], groups).relation == "better"
    ):
        notes.append(
            f"Even the right codes ({mean['reconstruction']}), the true output through the model's tokenizer and back, "
            f"are further from it than the input is ({mean['copy_input']})."
        )
    return Judgement(kind, headline, tuple(notes), tuple(advice), versus)


Said = tuple[Kind, str, Sequence[str]]  # kind, headline, advice
NO_VECTORS = ("query_only", "random")  # what task vectors must beat if they hold anything of the task
BESIDE: dict[Relation, str] = {"better": "better than", "as good": "as well as", "not worse": "as well as"}
AT_LEAST: dict[Relation, str] = {"worse": "better than", "as good": "as well as", "not better": "at least as well as"}


@dataclass(frozen=True)
class _Case:
    """What task vectors are beside each of BASELINES, all means and their ``own`` as they are shown, and what an
    example in the prompt is beside none. Each method tells what is to be said, None where it does not apply.
    """

    metric: Metric
    relation: Mapping[str, Relation]
    mean: Mapping[str, str]
    own: str
    example: Relation

    def nothing_learnt(self) -> Said | None:
        """Task vectors are no better than none, or than some at random sites."""
        for other in NO_VECTORS:
            if self.relation[other] in AT_MOST_AS_GOOD:
                more = SEARCH_MORE if self.example == "better" else self._other_model
                headline = f"Nothing was learnt: {self.does_as_well(other)}."
                return "nothing learnt", headline, [self._look, more, *self._masks]
        return None

    def copying(self) -> Said | None:
        """The task can be done as well without a model."""
        return self._as_well_by("copy_input", "copying", [COPYING, *self._masks])

    def ignoring(self) -> Said | None:
        """Answers need not look at the query to be as good."""
        return self._as_well_by("constant", "ignoring", [IGNORING, self._look, self._other_model])

    def _as_well_by(self, trivial: str, kind: Kind, advice: Sequence[str]) -> Said | None:
        """No model is needed for as much, even if task vectors do as much as a prompt."""
        if self.relation.get(trivial) not in AT_MOST_AS_GOOD:
            return None
        learnt = all(self.relation[other] == "better" for other in NO_VECTORS)
        beside = BESIDE.get(self.relation["one_shot"])
        though = f", though these do {beside} {self._prompting}" if learnt and beside else ""
        return kind, f"{_sentence(self.does_as_well(trivial))}{though}.", advice

    def cannot_tell(self) -> Said | None:
        """There is no evidence that task vectors are better than none, nor that they are not."""
        for other in NO_VECTORS:
            if self.relation[other] != "better":
                than = f"task vectors ({self.own}) are not shown to be better than {self.named(other)}"
                more = [] if self.example == "better" else [self._other_model]
                headline = f"It cannot be told whether anything was learnt: {than}."
                return "cannot tell", headline, [MORE_QUERIES, self._look, *more]
        return None

    def beside_an_example(self) -> Said:
        """How task vectors that have learnt something stand to prompting."""
        beside = BESIDE.get(self.relation["one_shot"])
        if beside:
            kind = "better" if self.relation["one_shot"] == "better" else "as well"
            return kind, f"Task vectors ({self.own}) do {beside} {self._prompting}.", []
        helps = f"Task vectors help ({self.own}, the query alone {self.mean['query_only']})"
        if self.relation["one_shot"] == "worse":
            return "less well", f"{helps}, but less than {self._prompting}.", [SEARCH_MORE]
        return "undecided", f"{helps}; whether as much as {self._prompting} cannot be told.", [MORE_QUERIES]

    def does_as_well(self, other: str) -> str:
        """Of a relation of AT_MOST_AS_GOOD, how much better the other does."""
        return f"{self.named(other)} does {AT_LEAST[self.relation[other]]} task vectors ({self.own})"

    @property
    def _masks(self) -> tuple[str, ...]:
        return () if self.metric.of_masks or self.metric.of_tokens else (MASKS,)

    @property
    def _look(self) -> str:
        return LOOK_AT_TEXTS if self.metric.of_tokens else LOOK

    @property
    def _other_model(self) -> str:
        return OTHER_LANGUAGE_MODEL if self.metric.of_tokens else OTHER_MODEL

    @property
    def _prompting(self) -> str:
        return self.named("one_shot")

    def named(self, method: str) -> str:
        """A method and its mean, as they stand in a sentence."""
        return f"{_names(self.metric)[method]} ({self.mean[method]})"


def _names(metric: Metric) -> Mapping[str, str]:
    return NAMES_OF_TEXTS if metric.of_tokens else NAMES


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _ahead(metric: Metric, scores: Scores) -> tuple[str, ...]:
    """What has the best mean of too few queries, where it is not task vectors."""
    means = {method: float(scores[method].mean()) for method in ("task_vectors", *BASELINES) if method in scores}
    best, own = metric.best(means.values()), means["task_vectors"]
    if best == own:
        return ()
    ahead = next(method for method, mean in means.items() if mean == best)
    return (f"Among these few, {_names(metric)[ahead]} is ahead: {number(best)}, task vectors {number(own)}.",)
