"""After a search: the sites of its set that harm, and how the loss depends on the number of sites."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from taskvec.search.attribution import COARSE, prefixes, sizes
from taskvec.search.cma import mean_over_tasks
from taskvec.search.finite import FiniteLosses, NonFinite
from taskvec.search.gradient import COST_OF_A_GRADIENT, finite_gradient, items_by_task
from taskvec.search.problem import Problem, one_site_masks
from taskvec.search.selection import Judge
from taskvec.search.settings import SearchResult

SUSPECTS = 8  # sites of a set that are left out, one at a time, on validation items


def prune(problem: Problem, result: SearchResult, non_finite: NonFinite = "refuse") -> SearchResult:
    """The result without the sites that are better left out, and with the sites that harm as ``harmful``.

    Suspects are the SUSPECTS sites of the set whose removal helps most on the items searched on: to first order, at
    the whole set, where there is a gradient, else as measured. A suspect harms where the set without it has a lower
    loss on validation items. Of these the worst 1, 2, 4, ... and all are left out together, if that lowers the loss;
    ``loss`` is that on validation items. Raises ValueError where the problem has none.
    """
    finite = FiniteLosses(non_finite, problem.names)
    judge = _judge(problem, finite)
    gains, cost = _gains_of_removal(problem, result, finite)
    order = gains.argsort(descending=True, stable=True)
    suspects = order[(result.mask & (gains > 0))[order]][: min(SUSPECTS, int(result.mask.sum()) - 1)]
    without = result.mask & ~one_site_masks(suspects, problem.sites)
    loss, *alone = judge.losses(torch.cat([result.mask[None], without])).tolist()
    worst_first = sorted(zip(alone, suspects.tolist(), strict=True))
    harmful = tuple(site for of_rest, site in worst_first if of_rest < loss)
    mask = result.mask
    if harmful:
        dropped = one_site_masks(torch.tensor(harmful), problem.sites).cumsum(0).bool()
        left = mask & ~dropped[[count - 1 for count in sizes(len(harmful), COARSE)]]
        judged = judge.best(left)  # the first of them is known to be better
        loss, mask = (loss, mask) if judged is None else judged
    counted = {"evaluations": result.evaluations + cost, "non_finite": result.non_finite + finite.count}
    return replace(result, mask=mask, loss=loss, harmful=harmful, **counted)


def with_curve(problem: Problem, result: SearchResult, non_finite: NonFinite = "refuse") -> SearchResult:
    """The result with its ``curve``: the validation loss of the 1, 2, 4, ... sites with the highest scores, up to as
    many as a set may have, without losses that are not finite. A result without scores has no curve.

    Raises ValueError where the problem has no validation items.
    """
    if result.scores is None:
        return result
    finite = FiniteLosses(non_finite, problem.names)
    counts = sizes(problem.most, COARSE)
    losses = _judge(problem, finite).losses(prefixes(result.scores.nan_to_num(-torch.inf), counts))
    curve = tuple((count, loss) for count, loss in zip(counts, losses.tolist(), strict=True) if loss < torch.inf)
    return replace(result, curve=curve, non_finite=result.non_finite + finite.count)


def _judge(problem: Problem, finite: FiniteLosses) -> Judge:
    if problem.validate is None:
        raise ValueError("sets of sites are compared on validation items, which this problem lacks")
    return Judge(problem.validate, finite)


def _gains_of_removal(
    problem: Problem, result: SearchResult, finite: FiniteLosses
) -> tuple[Float[Tensor, " sites"], int]:
    """By how much the loss falls without each site of the set, and the evaluations that it took."""
    groups = items_by_task(problem)
    gains, cost = torch.zeros(len(groups), problem.sites), 0
    chosen = result.mask.nonzero()[:, 0]
    for task, items in enumerate(groups):
        if problem.differentiate is not None:
            what = "the set that was found"
            _, gains[task], runs = finite_gradient(problem.differentiate, result.mask.float(), items, finite, what)
            cost += COST_OF_A_GRADIENT * runs
        else:
            masks = torch.cat([result.mask[None], result.mask & ~one_site_masks(chosen, problem.sites)])
            losses = problem.evaluate_product(masks, items)
            kept = finite.of(losses.flatten(), "losses without a site").view_as(losses).all(1)
            means = losses.mean(1).where(kept, torch.inf)
            gains[task, chosen] = means[0] - means[1:]
            cost += losses.numel()
    return gains[0] if problem.tasks is None else mean_over_tasks(gains), cost
