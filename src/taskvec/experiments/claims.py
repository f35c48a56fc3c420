"""The claims of the paper, each with the rule by which what was measured decides whether it holds.

A method is better than another where the 95 % interval of its gain, prompt by prompt, is above 0, worse where it is
below 0, and not told apart from it otherwise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from statistics import fmean

from taskvec.evaluate import Interval
from taskvec.experiments.evidence import COMPOSED, METHODS, XRAYS, Evidence
from taskvec.experiments.paper import TABLE_3, TABLE_4, TABLE_5, TABLE_9, means
from taskvec.experiments.results import Judgement, Scores, Verdict

TASKS = ("segmentation", "low_light", "colorization", "inpainting")  # in the order of the paper's tables
PAPER = {method: means(printed) for method, printed in {**TABLE_9, **TABLE_4, **TABLE_3}.items()}
PAPER |= {method: (fmean(means(TABLE_5[method])),) for method in ("vectors_encoder", "vectors_decoder")}
SAVED, SAVED_WITHIN = 0.225, 0.005  # of a one-shot prompt's operations
PAPER_LAYERS, PAPER_SHARE = 17 / 32, 0.3  # where greedy random search starts
STRONG = 0.5  # a rank correlation
NEARLY_ALL = 0.9  # of the way from the query alone to the tokenizer's ceiling


class NotMeasuredError(Exception):
    """What a claim needs was not measured; the message says what."""


@dataclass(frozen=True)
class Finding:
    """What a claim's rule found: whether it holds, our numbers in lines, and why it came out so."""

    holds: bool
    ours: Sequence[str]
    explanation: str


@dataclass(frozen=True)
class Comparison:
    """The gain of one method over another at each task, and whether the first must be better or only not worse."""

    method: str
    other: str
    gains: dict[str, Interval]
    needs_better: bool = True

    @property
    def failing(self) -> list[str]:
        """The tasks at which the gain is not what it must be."""
        fine = {task: gain.low > 0 if self.needs_better else gain.high >= 0 for task, gain in self.gains.items()}
        return [task for task in fine if not fine[task]]


Rule = Callable[[Evidence], Finding]
CLAIMS: list[Callable[[Evidence], Verdict]] = []


def verdicts(evidence: Evidence) -> list[Verdict]:
    """The judgement of every claim, C1 to C14, computed from the evidence alone."""
    return [judge(evidence) for judge in CLAIMS]


def claim(name: str, statement: str, *, paper: str, rule: str) -> Callable[[Rule], Callable[[Evidence], Verdict]]:
    """Make a rule a claim's judge: its finding a verdict, and a lack of evidence "cannot be tested here"."""

    def register(judge: Rule) -> Callable[[Evidence], Verdict]:
        @wraps(judge)
        def judged(evidence: Evidence) -> Verdict:
            try:
                finding = judge(evidence)
            except NotMeasuredError as lack:
                return Verdict(name, statement, paper, "", rule, "cannot be tested here", f"{lack}.")
            judgement: Judgement = "holds" if finding.holds else "does not hold"
            return Verdict(name, statement, paper, "\n".join(finding.ours), rule, judgement, finding.explanation)

        CLAIMS.append(judged)
        return judged

    return register


def printed(*methods: str, of: Mapping[str, Sequence[float]] = PAPER) -> str:
    """The paper's numbers of these methods, a line each; tables differ in some."""
    return "\n".join(_line(method, of[method]) for method in _in_order(methods))


def _line(method: str, means: Sequence[float]) -> str:
    return f"{METHODS[method]}: {', '.join(f'{mean:.3f}' for mean in means)}"


def _in_order(methods: Iterable[str]) -> list[str]:
    """Each once, in the order of METHODS, so that the paper's lines and ours stand side by side."""
    return [method for method in METHODS if method in set(methods)]


@claim(
    "C1",
    "Task-specific task vectors, without any example, beat one-shot prompting on all four tasks.",
    paper=printed("one_shot", "vectors"),
    rule="Holds where task vectors (task-specific) are better than one-shot prompting at every task.",
)
def beats_one_shot(evidence: Evidence) -> Finding:
    return _compared(evidence, [_compare(evidence, "vectors", "one_shot")])


