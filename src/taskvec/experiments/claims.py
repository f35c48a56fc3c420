"""The claims of the paper, and one of ours, each with the rule by which what was measured decides whether it holds.

A method is better than another where the 95 % interval of its gain, prompt by prompt, is above 0, and not worse where
it is above minus a margin. A claim whose conditions are neither shown nor refuted cannot be told. Every condition has
2.5 % of error to either side; a claim of several methods or tasks needs all of its conditions, and falls by one.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from statistics import fmean

from scipy.special import ndtri

from taskvec.experiments import gains
from taskvec.experiments.evidence import COMPOSED, LANGUAGE_METHODS, METHOD_TITLES, OPPONENTS, XRAYS, Evidence
from taskvec.experiments.gains import (
    Answer,
    Finding,
    NotMeasuredError,
    compare,
    compared,
    gains_of,
    judgement_of,
    label,
    listed,
    means_of,
    names,
    notes,
    scores_of,
)
from taskvec.experiments.paper import TABLE_3, TABLE_4, TABLE_5, TABLE_9, TASKS, means
from taskvec.intervals import CONFIDENCE, Interval
from taskvec.results import Verdict, contrast
from taskvec.search.greedy import PAPER_LAYERS

PAPER = {method: means(printed) for method, printed in {**TABLE_9, **TABLE_4, **TABLE_3}.items()}
PAPER |= {method: (fmean(means(TABLE_5[method])),) for method in ("vectors_encoder", "vectors_decoder")}
SAVED, SAVED_WITHIN = 0.225, 0.005  # of a one-shot prompt's operations
SAVED_IN_LANGUAGE = 0.9  # of a prompt's with ten examples
DONE_WITH_EXAMPLES = 0.3  # top-1, from which on a model is said to do a relation
PAPER_SHARE = 0.3  # of sites, that greedy random search starts from in the layers of PAPER_LAYERS
STRONG = 0.5  # a rank correlation
LITTLE = 0.1  # of a score, which an example may change at most to change little

Rule = Callable[[Evidence], Finding]
CLAIMS: list[Callable[[Evidence], Verdict]] = []


def verdicts(evidence: Evidence) -> list[Verdict]:
    """The judgement of every claim, C1 to C14 of the paper and C15 of ours, computed from the evidence alone."""
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
            return Verdict(
                name, statement, paper, "\n".join(finding.ours), rule, finding.judgement, finding.explanation
            )

        CLAIMS.append(judged)
        return judged

    return register


def printed(*methods: str) -> str:
    return gains.printed(*methods, of=PAPER)


@claim(
    "C1",
    "Task-specific task vectors, without any example, beat one-shot prompting on all four tasks.",
    paper=printed("one_shot", "vectors"),
    rule="Holds where task vectors (task-specific) are better than one-shot prompting at every task.",
)
def beats_one_shot(evidence: Evidence) -> Finding:
    return compared(evidence, [compare(evidence, "vectors", "one_shot")])


@claim(
    "C2",
    "Multi-task task vectors, one set of sites for all tasks, match or beat one-shot prompting on all four tasks.",
    paper=printed("one_shot", "vectors_multi"),
    rule="Holds where task vectors (multi-task) are not worse than one-shot prompting, within the margin, at "
    "every task.",
)
def multi_task_matches_one_shot(evidence: Evidence) -> Finding:
    return compared(evidence, [compare(evidence, "vectors_multi", "one_shot", needs_better=False)])


@claim(
    "C3",
    "Sites chosen by causal mediation analysis (CMA) are worse than those found by the search.",
    paper=printed("cma", "vectors", "cma_multi", "vectors_multi"),
    rule="Holds where task vectors are better than CMA, for both variants (task-specific, multi-task), at every task.",
)
def mediation_is_worse(evidence: Evidence) -> Finding:
    variants = (("vectors", "cma"), ("vectors_multi", "cma_multi"))
    return compared(evidence, [compare(evidence, vectors, cma) for vectors, cma in variants])


@claim(
    "C4",
    "Greedy random search (GRS) lies between causal mediation analysis (CMA) and task vectors.",
    paper=printed("cma", "greedy", "vectors", "cma_multi", "greedy_multi", "vectors_multi"),
    rule="Holds where GRS is better than CMA, and task vectors are not worse than GRS, within the margin, for "
    "both variants (task-specific, multi-task), at every task.",
)
def greedy_is_between(evidence: Evidence) -> Finding:
    comparisons = []
    for variant in ("", "_multi"):
        comparisons.append(compare(evidence, f"greedy{variant}", f"cma{variant}"))
        comparisons.append(compare(evidence, f"vectors{variant}", f"greedy{variant}", needs_better=False))
    return compared(evidence, comparisons)


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
        comparisons.append(compare(evidence, "vectors", baseline))
        comparisons.append(compare(evidence, "one_shot", baseline, [task for task in TASKS if task != excepted]))
    return compared(evidence, comparisons)


@claim(
    "C6",
    "Tokens and quadrants are equally good units to search; whole heads are clearly worse.",
    paper=gains.printed(*TABLE_4, of={method: means(row) for method, row in TABLE_4.items()}),
    rule="Holds where quadrants are better than heads, and the difference between tokens and quadrants, either way, is "
    "below half of that gain, with its interval, for both variants (task-specific, multi-task), at every task.",
)
def heads_are_too_coarse(evidence: Evidence) -> Finding:
    over_heads = [compare(evidence, name, f"{name}_head") for name in ("vectors", "vectors_multi")]
    over_quadrants = [compare(evidence, f"{name}_token", name) for name in ("vectors", "vectors_multi")]
    alike: dict[Answer, list[str]] = {"shown": [], "open": [], "refuted": []}
    alikeness: list[Answer] = []
    for name in ("vectors", "vectors_multi"):
        for task in TASKS:
            quadrants, heads, tokens = (scores_of(evidence, f"{name}{kind}", task) for kind in ("", "_head", "_token"))
            sign = 0.5 if quadrants.metric.better == "higher" else -0.5
            half = ((sign, quadrants), (-sign, heads))  # of the gain over heads
            below = [contrast(*half, (way, tokens), (-way, quadrants)) for way in (1.0, -1.0)]
            alikeness.append(_all_positive(below))
            alike[alikeness[-1]].append(f"{METHOD_TITLES[name]} at {label(task)}")
    coarse = compared(evidence, over_heads)
    both = [*over_heads, *over_quadrants]
    ours = [*means_of(evidence, {name for each in both for name in (each.method, each.other)}), "", *gains_of(both)]
    told = [coarse.explanation]
    if alike["refuted"]:
        told.append(
            f"Tokens differ from quadrants by more than half of the gain over heads: {listed(alike['refuted'])}."
        )
    if alike["open"]:
        told.append(f"Whether tokens differ from quadrants by less than that is not told: {listed(alike['open'])}.")
    if len(alike["shown"]) == 2 * len(TASKS):
        told.append("Tokens and quadrants are alike.")
    answers: list[Answer] = [*(each.answer(task) for each in over_heads for task in TASKS), *alikeness]
    return Finding(judgement_of(answers), ours, " ".join(told))


def _all_positive(intervals: Sequence[Interval]) -> Answer:
    """Whether all of several numbers are above 0."""
    if any(each.too_few for each in intervals):
        return "open"
    if all(each.low > 0 for each in intervals):
        return "shown"
    return "refuted" if any(each.high <= 0 for each in intervals) else "open"


@claim(
    "C7",
    "Sites in the encoder alone do far worse than sites in the decoder alone, which do no better than both.",
    paper=f"{METHOD_TITLES['vectors']}: 0.325\n{printed('vectors_encoder', 'vectors_decoder')}",  # 0.325: Table 5's own
    rule="Holds where, at segmentation, decoder only is better than encoder only, and both together are not worse than "
    "decoder only, within the margin.",
)
def decoder_matters_more(evidence: Evidence) -> Finding:
    at = ["segmentation"]
    decoder = compare(evidence, "vectors_decoder", "vectors_encoder", at)
    both = compare(evidence, "vectors", "vectors_decoder", at, needs_better=False)
    return compared(evidence, [decoder, both])


@claim(
    "C8",
    "Heads of higher taskness cluster their activations better by task.",
    paper="head (26, 3): taskness 2.17, silhouette 0.358, Davies-Bouldin 1.27\n"
    "head (2, 12): taskness 0.026, silhouette -0.033, Davies-Bouldin 13.6",
    rule="Holds where, over all heads, the rank correlation (Spearman) of taskness is above 0 with the silhouette "
    "score, where higher is better, and below 0 with the Davies-Bouldin score, where lower is better, both with their "
    "95 % intervals (Bonett and Wright, 2000), which take heads for independent.",
)
def taskness_follows_clustering(evidence: Evidence) -> Finding:
    if evidence.clustering is None or evidence.heads is None:
        raise NotMeasuredError("Clustering scores of the heads were not measured")
    silhouette, davies_bouldin = (_of_ranks(each, evidence.heads) for each in evidence.clustering)
    ours = [
        f"{name}: {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
        for name, found in (("rank correlation with silhouette", silhouette), ("with Davies-Bouldin", davies_bouldin))
    ]
    if silhouette.high < 0 or davies_bouldin.low > 0:
        explanation = "Taskness does not rank this model's heads as clustering by task does."
        return Finding("does not hold", ours, explanation)
    if not (silhouette.low > 0 > davies_bouldin.high):
        open_ones = [
            name
            for name, found in (("silhouette", silhouette), ("Davies-Bouldin", davies_bouldin))
            if found.low <= 0 <= found.high
        ]
        explanation = f"The sign of the correlation with {listed(open_ones)} is open with {evidence.heads} heads."
        return Finding("cannot be told", ours, explanation)
    if silhouette.mean > STRONG and davies_bouldin.mean < -STRONG:
        explanation = f"Both correlations, of one sample of prompts, are beyond {STRONG} in size."
    else:
        explanation = f"The signs are right, but not both correlations are beyond {STRONG} in size."
    return Finding("holds", ours, explanation)


def _of_ranks(correlation: float, count: int) -> Interval:
    """Spearman's correlation with its interval: Fisher's z with Bonett and Wright's standard error."""
    if count <= 3 or math.isnan(correlation):
        return Interval(correlation, -1.0, 1.0, count)
    reach = float(ndtri((1 + CONFIDENCE) / 2)) * math.sqrt((1 + correlation**2 / 2) / (count - 3))
    middle = math.atanh(max(-1 + 1e-9, min(1 - 1e-9, correlation)))
    return Interval(correlation, math.tanh(middle - reach), math.tanh(middle + reach), count)


