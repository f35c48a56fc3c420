"""What a report is made of: everything measured about a task, with pictures of some of its queries."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from jaxtyping import Float

from taskvec.choices import MADE_FOR
from taskvec.intervals import FEWEST, Interval, bounded, interval
from taskvec.metrics import Metric
from taskvec.models.interface import Decoding, PromptedModel
from taskvec.report.verdicts import MASKS, MORE_PAIRS, MORE_QUERIES, OTHER_MODEL, Judgement, judge
from taskvec.sites import Site
from taskvec.tasks import Images, is_built_in

# Columns of every table, in this order, with what the reader is told of them.
METHODS = {
    "one_shot": "the model with one example in its prompt",
    "several": "the mean of five runs, each with another example",
    "query_only": "the model with the query alone",
    "task_vectors": "the query alone, task vectors patched in",
    "random": "as many random sites patched, mean of several draws",
    "copy_input": "the query input returned as the answer",
    "constant": "the mean of the outputs learnt from, whatever the query",
    "reconstruction": "the tokenizer's reconstruction of the truth",
}

OF_TEXTS = {
    "one_shot": "the model with examples in its prompt",
    "constant": "the commonest of the outputs learnt from, whatever the query",
}  # in place of these, where answers are texts
EXAMPLES = ("support_input", "support_output", "query_input", "one_shot", "query_only", "task_vectors", "truth")


@dataclass(frozen=True, repr=False)
class TaskOutcome:
    """One task: its scores by method (keys of METHODS), pictures, search and sites.

    ``scores`` are of every pair, [pairs] each, of random sites the mean over draws; ``supports`` and ``queries`` name
    the pairs' examples, ``groups`` tell which pairs hang together by their queries. ``examples`` has under each name of
    EXAMPLES uint8 [k, size, size, 3], or of texts str [k], those of all supports together as ``support_output``.
    ``shots`` is how many supports a prompt has. ``history`` are the search's records (step, loss, sites, at
    checkpoints validation_loss and chosen_sites). ``seconds`` is the time of statistics and search. ``decodings`` has
    how the model's answers were decoded by each method that is judged so, ``likeliest`` what these score where the
    likeliest codes are decoded, as in the paper; empty where that is the decoding. ``curve`` has the
    validation loss of the best 1, 2, 4, ... sites by the search's ranking, and ``harmful`` the sites without which the
    set that the search came to does better, the worst first; both where they were asked for.
    """

    task: str
    metric: Metric
    scores: dict[str, Float[np.ndarray, " pairs"]]
    groups: list[str]
    supports: list[str]
    queries: list[str]
    sites: tuple[Site, ...]
    of: int
    examples: dict[str, Images]
    history: list[dict[str, Any]]
    seconds: float
    decodings: dict[str, Decoding]
    likeliest: dict[str, Float[np.ndarray, " pairs"]]
    curve: tuple[tuple[int, float], ...] = ()
    harmful: tuple[Site, ...] = ()
    shots: int = 1

    def __repr__(self) -> str:
        """What follows, in a line."""
        return f"{self.task}: {self.judgement.headline}"

    @property
    def fewest(self) -> int | None:
        """The fewest sites of the curve that are as good as its best, by the metric's margin; None without a curve."""
        if not self.curve:
            return None
        least = min(loss for _, loss in self.curve)
        return next(count for count, loss in self.curve if loss <= least + self.metric.allowed(abs(least)))

    @property
    def methods(self) -> list[str]:
        """Those of METHODS that were scored: all, but that not every model has a tokenizer."""
        return [method for method in METHODS if method in self.scores]

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Mean and interval of every method, of an interval the part that a score can be in."""
        return {method: bounded(interval(self.scores[method], self.groups), self.metric) for method in self.methods}

    @cached_property
    def likeliest_intervals(self) -> dict[str, Interval]:
        """The same of the scores with the likeliest codes."""
        return {name: bounded(interval(each, self.groups), self.metric) for name, each in self.likeliest.items()}

    @cached_property
    def judgement(self) -> Judgement:
        """What is to be said of it."""
        judgement = judge(self.metric, self.scores, self.groups)
        if not is_built_in(self.task):
            return judgement
        return replace(judgement, advice=tuple(each for each in judgement.advice if each != MASKS))  # it has its metric

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """A record of every pair: names of support and query, and the score of each method."""
        return [
            {"support": support, "query": query, **{method: float(self.scores[method][row]) for method in self.methods}}
            for row, (support, query) in enumerate(zip(self.supports, self.queries, strict=True))
        ]


@dataclass(frozen=True)
class SearchedStack:
    """A stack that sites were searched in; ``regions`` has the number of tokens of each of its regions."""

    layers: int
    heads: int
    regions: dict[str, int]

    @classmethod
    def of(cls, model: PromptedModel, stack: str) -> Self:
        """One of a model's, with the places that a run of the query alone has."""
        layout = model.stacks[stack]
        places = (layout.places[place] for place in model.present("query_only")[stack].tolist())
        return cls(layout.layers, layout.heads, dict(Counter(place.region or "all" for place in places)))


