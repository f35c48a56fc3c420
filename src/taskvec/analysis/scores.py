"""Taskness: how much a head output tells about the task, of a token, a head, a layer or a site.

Scores are of z, the head output before its projection. ``taskvec.analysis.projection`` gives those of the projected
vectors, which the paper keeps.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.sites import Sites
from taskvec.statistics import Statistics

TokenScores = Mapping[str, Float[Tensor, "layers heads tokens"]]
HeadScores = Mapping[str, Float[Tensor, "layers heads"]]


def taskness(statistics: Statistics) -> dict[str, Float[Tensor, "layers heads tokens"]]:
    """Between-task over within-task variance of every position, summed over the head's dimensions; NaN where unseen.

    0 where the tasks' means are equal, infinite where nothing varies but them. Equation 4 divides the total variance
    instead; for tasks of equal size that is this score plus one.
    """
    tasks = list(statistics.tasks.values())
    scores = {}
    for stack in tasks[0].mean:
        means = torch.stack([task.mean[stack] for task in tasks]).double()  # exact, so that equal means do not vary
        between = means.var(0, correction=0).sum(-1).float()
        within = torch.stack([task.variance[stack] for task in tasks]).mean(0).sum(-1)
        scores[stack] = torch.where(between == 0, between, between / within)
    return scores


def head_taskness(scores: TokenScores) -> dict[str, Float[Tensor, "layers heads"]]:
    """Mean over the tokens that a head sees. The paper does not say how its Figure 2 aggregates tokens."""
    return {stack: of_stack.nanmean(-1) for stack, of_stack in scores.items()}


def layer_taskness(scores: TokenScores) -> dict[str, Float[Tensor, " layers"]]:
    """Sum over the heads and seen tokens of a layer (rho_layer, Section 13.1).

    A layer that sees more tokens sums more of them. With equation 4 as printed every token would add one more, which
    keeps the order within a stack, but not between stacks that see unequal numbers of tokens.
    """
    return {stack: of_stack.nansum((-2, -1)) for stack, of_stack in scores.items()}


def site_taskness(sites: Sites, scores: TokenScores) -> Float[Tensor, " sites"]:
    """Mean over a site's seen positions, so that sites of unequal size compare; NaN where it has none.

    Raises ValueError where the scores do not fit the sites.
    """
    sums = torch.zeros(2, len(sites))
    for stack, index in sites.index.items():
        of_stack = _fitting(scores, stack, index)
        counted = (index >= 0) & ~of_stack.isnan()
        values = of_stack[counted].float()
        sums.index_add_(1, index[counted], torch.stack([values, torch.ones_like(values)]))
    total, count = sums
    return total / count


def layers_by_taskness(sites: Sites, scores: TokenScores) -> list[Int[Tensor, " members"]]:
    """The sites of every layer that has any, layers ordered by ``layer_taskness`` from high to low.

    Raises ValueError where the scores do not fit the sites.
    """
    layers = []
    for stack, index in sites.index.items():
        sums = layer_taskness({stack: _fitting(scores, stack, index)})[stack]
        layers += [(total, row[row >= 0].unique()) for total, row in zip(sums.tolist(), index, strict=True)]
    layers.sort(key=lambda layer: -layer[0])
    return [members for _, members in layers if len(members)]


def _fitting(scores: TokenScores, stack: str, index: Tensor) -> Tensor:
    if stack not in scores or scores[stack].shape != index.shape:
        given = tuple(scores[stack].shape) if stack in scores else "missing"
        raise ValueError(f"the scores of the {stack} are {given}, but its sites need {tuple(index.shape)}")
    return scores[stack]