@claim(
    "C9",
    "With task vectors in place, an example in the prompt changes little.",
    paper=printed("vectors", "one_shot_vectors"),
    rule="Holds where, at every task, the gain of one-shot prompting with task vectors over task vectors alone, either "
    f"way, is below {LITTLE:.0%} of the score of task vectors alone, with its interval.",
)
def examples_add_little(evidence: Evidence) -> Finding:
    comparison = compare(evidence, "one_shot_vectors", "vectors")
    answers: dict[str, Answer] = {}
    for task in TASKS:
        alone, beside = scores_of(evidence, "vectors", task), scores_of(evidence, "one_shot_vectors", task)
        ways = (contrast((LITTLE, alone), (way, beside), (-way, alone)) for way in (1.0, -1.0))
        answers[task] = _all_positive(list(ways))
    large = [task for task, answer in answers.items() if answer == "refuted"]
    helps = [task for task in large if comparison.gains[task].mean > 0]
    hurts = [task for task in large if task not in helps]
    left = [task for task, answer in answers.items() if answer == "open"]
    told = []
    if helps:
        told.append(f"The example still helps at {names(helps)}: task vectors hold less than it tells the model.")
    if hurts:
        told.append(f"The example does harm at {names(hurts)}: these vectors were found for queries without one.")
    if left:
        told.append(f"At {names(left)} it is open whether the difference reaches {LITTLE:.0%}.")
    told = told or [f"No gain or loss reaches {LITTLE:.0%}."]
    told += notes(comparison.gains.values())
    ours = [*means_of(evidence, ["vectors", "one_shot_vectors"]), "", *gains_of([comparison])]
    return Finding(judgement_of(answers.values()), ours, " ".join(told))


