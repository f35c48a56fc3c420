"""Means with intervals that cover what they say, and what follows from the difference of two methods.

Scores of one image, or of one patient or video, hang together. What is independent is the *group*, and every formula
here is over groups; where nothing is said of them, every score is one of its own.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from taskvec.tasks import Metric

FEWEST = 5  # independent groups below which nothing is said of a mean but the mean
CONFIDENCE = 0.95
IOU_MARGIN = 0.02  # two methods whose IoU differs by less do equally well
ERROR_MARGIN = 0.05  # the same for errors, as a share of that of the method which is compared with

Verdict = Literal["better", "not worse", "worse", "undecided", "too few"]


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval by Student's t over ``groups`` independent groups of scores.

    Without a second group, ``low`` and ``high`` are minus and plus infinity: one number says nothing of its spread.
    """

    mean: float
    low: float
    high: float
    groups: int

    @property
    def too_few(self) -> bool:
        """Whether there are so few groups that no conclusion should be drawn, however narrow the interval looks."""
        return self.groups < FEWEST


def interval(scores: Float[np.ndarray, " n"], groups: Sequence[Hashable] | None = None) -> Interval:
    """The mean of scores, each with the same weight, and its interval over the groups that they are in.

    With m_g scores of sum s_g in group g, the mean is the ratio of two sums, sum s_g / sum m_g, whose variance is that
    of the residuals s_g - mean * m_g (Cochran, Sampling Techniques, section 6.3); for groups of equal size that is
    Student's t over their means. Raises ValueError where there is no score, or one that is not finite.
    """
    if len(scores) == 0:
        raise ValueError("there are no scores, whose mean was asked for")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite numbers")
    numbers = _numbered(range(len(scores)) if groups is None else groups)
    sums, counts = np.bincount(numbers, scores), np.bincount(numbers)
    mean = float(scores.mean())
    independent = len(sums)
    if independent < 2:
        return Interval(mean, -np.inf, np.inf, independent)
    residuals = (sums - mean * counts) / counts.mean()
    error = np.sqrt(residuals.var(ddof=1) / independent)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, independent - 1) * error)
    return Interval(mean, mean - reach, mean + reach, independent)


def nested_interval(
    scores: Sequence[Float[np.ndarray, " n"]], groups: Sequence[Sequence[Hashable]] | None = None
) -> Interval:
    """The mean over runs, folds or seeds that each have scores of their own, with the spread between them.

    Student's t over the means of the runs, which holds what searches and images add to it alike; never narrower than
    what images alone make it, as a few runs may agree by chance. ``groups`` of that interval are those of all runs
    together: a photograph of two folds is one. Raises as ``interval`` does.
    """
    every = np.concatenate(scores)
    names = None if groups is None else [name for run in groups for name in run]
    within = interval(every, names)
    if len(scores) < 2:
        return within
    between = interval(np.array([run.mean() for run in scores]))
    reach = max(between.high - between.mean, within.high - within.mean)
    return Interval(between.mean, between.mean - reach, between.mean + reach, within.groups)


def gain(
    metric: Metric,
    scores: Float[np.ndarray, " n"],
    others: Float[np.ndarray, " n"],
    groups: Sequence[Hashable] | None = None,
) -> Interval:
    """By how much the first scores are better than the second of the same queries: positive is better for any metric.

    The difference is taken query by query, so that what makes a query hard for both is not in its spread.
    """
    return interval(improvements(metric, scores, others), groups)


def improvements(
    metric: Metric, scores: Float[np.ndarray, "*n"], others: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    """Differences of scores of the same queries, positive where the first is the better one."""
    if len(scores) != len(others):
        raise ValueError(f"{len(scores)} scores and {len(others)} others are not of the same queries")
    return scores - others if metric == "iou" else others - scores


def margin(metric: Metric, reference: float) -> float:
    """How much worse than ``reference``, the mean score of what is compared with, is still as good."""
    return IOU_MARGIN if metric == "iou" else ERROR_MARGIN * reference


def verdict(difference: Interval, allowed: float) -> Verdict:
    """What follows from a gain, at 2.5 % of error to either side.

    ``better``: the whole interval is above 0. ``not worse``: all of it is above minus ``allowed``, a test of
    non-inferiority. ``worse``: all of it is below 0 and some below minus ``allowed``. ``undecided``: none of these, for
    a lack of evidence proves nothing. ``too few``: fewer than five independent groups.
    """
    if difference.too_few:
        return "too few"
    if difference.low > 0:
        return "better"
    if difference.low > -allowed or (difference.low == difference.high == 0):
        return "not worse"
    return "worse" if difference.high < 0 else "undecided"


def _numbered(groups: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Groups as numbers from 0 on."""
    known = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return np.array([known[name] for name in groups])
