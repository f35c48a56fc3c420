"""Causal mediation analysis (Todd et al. 2023; Section 8.4): every site is patched alone, the most helpful are chosen.

effect(site) = mean over items of [loss(no patch, item) - loss(only this site patched, item)].
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from taskvec.search.baselines import top_sites
from taskvec.search.checkpoint import Checkpoint
from taskvec.search.finite import FiniteLosses, NonFinite
from taskvec.search.problem import Problem, one_site_masks
from taskvec.search.settings import OnStep, SearchResult, SearchSettings

SITES_PER_CALL = 256  # evaluated between two records, which is also where Ctrl-C is heard at the latest


@dataclass(frozen=True)
class CmaSettings(SearchSettings):
    """``share`` of all sites is patched, 0.25 in the paper. Nothing is drawn."""

    name: ClassVar[str] = "cma"

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of sites is {self.share}: expected above 0 and at most 1")

    def search(
        self,
        problem: Problem,
        on_step: OnStep = lambda record: None,
        checkpoint: Checkpoint | None = None,
        non_finite: NonFinite = "refuse",
    ) -> SearchResult:
        """The ``share`` of sites, at least one and no more than ``problem.at_most``, with the highest
        ``causal_effects``; its loss is the mean over items.

        An interrupted search has nothing to end with: KeyboardInterrupt passes. A site with a loss that is not finite
        is not chosen. Raises ValueError where that leaves too few, or where the loss of the set is not finite.
        """
        finite = FiniteLosses(non_finite, problem.names)
        history: list[dict[str, Any]] = []

        def record(step: dict[str, Any]) -> None:
            history.append(step)
            on_step(step)

        effects = causal_effects(problem, record, finite)
        mask = top_sites(effects, min(max(1, round(self.share * problem.sites)), problem.most))
        (losses,) = problem.evaluate_product(mask[None], problem.every_item)
        kept = finite.of(losses, "losses of the chosen sites", problem.every_item)
        if not kept.any():
            raise ValueError("the loss of the chosen sites is finite on no item")
        loss, evaluations = float(losses[kept].mean()), problem.items * (problem.sites + 2)
        return SearchResult(mask, loss, len(history), effects, history, evaluations, False, finite.count)


def causal_effects(
    problem: Problem, on_step: OnStep = lambda record: None, finite: FiniteLosses | None = None
) -> Float[Tensor, " sites"]:
    """By how much patching each site alone lowers the loss, mean over items.

    Of several tasks, a task's effects are divided by their standard deviation over sites (ddof 1) before the mean over
    tasks, so that no task dominates. ``on_step`` sees a record of every ``SITES_PER_CALL`` sites: step, mean loss,
    sites measured and evaluations so far. Losses that are not finite go to ``finite``; where they are left out, the
    effect of their site is NaN, and items whose loss without a patch is not finite do not count.
    """
    finite = finite or FiniteLosses(names=problem.names)
    sites, items, tasks, each = problem.sites, problem.items, problem.tasks, problem.every_item
    (unpatched,) = problem.evaluate_product(torch.zeros(1, sites, dtype=torch.bool), each)
    counted = finite.of(unpatched, "losses without a patch", each)
    if not counted.any():
        raise ValueError("no item has a finite loss without a patch")
    effects = torch.empty(sites, items)
    for step, some in enumerate(torch.arange(sites).split(SITES_PER_CALL), 1):
        before = finite.count
        losses = problem.evaluate_product(one_site_masks(some, sites), each).flatten()
        kept = finite.of(losses, f"losses of sites {int(some[0])} to {int(some[-1])} alone", each.repeat(len(some)))
        if not kept.any():
            raise ValueError(f"none of {len(losses)} losses of sites {int(some[0])} to {int(some[-1])} alone is finite")
        effects[some] = unpatched - losses.where(kept, torch.nan).view(len(some), items)
        measured = int(some[-1]) + 1
        record = {"step": step, "loss": float(losses[kept].mean()), "sites": measured}
        on_step(record | {"evaluations": items * (1 + measured)} | finite.since(before))
    if tasks is None:
        return effects[:, counted].mean(1)
    by_task = torch.stack([effects[:, counted & (tasks == task)].mean(1) for task in tasks[counted].unique()])
    return mean_over_tasks(by_task)


def mean_over_tasks(effects: Float[Tensor, "tasks sites"]) -> Float[Tensor, " sites"]:
    """Each task's effects divided by their standard deviation over sites (ddof 1), the mean over tasks; NaN stays."""
    known = effects[:, effects.isfinite().all(0)]
    spread = known.std(1, correction=1, keepdim=True)
    return (effects / torch.where(spread > 0, spread, 1.0)).mean(0)