@claim(
    "C10",
    "Task vectors can be added: in-painting + segmentation - identity does both at once.",
    paper="pictures only (Figure 7)",
    rule="Holds where, on images with a hole and the object's whole mask as truth, the combined vectors are better "
    "than those of segmentation and those of in-painting alone (all multi-task).",
)
def vectors_add_up(evidence: Evidence) -> Finding:
    parts = ("vectors_multi", "inpainting_multi")
    return compared(evidence, [compare(evidence, "combined", part, [COMPOSED]) for part in parts])


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
    holds = abs(saved["published"] - SAVED) <= SAVED_WITHIN  # a count: nothing of it is by chance
    return Finding("holds" if holds else "does not hold", ours, explanation)


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
    found = compared(xrays, [compare(xrays, "vectors", "query_only", list(XRAYS))])
    codes = compare(xrays, "reconstruction", "vectors", list(XRAYS))
    left = listed([f"{gain.mean:.3f} at {label(task)}" for task, gain in codes.gains.items()])
    explanation = (
        f"{found.explanation} The tokenizer's reconstruction, which is blurred too, is ahead by {left} in the mean."
    )
    return Finding(found.judgement, [*found.ours, *gains_of([codes])], explanation)


@claim(
    "C13",
    "In a language model, task vectors without examples come close to, or beat, ten examples, and beat causal "
    "mediation analysis, at 92.5 % fewer operations.",
    paper="Llama-2-7B: landmark-country, present-past, country-capital (top-1)\n"
    "ten examples: 0.880, 0.967, 0.951\nCMA: 0.691, 0.880, 0.825\ntask vectors: 0.863, 0.983, 0.952",
    rule="Of the relations that the model does with examples, to more than .3: holds where task vectors are not worse "
    "than the examples, within the margin, and better than CMA at every one, and save 90 % of the operations or more.",
)
def works_in_language_models(evidence: Evidence) -> Finding:
    language = evidence.language
    if language is None:
        raise NotMeasuredError("There is no language model here; the experiment table-8 judges it with one")
    known = [name for name in language.relations if language.scores["one_shot", name].mean > DONE_WITH_EXAMPLES]
    if not known:
        raise NotMeasuredError(f"{language.model} does none of these relations with examples")
    shown: list[gains.Comparison] = []
    for other, needs_better in (("one_shot", False), ("cma", True)):
        pairs = {name: (language.scores["vectors", name], language.scores[other, name]) for name in known}
        shown.append(
            gains.Comparison(
                "vectors",
                other,
                {name: ours.gain_over(theirs) for name, (ours, theirs) in pairs.items()},
                {name: theirs.metric.allowed(theirs.mean) for name, (_, theirs) in pairs.items()},
                needs_better,
            )
        )
    answers: list[Answer] = [each.answer(name) for each in shown for name in known]
    answers.append("shown" if language.saved >= SAVED_IN_LANGUAGE else "refuted")
    ours = [f"{language.model}: {', '.join(known)} (top-1)"]
    for method in ("one_shot", "cma", "reinforce", "vectors"):
        means_of_method = ", ".join(f"{language.scores[method, name].mean:.3f}" for name in known)
        ours.append(f"{LANGUAGE_METHODS[method]}: {means_of_method}")
    ours.append(f"operations saved: {language.saved:.1%}")
    told = []
    for each in shown:
        what = "better than CMA" if each.needs_better else "as good as examples, within the margin"
        missing = each.tasks("refuted") + each.tasks("open")
        told.append(f"Task vectors are shown to be {what}" + (f", but not at {listed(missing)}." if missing else "."))
    left = [name for name in language.relations if name not in known]
    if left:
        told.append(f"The model does not do {listed(left)} with examples, which count nothing here.")
    return Finding(judgement_of(answers), ours, " ".join(told))