@claim(
    "C2",
    "Multi-task task vectors, one set of sites for all tasks, match or beat one-shot prompting on all four tasks.",
    paper=printed("one_shot", "vectors_multi"),
    rule="Holds where task vectors (multi-task) are not worse than one-shot prompting at any task.",
)
def multi_task_matches_one_shot(evidence: Evidence) -> Finding:
    return _compared(evidence, [_compare(evidence, "vectors_multi", "one_shot", needs_better=False)])


@claim(
    "C3",
    "Sites chosen by causal mediation analysis (CMA) are worse than those found by the search.",
    paper=printed("cma", "vectors", "cma_multi", "vectors_multi"),
    rule="Holds where task vectors are better than CMA, for both variants (task-specific, multi-task), at every task.",
)
def mediation_is_worse(evidence: Evidence) -> Finding:
    variants = (("vectors", "cma"), ("vectors_multi", "cma_multi"))
    return _compared(evidence, [_compare(evidence, vectors, cma) for vectors, cma in variants])


@claim(
    "C4",
    "Greedy random search (GRS) lies between causal mediation analysis (CMA) and task vectors.",
    paper=printed("cma", "greedy", "vectors", "cma_multi", "greedy_multi", "vectors_multi"),
    rule="Holds where GRS is better than CMA, and task vectors are not worse than GRS, for both variants "
    "(task-specific, multi-task), at every task.",
)
def greedy_is_between(evidence: Evidence) -> Finding:
    comparisons = []
    for variant in ("", "_multi"):
        comparisons.append(_compare(evidence, f"greedy{variant}", f"cma{variant}"))
        comparisons.append(_compare(evidence, f"vectors{variant}", f"greedy{variant}", needs_better=False))
    return _compared(evidence, comparisons)


@claim(
    "C5",
    "Random quadrants, the quadrants of highest taskness, and GRS on random layers all fail.",
    paper=printed("one_shot", "vectors", "random", "top", "greedy_random_layers"),
    rule="Holds where task vectors (task-specific) and one-shot prompting are both better than each of the three at "
    "every task; GRS on random layers need not lose to one-shot at colorization, as it does not in the paper.",
)
def baselines_fail(evidence: Evidence) -> Finding:
    comparisons = []
    for baseline in ("random", "top", "greedy_random_layers"):
        excepted = "colorization" if baseline == "greedy_random_layers" else None
        comparisons.append(_compare(evidence, "vectors", baseline))
        comparisons.append(_compare(evidence, "one_shot", baseline, [task for task in TASKS if task != excepted]))
    return _compared(evidence, comparisons)


@claim(
    "C6",
    "Tokens and quadrants are equally good units to search; whole heads are clearly worse.",
    paper=printed(*TABLE_4, of={method: means(row) for method, row in TABLE_4.items()}),
    rule="Holds where quadrants are better than heads, and the mean difference between tokens and quadrants, either "
    "way, is below half of that gain, for both variants (task-specific, multi-task), at every task.",
)
def heads_are_too_coarse(evidence: Evidence) -> Finding:
    over_heads = [_compare(evidence, name, f"{name}_head") for name in ("vectors", "vectors_multi")]
    over_quadrants = [_compare(evidence, f"{name}_token", name) for name in ("vectors", "vectors_multi")]
    unlike = [
        f"{METHODS[heads.method]} at {_label(task)}"
        for heads, quadrants in zip(over_heads, over_quadrants, strict=True)
        for task in TASKS
        if abs(quadrants.gains[task].mean) >= max(0, heads.gains[task].mean) / 2
    ]
    coarse = _compared(evidence, over_heads)
    comparisons = [*over_heads, *over_quadrants]
    methods = {name for each in comparisons for name in (each.method, each.other)}
    ours = [*_means(evidence, methods), "", *_gains(comparisons)]
    if not unlike:
        return Finding(coarse.holds, ours, f"{coarse.explanation} Tokens and quadrants are alike.")
    told = f"The difference of tokens to quadrants is not below half of the gain over heads: {_and(unlike)}."
    return Finding(False, ours, f"{coarse.explanation} {told}")


