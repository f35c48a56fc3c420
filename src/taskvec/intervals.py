"""Means with intervals that cover what they say, and what follows from the difference of two methods.

Scores of one image, or of one patient or video, hang together. What is independent is the *group*, and every formula
here is over groups; where nothing is said of them, every score is one of its own. ``docs/statistics.md`` has what these
intervals cover in simulation, and the verdicts that follow from them.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from taskvec.data.examples import numbered
from taskvec.metrics import Metric

FEWEST = 5  # independent groups below which nothing is said of a mean but the mean
CONFIDENCE = 0.95

Verdict = Literal["better", "not worse", "worse", "undecided", "too few"]


@dataclass(frozen=True)
class Interval:
    """A mean and its interval, of 95 % unless another was asked for, by Student's t over ``groups`` independent groups
    of scores.

    Without a second group, ``low`` and ``high`` are minus and plus infinity: one number says nothing of its spread.
    ``runs`` are the searches, folds or seeds whose spread is in it; of one run it speaks of that run alone.
    """

    mean: float
    low: float
    high: float
    groups: int
    runs: int = 1

    @property
    def too_few(self) -> bool:
        """Whether there are so few groups that no conclusion should be drawn, however narrow the interval looks."""
        return self.groups < FEWEST


def interval(
    scores: Float[np.ndarray, " n"], groups: Sequence[Hashable] | None = None, confidence: float = CONFIDENCE
) -> Interval:
    """The mean of scores, each with the same weight, and its interval over the groups that they are in.

    The variance is the jackknife's that leaves out a group at a time, and Student's t has one degree of freedom less
    than there are groups; for groups of unequal size, than the effective number of groups, 1 / sum of squared shares of
    all scores (Kish, Survey Sampling, section 11.7). Of groups of equal size that is Student's t over their means.
    Raises ValueError where there is no score, or one that is not finite.
    """
    return nested_interval([scores], None if groups is None else [groups], confidence)


def nested_interval(
    scores: Sequence[Float[np.ndarray, " n"]],
    groups: Sequence[Sequence[Hashable]] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """The mean over runs, folds or seeds that each have scores of their own, with the spread between them.

    Every run has the same weight, and within it every score. What lies between runs has the degrees of freedom of runs.
    Groups that several runs share, a photograph of two seeds, do not differ between runs: what they add is the variance
    of groups less that of groups within runs (two-way clustering: Cameron, Gelbach and Miller, Journal of Business &
    Economic Statistics 29, 2011). Never narrower than what groups alone make it, as a few runs may agree by chance.
    ``groups`` of the result are those of all runs together. Raises as ``interval`` does.
    """
    if not len(scores) or not all(len(run) for run in scores):
        raise ValueError("there are no scores, whose mean was asked for")
    for run in scores:
        if not np.isfinite(run).all():
            raise ValueError(f"{int((~np.isfinite(run)).sum())} of {len(run)} scores are not finite numbers")
    every = np.concatenate(scores)
    runs = np.repeat(np.arange(len(scores)), [len(run) for run in scores])
    names = range(len(every)) if groups is None else [name for run in groups for name in run]
    numbers = numbered(names)
    if len(numbers) != len(every):
        raise ValueError(f"{len(every)} scores are in {len(numbers)} groups: each score needs one")
    shares = 1 / (len(scores) * np.array([len(run) for run in scores]))[runs]
    mean = float(np.mean([run.mean() for run in scores]))
    residuals = shares * (every - mean)
    of_groups = _Spread.of(residuals, shares, numbers)
    reach = of_groups.reach(confidence)
    if len(scores) > 1:
        of_runs = _Spread.of(residuals, shares, runs)
        of_both = _Spread.of(residuals, shares, numbered(list(zip(runs.tolist(), numbers.tolist(), strict=True))))
        shared = max(0.0, 1 - of_both.variance / of_groups.variance) if of_groups.variance else 0.0
        reach = max(reach, float(np.hypot(of_runs.reach(confidence), np.sqrt(shared) * reach)))
    return Interval(mean, mean - reach, mean + reach, len(np.unique(numbers)), len(scores))


@dataclass(frozen=True)
class _Spread:
    """The jackknife's variance of a mean that leaves out a cluster at a time, and its degrees of freedom."""

    variance: float
    freedom: float

    @classmethod
    def of(
        cls, residuals: Float[np.ndarray, " n"], shares: Float[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]
    ) -> "_Spread":
        """``residuals`` and ``shares`` are those of every score in the mean, ``numbers`` those of their clusters."""
        weights = np.bincount(numbers, shares)
        clusters = len(weights)
        if clusters < 2:
            return cls(np.inf, 0.0)
        left_out = np.bincount(numbers, residuals) / (1 - weights)
        return cls(float((clusters - 1) / clusters * (left_out**2).sum()), float(1 / (weights**2).sum() - 1))

    def reach(self, confidence: float) -> float:
        """Half the width of the interval."""
        if self.variance in (0, np.inf):
            return self.variance
        return float(stdtrit(self.freedom, (1 + confidence) / 2) * np.sqrt(self.variance))


def bounded(found: Interval, metric: Metric) -> Interval:
    """The interval without what no score can be: for people to read, not to compute with."""
    return replace(found, low=max(found.low, metric.low), high=min(found.high, metric.high))


def gain(
    metric: Metric,
    scores: Float[np.ndarray, " n"],
    others: Float[np.ndarray, " n"],
    groups: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """By how much the first scores are better than the second of the same queries: positive is better for any metric.

    The difference is taken query by query, so that what makes a query hard for both is not in its spread.
    """
    return interval(improvements(metric, scores, others), groups, confidence)


def improvements(
    metric: Metric, scores: Float[np.ndarray, "*n"], others: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    """Differences of scores of the same queries, positive where the first is the better one."""
    if len(scores) != len(others):
        raise ValueError(f"{len(scores)} scores and {len(others)} others are not of the same queries")
    return metric.gain(scores, others)


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
