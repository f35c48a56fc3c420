"""What follows from the gains of one method over another: for a claim, and in words.

A gain is taken prompt by prompt, with its 95 % interval over groups and images. What it must be is shown, refuted or
open: that a difference was not found shows nothing (`taskvec.intervals.verdict`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from taskvec.experiments.evidence import METHOD_TITLES, Evidence
from taskvec.experiments.paper import TASKS
from taskvec.intervals import Interval, verdict
from taskvec.results import Judgement, Scores
from taskvec.tasks import title_of

NEARLY_ALL = 0.9  # of the way from the query alone to the tokenizer's reconstruction

Answer = Literal["shown", "open", "refuted"]


class NotMeasuredError(Exception):
    """What a claim needs was not measured; the message says what."""


@dataclass(frozen=True)
class Finding:
    """What a claim's rule found: the judgement, our numbers in lines, and why it came out so."""

    judgement: Judgement
    ours: Sequence[str]
    explanation: str


@dataclass(frozen=True)
class Comparison:
    """The gain of one method over another at each task, how much is as good, and whether the first must be better."""

    method: str
    other: str
    gains: dict[str, Interval]
    margins: dict[str, float]
    needs_better: bool = True

    def answer(self, task: str) -> Answer:
        """Whether the gain is what it must be.

        ``needs_better``: shown above 0, refuted below the margin, as a smaller gain is none to speak of. Otherwise:
        shown above minus the margin, refuted below it.
        """
        gain, allowed = self.gains[task], self.margins[task]
        found = verdict(gain, allowed)
        if found == "too few":
            return "open"
        if self.needs_better:
            return "shown" if found == "better" else "refuted" if gain.high < allowed or gain.high <= 0 else "open"
        return "shown" if found in ("better", "not worse") else "refuted" if gain.high < -allowed else "open"

    def tasks(self, answer: Answer) -> list[str]:
        return [task for task in self.gains if self.answer(task) == answer]


def judgement_of(answers: Iterable[Answer]) -> Judgement:
    """Of several conditions: one that is refuted decides, and one that is open leaves it open."""
    known = set(answers)
    return "does not hold" if "refuted" in known else "cannot be told" if "open" in known else "holds"


def scores_of(evidence: Evidence, method: str, task: str) -> Scores:
    """Raises NotMeasuredError where there are none."""
    if (method, task) not in evidence.scores:
        raise NotMeasuredError(f"There are no scores of {METHOD_TITLES[method]} at {label(task)}")
    return evidence.scores[method, task]


def compare(
    evidence: Evidence, method: str, other: str, tasks: Sequence[str] = TASKS, *, needs_better: bool = True
) -> Comparison:
    gains, margins = {}, {}
    for task in tasks:
        ours, theirs = scores_of(evidence, method, task), scores_of(evidence, other, task)
        gains[task], margins[task] = ours.gain_over(theirs), theirs.metric.allowed(theirs.mean)
    return Comparison(method, other, gains, margins, needs_better)


def compared(evidence: Evidence, comparisons: Sequence[Comparison]) -> Finding:
    """Holds where every comparison is shown at every task, and does not where one is refuted at one."""
    methods = {name for each in comparisons for name in (each.method, each.other)}
    tasks = max((list(each.gains) for each in comparisons), key=len)
    ours = [*means_of(evidence, methods, tasks), "", *gains_of(comparisons)]
    judgement = judgement_of(each.answer(task) for each in comparisons for task in each.gains)
    told: list[str] = []
    if judgement == "holds":
        told += ["Every gain is on its side of 0."] if any(each.needs_better for each in comparisons) else []
        told += [standing(each, list(each.gains)) for each in comparisons if not each.needs_better]
    for each in comparisons:
        lacking = [task for task in each.gains if each.answer(task) != "shown"]
        told += [standing(each, lacking)] if lacking else []
    if judgement == "does not hold":
        told += _reasons(evidence, [each for each in comparisons if each.tasks("refuted")])
    told += notes([gain for each in comparisons for gain in each.gains.values()])
    return Finding(judgement, ours, " ".join(told))


def notes(gains: Iterable[Interval]) -> list[str]:
    """What a reader must know of intervals: that few images decide nothing, and that one search is one."""
    known = list(gains)
    told = []
    if few := min((gain.groups for gain in known if gain.too_few), default=None):
        told.append(f"{few} independent {'image is' if few == 1 else 'images are'} too few to tell anything.")
    if any(gain.runs == 1 for gain in known):
        told.append("This is of one search of each method: by how much another one would differ is not known.")
    return told