@claim(
    "C7",
    "Sites in the encoder alone do far worse than sites in the decoder alone, which do no better than both.",
    paper=f"{METHODS['vectors']}: 0.325\n{printed('vectors_encoder', 'vectors_decoder')}",  # 0.325 is Table 5's own
    rule="Holds where, at segmentation, decoder only is better than encoder only, and both together are not worse than "
    "decoder only.",
)
def decoder_matters_more(evidence: Evidence) -> Finding:
    at = ["segmentation"]
    decoder = _compare(evidence, "vectors_decoder", "vectors_encoder", at)
    both = _compare(evidence, "vectors", "vectors_decoder", at, needs_better=False)
    return _compared(evidence, [decoder, both])


@claim(
    "C8",
    "Heads of higher taskness cluster their activations better by task.",
    paper="head (26, 3): taskness 2.17, silhouette 0.358, Davies-Bouldin 1.27\n"
    "head (2, 12): taskness 0.026, silhouette -0.033, Davies-Bouldin 13.6",
    rule="Holds where, over all heads, the rank correlation (Spearman) of taskness is above 0 with the silhouette "
    "score, where higher is better, and below 0 with the Davies-Bouldin score, where lower is better.",
)
def taskness_follows_clustering(evidence: Evidence) -> Finding:
    if evidence.clustering is None:
        raise NotMeasuredError("Clustering scores of the heads were not measured")
    silhouette, davies_bouldin = evidence.clustering
    ours = [f"rank correlation with silhouette: {silhouette:+.3f}", f"with Davies-Bouldin: {davies_bouldin:+.3f}"]
    if not silhouette > 0 > davies_bouldin:
        return Finding(False, ours, "Taskness does not rank this model's heads as clustering by task does.")
    if silhouette > STRONG and davies_bouldin < -STRONG:
        return Finding(True, ours, f"Both correlations are strong, beyond {STRONG} in size.")
    return Finding(True, ours, f"The signs are right, but not both correlations are strong (beyond {STRONG} in size).")


@claim(
    "C9",
    "With task vectors in place, an example in the prompt changes little.",
    paper=printed("vectors", "one_shot_vectors"),
    rule="Holds where, at every task, the mean gain of one-shot prompting with task vectors over task vectors alone, "
    "either way, is below 10 % of the score of task vectors alone.",
)
def examples_add_little(evidence: Evidence) -> Finding:
    comparison = _compare(evidence, "one_shot_vectors", "vectors")
    large = [
        task
        for task, gain in comparison.gains.items()
        if abs(gain.mean) >= _scores(evidence, "vectors", task).every.mean() / 10
    ]
    helps = [task for task in large if comparison.gains[task].mean > 0]
    hurts = [task for task in large if task not in helps]
    told = []
    if helps:
        told.append(f"The example still helps at {_tasks(helps)}: task vectors hold less than it tells the model.")
    if hurts:
        told.append(f"The example does harm at {_tasks(hurts)}: these vectors were found for queries without one.")
    ours = [*_means(evidence, ["vectors", "one_shot_vectors"]), "", *_gains([comparison])]
    return Finding(not large, ours, " ".join(told) or "No gain or loss reaches 10 %.")


@claim(
    "C10",
    "Task vectors can be added: in-painting + segmentation - identity does both at once.",
    paper="pictures only (Figure 7)",
    rule="Holds where, on images with a hole and the object's whole mask as truth, the combined vectors are better "
    "than those of segmentation and those of in-painting alone (all multi-task).",
)
def vectors_add_up(evidence: Evidence) -> Finding:
    parts = ("vectors_multi", "inpainting_multi")
    return _compared(evidence, [_compare(evidence, "combined", part, [COMPOSED]) for part in parts])


@claim(
    "C11",
    "Task vectors need 22.5 % fewer operations (FLOPs) than a one-shot prompt.",
    paper="22.5 %",
    rule="Holds where, counted at the published architecture with the whole canvas decoded, the share saved is within "
    "half a percentage point of 22.5 %.",
)
def operations_saved(evidence: Evidence) -> Finding:
    if "published" not in evidence.gigaflops:
        raise NotMeasuredError("The operations of the published architecture were not counted")
    ours, saved = [], {}
    for name, counted in evidence.gigaflops.items():
        one_shot = counted["one_shot"] + counted["decode_canvas"]
        saved[name] = 1 - (counted["query_only"] + counted["decode_canvas"]) / one_shot
        quadrant = 1 - (counted["query_only"] + counted["decode_quadrant"]) / one_shot
        label = "published architecture" if name == "published" else name
        ours.append(f"{label}: {saved[name]:.1%}; {quadrant:.1%} where the answer's quadrant alone is decoded")
    explanation = (
        "Counted, not timed, and a property of the architecture: the transformer is spared the example's tokens, while "
        "decoding the canvas costs the same. To decode a quadrant alone is another function, not the paper's."
    )
    return Finding(abs(saved["published"] - SAVED) <= SAVED_WITHIN, ours, explanation)