@dataclass(frozen=True, repr=False)
class Outcome:
    """A whole run: its tasks, the numbers of pairs and of different queries behind scores, what it was run with.

    ``data`` describes the data that the task vectors were found on and those that they are judged on.
    """

    tasks: list[TaskOutcome]
    pairs: int
    queries: int
    stacks: dict[str, SearchedStack]
    model: dict[str, Any]
    data: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    seconds: float
    machine: dict[str, Any]
    versions: dict[str, str]

    @property
    def methods(self) -> list[str]:
        """Those of METHODS that were scored."""
        return self.tasks[0].methods

    def __repr__(self) -> str:
        """What follows for every task, a line each."""
        return "\n".join(map(repr, self.tasks))

    def _repr_html_(self) -> str:
        from taskvec.report.notebook import outcome_html  # noqa: PLC0415 which knows of outcomes

        return outcome_html(self)

    @property
    def of_texts(self) -> bool:
        return self.tasks[0].metric.of_tokens

    @property
    def described(self) -> dict[str, str]:
        """What a reader is told of the methods that were scored."""
        told = {**METHODS, **(OF_TEXTS if self.of_texts else {})}
        return {method: told[method] for method in self.methods}

    @property
    def counted(self) -> str:
        """What scores are means over: 200 queries, or 30 prompts drawn from the 6 pairs kept aside."""
        if self.pairs == self.queries:
            return f"{self.queries} queries"
        judged_on = self.data["judged on"]
        own = not all(is_built_in(task.task) for task in self.tasks)
        if own and judged_on.get("split") == "test" and "examples" in judged_on:
            return f"{self.pairs} prompts drawn from the {judged_on['examples']} pairs kept aside"
        return f"{self.pairs} prompts with {self.queries} queries"

    @property
    def made_for(self) -> str | None:
        """The model by its name, and what it was made for, where that is known; None of a model without a name."""
        name = self.model.get("name")
        return f"{name}, which is for {MADE_FOR[name]}" if name in MADE_FOR else name

    def advice(self, task: TaskOutcome) -> tuple[str, ...]:
        """What to try next at a task: of too few queries what there are too few of, and another model by its name."""
        more = MORE_PAIRS if MORE_PAIRS in task.judgement.advice and self._asks_all else self._more_queries
        said = {MORE_QUERIES: more, MORE_PAIRS: more, OTHER_MODEL: self._other_model or OTHER_MODEL}
        advice = [said.get(each, each) for each in task.judgement.advice]
        for_others = self.model.get("name") == "tiny" and self.data["judged on"].get("data") != "scenes"
        if for_others and self._other_model and task.judgement.kind not in ("better", "as well"):
            advice.append(self._other_model)
        return tuple(dict.fromkeys(advice))

    @property
    def _asks_all(self) -> bool:
        """Whether every example that may judge is a query already."""
        known = self.data["judged on"].get("examples")
        return self.queries < self.pairs if known is None else self.queries >= known

    @property
    def _more_queries(self) -> str:
        """What limits the queries that judge: the examples that there are, or how many were asked for."""
        if not self._asks_all:
            return f"Judge by more queries: --queries {2 * self.pairs} or more."
        if self.data["judged on"].get("split") == "test":
            return f"Bring more pairs: all {self.queries} that are kept aside judge already."
        return f"Judge on data with more examples: all {self.queries} of these judge already."

    @property
    def _other_model(self) -> str | None:
        """The other one that ships, of one that does."""
        name = self.model.get("name")
        others = [f"Try --model {other}, which is for {what}" for other, what in MADE_FOR.items() if other != name]
        return f"{others[0]}: this is {self.made_for}." if name in MADE_FOR else None

    @property
    def explained(self) -> str:
        """How the intervals come about."""
        groups = len(set(self.tasks[0].groups))
        each = "texts" if self.of_texts else "images"
        if groups < FEWEST:
            return f"no intervals, for which {FEWEST} or more independent {each} are needed"
        return f"95 % intervals (Student's t over {groups} {each if groups == self.queries else f'groups of {each}'})"