def standing(comparison: Comparison, tasks: Sequence[str]) -> str:
    """How the first method stands to the other at these tasks."""
    places: dict[str, list[str]] = {}
    for task in tasks:
        places.setdefault(_place(comparison.gains[task], comparison.margins[task]), []).append(task)
    told = [f"{place} {METHOD_TITLES[comparison.other]} at {names(at)}" for place, at in places.items()]
    name = METHOD_TITLES[comparison.method]
    return f"{name[0].upper()}{name[1:]}: {'; '.join(told)}."


def _place(gain: Interval, allowed: float) -> str:
    found = verdict(gain, allowed)
    if found == "not worse":
        if gain.high < 0:
            return "worse by less than the margin than"
        return "as good as" if gain.high <= allowed else "not worse than"
    if found == "worse" and gain.high >= -allowed:
        return "worse, whether or not by more than the margin, than"
    if found == "undecided" and gain.high < allowed:
        return "at best as good as"
    words = {"better": "better than", "worse": "worse than", "too few": "on too few images to be told apart from"}
    return words.get(found, "not told apart from")


def _reasons(evidence: Evidence, failing: Sequence[Comparison]) -> list[str]:
    """What in data or model explains failures, where it was shown: no room to win, or no task done at all."""
    at = [(each, task) for each in failing for task in each.tasks("refuted")]
    full = _as_good(
        evidence, [(each.other, "reconstruction", task) for each, task in at if each.other != "reconstruction"]
    )
    blind = _as_good(evidence, [("query_only", "one_shot", task) for _, task in at])
    idle = _as_good(evidence, [("query_only", each.method, task) for each, task in at if each.method != "one_shot"])
    told = [
        f"There is no room at {label(task)}: {METHOD_TITLES[other]} is as good as the tokenizer's reconstruction."
        for other, _, task in full
    ]
    told += [
        f"There is little room at {label(task)}: in the mean, {METHOD_TITLES[other]} goes {way:.0%} of the way from "
        "the query alone to the tokenizer's reconstruction."
        for other, task in dict.fromkeys((each.other, task) for each, task in at)
        if (way := _way(evidence, other, task)) is not None and NEARLY_ALL <= way < 1
    ]
    told += [
        f"The model takes nothing from the example at {label(task)}: without it, it is as good." for *_, task in blind
    ]
    told += [
        f"No sites that do the task were found at {label(task)} by {METHOD_TITLES[method]}: the query alone is as good."
        for _, method, task in idle
    ]
    return told or ["Nothing that was measured of the data or the model explains it away."]


def _as_good(evidence: Evidence, pairs: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those (method, other, task), once each, that were measured and whose method was shown not to be worse."""
    found = []
    for method, other, task in dict.fromkeys(pairs):
        if {(method, task), (other, task)} <= evidence.scores.keys():
            comparison = compare(evidence, method, other, [task], needs_better=False)
            found += [(method, other, task)] if comparison.answer(task) == "shown" else []
    return found


def _way(evidence: Evidence, method: str, task: str) -> float | None:
    """How far a method gets from the query alone towards the tokenizer, 1 there; None where that is no way up."""
    scores = evidence.scores
    if not {(name, task) for name in (method, "query_only", "reconstruction")} <= scores.keys():
        return None
    start = scores["query_only", task]
    room = scores["reconstruction", task].gain_over(start).mean
    return scores[method, task].gain_over(start).mean / room if room > 0 else None


def means_of(evidence: Evidence, methods: Iterable[str], tasks: Sequence[str] = TASKS) -> list[str]:
    """What these methods score, a line each, as the paper's numbers are given."""
    return [line(method, [scores_of(evidence, method, task).mean for task in tasks]) for method in in_order(methods)]


def gains_of(comparisons: Sequence[Comparison]) -> list[str]:
    """Every gain with its interval, a line each, below a line that says of what over what."""
    lines = []
    for each in comparisons:
        lines.append(f"gain of {METHOD_TITLES[each.method]} over {METHOD_TITLES[each.other]}:")
        for task, gain in each.gains.items():
            lines.append(
                f"{label(task)} {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], margin {each.margins[task]:.4f}"
            )
    return lines


def printed(*methods: str, of: Mapping[str, Sequence[float]]) -> str:
    """The paper's numbers of these methods, a line each; tables differ in some."""
    return "\n".join(line(method, of[method]) for method in in_order(methods))


def line(method: str, means: Sequence[float]) -> str:
    return f"{METHOD_TITLES[method]}: {', '.join(f'{mean:.3f}' for mean in means)}"


def in_order(methods: Iterable[str]) -> list[str]:
    """Each once, in the order of METHOD_TITLES, so that the paper's lines and ours stand side by side."""
    wanted = set(methods)
    return [method for method in METHOD_TITLES if method in wanted]


def label(task: str) -> str:
    return title_of(task).lower()


def names(tasks: Sequence[str]) -> str:
    return listed([label(task) for task in tasks])


def listed(items: Sequence[str]) -> str:
    """Items as a phrase: a, b and c."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