@claim(
    "C12",
    "Task vectors of low light and in-painting work out of domain, on chest x-rays, if a little blurred.",
    paper="pictures only (Figure 6)",
    rule="Holds where, on x-rays, task vectors of both tasks are better than the query alone.",
)
def works_on_xrays(evidence: Evidence) -> Finding:
    if not evidence.xrays:
        raise NotMeasuredError("There were no x-rays to test on")
    xrays = Evidence(evidence.xrays)
    found = _compared(xrays, [_compare(xrays, "vectors", "query_only", list(XRAYS))])
    ceiling = _compare(xrays, "ceiling", "vectors", list(XRAYS))
    left = _and([f"{gain.mean:.3f} at {_label(task)}" for task, gain in ceiling.gains.items()])
    explanation = f"{found.explanation} The tokenizer's ceiling, which is blurred too, is ahead by {left}."
    return Finding(found.holds, [*found.ours, *_gains([ceiling])], explanation)


@claim(
    "C13",
    "In Llama-2-7B, task vectors without examples come close to, or beat, ten examples, at 92.5 % fewer operations.",
    paper="landmark-country, present-past, country-capital (top-1)\n"
    "ten examples: 0.880, 0.967, 0.951\nCMA: 0.691, 0.880, 0.825\ntask vectors: 0.863, 0.983, 0.952",
    rule="Needs the weights of Llama-2-7B.",
)
def works_in_language_models(evidence: Evidence) -> Finding:
    raise NotMeasuredError("There were no weights of Llama-2-7B, and another language model would test another claim")


@claim(
    "C14",
    "Greedy random search starts best from k = 17 of the 32 layers and a share of p = 0.3 of their quadrants.",
    paper="k = 17 of 32 layers, p = 0.3 (Figure 14)",
    rule="Holds where no start of the grid is better than the paper's: p = 0.3 and, as another model has another "
    "number of layers, the k of the grid that is nearest to 17/32 of them.",
)
def start_of_greedy_search(evidence: Evidence) -> Finding:
    starts = evidence.starts
    if not starts or evidence.layers is None:
        raise NotMeasuredError("No grid of starts of greedy random search was run")
    wanted = PAPER_LAYERS * evidence.layers
    papers = (min((k for k, _ in starts), key=lambda k: abs(k - wanted)), PAPER_SHARE)
    if papers not in starts:
        raise NotMeasuredError(f"The grid of starts has no k = {papers[0]} with p = {PAPER_SHARE}")
    best = min(starts, key=lambda start: (starts[start], start != papers))
    ours = [
        f"{label}: k = {k} of {evidence.layers} layers, p = {p:g}, IoU {-starts[k, p]:.3f}"
        for label, (k, p) in (("best", best), ("the paper's", papers))
    ]
    if best == papers:
        return Finding(True, ours, "The paper's start is the best of the grid.")
    other = _and([name for name, mine, theirs in zip("kp", best, papers, strict=True) if mine != theirs])
    explanation = (
        f"The best start has another {other}. A start is the best of some random draws on few images, so that "
        "neighbours in the grid differ by chance too."
    )
    return Finding(False, ours, explanation)


def _scores(evidence: Evidence, method: str, task: str) -> Scores:
    if (method, task) not in evidence.scores:
        raise NotMeasuredError(f"There are no scores of {METHODS[method]} at {_label(task)}")
    return evidence.scores[method, task]


def _compare(
    evidence: Evidence, method: str, other: str, tasks: Sequence[str] = TASKS, *, needs_better: bool = True
) -> Comparison:
    gains = {task: _scores(evidence, method, task).gain_over(_scores(evidence, other, task)) for task in tasks}
    return Comparison(method, other, gains, needs_better)


