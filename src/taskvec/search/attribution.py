"""Attribution: the effect of every site to first order, all of them by one forward and one backward pass.

With a share s of the mean at every site, z + s (mean - z), the gradient of the loss by a site's share at 0 is
(gradient by z) . (mean - z), summed over the site's positions. Its negative is the first-order estimate of the causal
effect that ``search.cma`` measures by a run for each site (attribution patching; Nanda 2023, Syed et al. 2023), and its
mean along the line from no patch to the patch of all sites are integrated gradients (Sundararajan et al. 2017).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.search.checkpoint import Checkpoint
from taskvec.search.cma import mean_over_tasks
from taskvec.search.finite import FiniteLosses, NonFinite
from taskvec.search.gradient import COST_OF_A_GRADIENT, finite_gradient, items_by_task
from taskvec.search.problem import Problem
from taskvec.search.selection import Judge
from taskvec.search.settings import Need, OnStep, SearchResult, SearchSettings

FINE, COARSE = math.sqrt(2), 2.0  # ratios of the numbers of sites that are tried


@dataclass(frozen=True)
class AttributionSettings(SearchSettings):
    """The sites with the highest ``attributed_effects``: as many as are best on validation items, of numbers that grow
    by about the square root of 2, judged by halving as in ``Selection``. ``points`` is how many gradients are taken of
    every item on the line from no patch to the patch of all sites; one is the effect to first order. Nothing is drawn.
    """

    name: ClassVar[str] = "attribution"
    needs: ClassVar[frozenset[Need]] = frozenset({"differentiate", "validate"})
    preset: ClassVar[str] = "best"

    points: int = 1

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"attribution needs at least 1 point, not {self.points}")

    @property
    def number_of_steps(self) -> int:
        return self.points

    def search(
        self,
        problem: Problem,
        on_step: OnStep = lambda record: None,
        checkpoint: Checkpoint | None = None,
        non_finite: NonFinite = "refuse",
    ) -> SearchResult:
        """The best prefix of the sites ranked by effect, of at most ``problem.at_most``.

        There is a record of every point, the last of which has the validation loss and the number of sites. An
        interrupted search has nothing to end with: KeyboardInterrupt passes. Raises ValueError where no prefix has a
        finite loss.
        """
        self.required(problem.differentiate, "differentiate")
        finite = FiniteLosses(non_finite, problem.names)
        judge = Judge(self.required(problem.validate, "validate"), finite, halving=True, screen=problem.screen)
        history: list[dict[str, Any]] = []

        def record(step: dict[str, Any]) -> None:
            history.append(step)
            if step["step"] < self.points:  # the last has more to say
                on_step(step)

        effects, evaluations = attributed_effects(problem, self.points, record, finite)
        best = judge.best(prefixes(effects, sizes(problem.most, FINE)))
        if best is None:
            raise ValueError("the validation loss of no set of sites is finite")
        loss, mask = best
        before = sum(each.get("non_finite", 0) for each in history[:-1])
        history[-1] |= {"validation_loss": loss, "chosen_sites": int(mask.sum())} | finite.since(before)
        on_step(history[-1])
        return SearchResult(mask, loss, len(history), effects, history, evaluations, False, finite.count)


def attributed_effects(
    problem: Problem,
    points: int = 1,
    on_step: OnStep = lambda record: None,
    finite: FiniteLosses | None = None,
) -> tuple[Float[Tensor, " sites"], int]:
    """By how much patching each site would lower the mean loss over items, to first order, and the evaluations it took.

    It is minus the mean of the gradient by the site's share at shares 0, 1 / points, 2 / points, ... of all sites. Of
    several tasks, a task's effects are divided by their standard deviation over sites as in ``causal_effects``.
    ``on_step`` sees a record of every point: step, mean loss, sum of shares, and evaluations so far. Losses that are
    not finite go to ``finite``; items that are left out do not count. Raises ValueError where a gradient is not finite.
    """
    finite = finite or FiniteLosses(names=problem.names)
    if (differentiate := problem.differentiate) is None:
        raise ValueError("attribution needs a gradient, which this problem lacks")
    groups = items_by_task(problem)
    effects, evaluations = torch.zeros(len(groups), problem.sites), 0
    for point in range(points):
        before, share, losses = finite.count, point / points, []
        for task, items in enumerate(groups):
            shares = torch.full((problem.sites,), share)
            own, gradient, runs = finite_gradient(differentiate, shares, items, finite, f"point {point + 1}")
            if not gradient.isfinite().all():
                raise ValueError(f"the gradient of point {point + 1} is not finite")
            effects[task] -= gradient / points
            evaluations += COST_OF_A_GRADIENT * runs
            losses.append(own[own.isfinite()])
        record = {"step": point + 1, "loss": float(torch.cat(losses).mean()), "sites": share * problem.sites}
        on_step(record | {"evaluations": evaluations} | finite.since(before))
    return effects[0] if problem.tasks is None else mean_over_tasks(effects), evaluations


def sizes(most: int, ratio: float) -> list[int]:
    """Numbers of sites from 1 to ``most``, both included, that grow by about ``ratio``, which is above 1."""
    powers = range(math.ceil(math.log(most, ratio)) + 1)
    return sorted({min(round(ratio**power), most) for power in powers} | {most})


def prefixes(scores: Float[Tensor, " sites"], counts: Sequence[int]) -> Bool[Tensor, "counts sites"]:
    """For each of these counts, the mask of as many sites with the highest scores; the earlier of equal ones."""
    rank: Int[Tensor, " sites"] = scores.argsort(descending=True, stable=True).argsort()
    return rank[None] < torch.tensor(list(counts))[:, None]
