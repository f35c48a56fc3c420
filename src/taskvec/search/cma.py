"""Causal mediation analysis (Todd et al. 2023; Section 8.4): every site is patched alone, the most helpful are chosen.

effect(site) = mean over items of [loss(no patch, item) - loss(only this site patched, item)].
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.search.baselines import top_sites
from taskvec.search.found import Evaluate, Found, OnStep

SITES_PER_CALL = 256  # evaluated between two records, which is also where Ctrl-C is heard at the latest


@dataclass(frozen=True)
class CmaSettings:
    """``share`` of all sites is patched, 0.25 in the paper. Nothing is drawn, so there is no seed."""

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of sites is {self.share}: expected above 0 and at most 1")


def causal_effects(
    evaluate: Evaluate,
    sites: int,
    items: int,
    tasks: Int[Tensor, " items"] | None = None,
    on_step: OnStep = lambda record: None,
) -> Float[Tensor, " sites"]:
    """By how much patching each site alone lowers the loss, mean over items.

    With ``tasks``, each item's task, a task's effects are divided by their standard deviation over sites (ddof 1)
    before the mean over tasks, so that no task dominates. ``on_step`` sees a record of every call of ``evaluate``:
    step, mean loss, sites measured and evaluations so far.
    """
    each = torch.arange(items)
    unpatched = evaluate(torch.zeros(items, sites, dtype=torch.bool), each)
    effects = torch.empty(sites, items)
    for step, some in enumerate(torch.arange(sites).split(SITES_PER_CALL), 1):
        alone = torch.nn.functional.one_hot(some, sites).bool()
        losses = evaluate(alone.repeat_interleave(items, 0), each.repeat(len(some))).view(len(some), items)
        effects[some] = unpatched - losses
        measured = int(some[-1]) + 1
        record = {"step": step, "loss": float(losses.mean()), "sites": measured, "evaluations": items * (1 + measured)}
        on_step(record)
    if tasks is None:
        return effects.mean(1)
    by_task = torch.stack([effects[:, tasks == task].mean(1) for task in tasks.unique()])
    spread = by_task.std(1, correction=1, keepdim=True)
    return (by_task / torch.where(spread > 0, spread, 1.0)).mean(0)


def cma(
    evaluate: Evaluate,
    sites: int,
    items: int,
    settings: CmaSettings | None = None,
    tasks: Int[Tensor, " items"] | None = None,
    on_step: OnStep = lambda record: None,
) -> Found:
    """The ``share`` of sites, at least one, with the highest ``causal_effects``; its loss is the mean over all items.

    An interrupted search has nothing to end with: KeyboardInterrupt passes.
    """
    settings = settings or CmaSettings()
    history: list[dict[str, Any]] = []

    def record(step: dict[str, Any]) -> None:
        history.append(step)
        on_step(step)

    effects = causal_effects(evaluate, sites, items, tasks, record)
    mask = top_sites(effects, max(1, round(settings.share * sites)))
    loss = float(evaluate(mask.expand(items, -1), torch.arange(items)).mean())
    return Found(mask, loss, len(history), effects, history, items * (sites + 2), interrupted=False)