def _compared(evidence: Evidence, comparisons: Sequence[Comparison]) -> Finding:
    """Holds where no comparison fails at any task."""
    methods = {name for each in comparisons for name in (each.method, each.other)}
    tasks = max((list(each.gains) for each in comparisons), key=len)
    ours = [*_means(evidence, methods, tasks), "", *_gains(comparisons)]
    failing = [each for each in comparisons if each.failing]
    if failing:
        told = [*(_standing(each, each.failing) for each in failing), *_reasons(evidence, failing)]
    else:
        told = ["Every gain is on its side of 0."] if any(each.needs_better for each in comparisons) else []
        told += [_standing(each, list(each.gains)) for each in comparisons if not each.needs_better]
    return Finding(not failing, ours, " ".join(told))


def _standing(comparison: Comparison, tasks: Sequence[str]) -> str:
    """At which of the tasks the first method is better, worse, or not told apart."""
    places: dict[str, list[str]] = {"better than": [], "worse than": [], "not told apart from": []}
    for task in tasks:
        gain = comparison.gains[task]
        places["better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not told apart from"].append(task)
    told = [f"{place} {METHODS[comparison.other]} at {_tasks(at)}" for place, at in places.items() if at]
    name = METHODS[comparison.method]
    return f"{name[0].upper()}{name[1:]}: {'; '.join(told)}."


def _reasons(evidence: Evidence, failing: Sequence[Comparison]) -> list[str]:
    """What in data or model explains failures, where it was measured: no room to win, or no task done at all."""
    at = [(each, task) for each in failing for task in each.failing]
    full = _not_ahead(evidence, [("ceiling", each.other, task) for each, task in at])
    blind = _not_ahead(evidence, [("one_shot", "query_only", task) for _, task in at])
    idle = _not_ahead(evidence, [(each.method, "query_only", task) for each, task in at if each.method != "one_shot"])
    told = [
        f"There is no room at {_label(task)}: {METHODS[other]} is as good as the tokenizer's ceiling."
        for _, other, task in full
    ]
    told += [
        f"There is little room at {_label(task)}: {METHODS[other]} goes {way:.0%} of the way from the query alone to "
        "the tokenizer's ceiling."
        for other, task in dict.fromkeys((each.other, task) for each, task in at)
        if (way := _way(evidence, other, task)) is not None and NEARLY_ALL <= way < 1
    ]
    told += [
        f"The model takes nothing from the example at {_label(task)}: with it, it is no better than without."
        for *_, task in blind
    ]
    told += [
        f"No sites that do the task were found at {_label(task)} by {METHODS[method]}: no better than the query alone."
        for method, _, task in idle
    ]
    return told or ["Nothing that was measured of the data or the model explains it away."]


def _not_ahead(evidence: Evidence, pairs: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those (method, other, task), each once, that were measured with the method not better than the other."""
    scores = evidence.scores
    return [
        (method, other, task)
        for method, other, task in dict.fromkeys(pairs)
        if (method, task) in scores
        and (other, task) in scores
        and scores[method, task].gain_over(scores[other, task]).low <= 0
    ]


def _way(evidence: Evidence, method: str, task: str) -> float | None:
    """How far a method gets from the query alone towards the ceiling, 1 there; None where that is no way up."""
    scores = evidence.scores
    if not {(name, task) for name in (method, "query_only", "ceiling")} <= scores.keys():
        return None
    start = scores["query_only", task]
    room = scores["ceiling", task].gain_over(start).mean
    return scores[method, task].gain_over(start).mean / room if room > 0 else None


def _means(evidence: Evidence, methods: Iterable[str], tasks: Sequence[str] = TASKS) -> list[str]:
    """What these methods score, a line each, as the paper's numbers are given."""
    return [
        _line(method, [float(_scores(evidence, method, task).every.mean()) for task in tasks])
        for method in _in_order(methods)
    ]


def _gains(comparisons: Sequence[Comparison]) -> list[str]:
    """Every gain with its interval, a line each, below a line that says of what over what."""
    lines = []
    for each in comparisons:
        lines.append(f"gain of {METHODS[each.method]} over {METHODS[each.other]}:")
        for task, gain in each.gains.items():
            lines.append(f"{_label(task)} {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")
    return lines


def _label(task: str) -> str:
    return {"inpainting": "in-painting", COMPOSED: "in-painting + segmentation"}.get(task, task.replace("_", " "))


def _tasks(names: Sequence[str]) -> str:
    return _and([_label(name) for name in names])


def _and(items: Sequence[str]) -> str:
    """Items as a phrase: a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