@claim(
    "C14",
    "Greedy random search starts best from k = 17 of the 32 layers and a share of p = 0.3 of their quadrants.",
    paper="k = 17 of 32 layers, p = 0.3 (Figure 14)",
    rule="Holds where the paper's start is not worse, within the margin, than any other of the grid on the items that "
    "were searched on, and does not where it is worse than one by more than that: p = 0.3 and, as another model has "
    "another number of layers, the k of the grid that is nearest to 17/32 of them.",
)
def start_of_greedy_search(evidence: Evidence) -> Finding:
    starts = evidence.starts
    if not starts or evidence.layers is None:
        raise NotMeasuredError("No grid of starts of greedy random search was run")
    wanted = PAPER_LAYERS * evidence.layers
    papers = (min((k for k, _ in starts), key=lambda k: abs(k - wanted)), PAPER_SHARE)
    if papers not in starts:
        raise NotMeasuredError(f"The grid of starts has no k = {papers[0]} with p = {PAPER_SHARE}")
    best = max(starts, key=lambda start: (starts[start].mean, start == papers))
    over = {start: starts[papers].gain_over(starts[start]) for start in starts if start != papers}
    metric = starts[papers].metric
    allowed = metric.allowed(0.0)
    not_worse: list[Answer] = [_all_positive([_raised(gain, allowed)]) for gain in over.values()]
    ours = [
        f"{name}: k = {k} of {evidence.layers} layers, p = {p:g}, {metric.label} {starts[k, p].mean:.3f}"
        for name, (k, p) in (("best", best), ("the paper's", papers))
    ]
    if best != papers:
        gain = over[best]
        ours.append(f"the paper's over the best: {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]")
    counts = Counter(not_worse)
    explanation = (
        f"Of {len(over)} other starts the paper's is not worse than {counts['shown']}, worse than "
        f"{counts['refuted']}, and not told apart from {counts['open']}. A start is the best of some random draws on "
        "few images, so that neighbours in the grid differ by chance too."
    )
    return Finding(judgement_of(not_worse), ours, " ".join([explanation, *notes(over.values())]))


@claim(
    "C15",
    "Task vectors, without any example, beat the strongest prompts that are known on all four tasks.",
    paper="not in the paper, which compares with a support at random",
    rule="Holds where task vectors (task-specific) are better than each of these at every task: the nearest support, "
    "the mean of the five nearest, that of five at random, that of eight arrangements of the canvas.",
)
def beats_strong_prompts(evidence: Evidence) -> Finding:
    return compared(evidence, [compare(evidence, "vectors", opponent) for opponent in OPPONENTS])


def _raised(gain: Interval, by: float) -> Interval:
    return replace(gain, mean=gain.mean + by, low=gain.low + by, high=gain.high + by)
