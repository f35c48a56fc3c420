"""Greedy random search (Section 13.1): the best of some random sets, then the best flip of one site, layer by layer.

It minimises the mean loss over the items of the set alpha; of several tasks the mean over tasks of
(loss - centre) / spread, with a task's mean and standard deviation over the random sets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.search.finite import FiniteLosses
from taskvec.search.found import Evaluate, Found, OnStep

Layers = Sequence[Int[Tensor, " members"]]
Order = Literal["taskness", "random"]
ORDERS: tuple[Order, ...] = ("taskness", "random")
PAPER_LAYERS = 17 / 32  # of all layers, that the paper searches


@dataclass(frozen=True)
class GreedySettings:
    """The paper's settings by default (Section 13.2): the first 17 of 32 layers, and 100 trials of random sets with a
    ``share`` of 0.3 of their sites. ``layers`` None is as large a share of however many there are. The paper's limit of
    "10k iterations" is read as ten ``sweeps`` over the k layers. ``order`` tells who arranges the layers by what: their
    taskness, or chance, which is one of the paper's baselines. ``seed`` None is that of ``FindSettings``, or 0 alone.
    """

    layers: int | None = None
    share: float = 0.3
    trials: int = 100
    sweeps: int = 10
    order: Order = "taskness"
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.layers is not None and self.layers < 1) or self.trials < 2 or self.sweeps < 0:
            raise ValueError(
                "a greedy search needs at least 1 layer, 2 trials and 0 sweeps, "
                f"not {self.layers}, {self.trials} and {self.sweeps}"
            )
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of sites is {self.share}: expected 0 to 1")
        if self.order not in ORDERS:
            raise ValueError(f"there is no order {self.order!r} of layers: expected {' or '.join(ORDERS)}")

    def searched(self, layers: Layers) -> Layers:
        """The first of these layers, as many as are searched."""
        return layers[: max(1, round(PAPER_LAYERS * len(layers))) if self.layers is None else self.layers]


@dataclass
class _Judge:
    """The loss of sets of sites on all items, in the scale of the first batch that it sees. Counts evaluations."""

    evaluate: Evaluate
    items: int
    tasks: Int[Tensor, " items"] | None
    finite: FiniteLosses
    scale: tuple[Tensor, Tensor] | None = None
    evaluations: int = 0

    def __call__(self, masks: Bool[Tensor, "n sites"]) -> Float[Tensor, " n"]:
        """Infinite for sets that are never the best: the empty one, and those with a loss that is not finite."""
        rows = torch.arange(self.items).repeat(len(masks))
        losses = self.evaluate(masks.repeat_interleave(self.items, 0), rows)
        finite = self.finite.of(losses, f"losses of {len(masks)} sets of sites", rows).view(len(masks), self.items)
        allowed = masks.any(1) & finite.all(1)
        losses = losses.view(len(masks), self.items)
        self.evaluations += losses.numel()
        if self.tasks is None:
            mean = losses.mean(1)
        else:
            by_task = torch.stack([losses[:, self.tasks == task].mean(1) for task in self.tasks.unique()], 1)
            if self.scale is None:
                known = by_task[finite.all(1)]
                if len(known) < 2:
                    raise ValueError(f"{len(known)} of {len(masks)} random sets of sites have finite losses: too few")
                spread = known.std(0, correction=1)
                self.scale = known.mean(0), torch.where(spread > 0, spread, 1.0)
            centre, spread = self.scale
            mean = ((by_task - centre) / spread).mean(1)
        return mean.where(allowed, torch.inf)


def starts(
    evaluate: Evaluate,
    layers: Layers,
    sites: int,
    items: int,
    settings: GreedySettings | None = None,
    tasks: Int[Tensor, " items"] | None = None,
    finite: FiniteLosses | None = None,
) -> tuple[Bool[Tensor, " sites"], float, int]:
    """The best of ``trials`` random sets, its loss, and the evaluations that it took (Figure 14).

    alpha_i ~ Bernoulli(share) for the sites of the layers that are searched, 0 elsewhere. ``finite`` is as in
    ``greedy``.
    """
    judge = _Judge(evaluate, items, tasks, finite or FiniteLosses())
    mask, loss = _start(judge, layers, sites, settings or GreedySettings())
    return mask, loss, judge.evaluations


def _start(judge: _Judge, layers: Layers, sites: int, settings: GreedySettings) -> tuple[Tensor, float]:
    searched = torch.cat(list(settings.searched(layers)))
    drawn = torch.rand(settings.trials, len(searched), generator=torch.Generator().manual_seed(settings.seed or 0))
    trials = torch.zeros(settings.trials, sites, dtype=torch.bool)
    trials[:, searched] = drawn < settings.share
    losses = judge(trials)
    if trials.any() and losses.isinf().all():
        raise ValueError(f"none of {len(trials)} random sets of sites has a finite loss on every item")
    return trials[losses.argmin()], float(losses.min())


def greedy(
    evaluate: Evaluate,
    layers: Layers,
    sites: int,
    items: int,
    settings: GreedySettings | None = None,
    tasks: Int[Tensor, " items"] | None = None,
    on_step: OnStep = lambda record: None,
    finite: FiniteLosses | None = None,
) -> Found:
    """Start from the best of the random sets; of each layer in turn, keep the flip of one site that lowers the loss
    most, if one does; end after a sweep over all layers without a change, or after ``sweeps``.

    ``layers`` are the sites of each layer, the best-scored layer first (equation 6), of which as many are searched as
    ``settings`` say, or all where there are fewer. ``tasks`` names each item's task. ``on_step`` sees
    a record of the trials and of every layer of every sweep: step, loss, sites, evaluations so far. KeyboardInterrupt
    ends the search with the set that it has, once there is one. A set with a loss that is not finite is refused or left
    out as ``finite`` says; ValueError where none of the random sets is left.
    """
    settings, finite = settings or GreedySettings(), finite or FiniteLosses()
    judge = _Judge(evaluate, items, tasks, finite)
    history: list[dict[str, Any]] = []
    mask, loss = _start(judge, layers, sites, settings)
    found_at, interrupted, before_step = 1, False, 0

    def record() -> None:
        nonlocal before_step
        state = {"loss": loss, "sites": int(mask.sum()), "evaluations": judge.evaluations, **finite.since(before_step)}
        before_step = finite.count
        history.append({"step": len(history) + 1, **state})
        on_step(history[-1])

    try:
        record()
        for _ in range(settings.sweeps):
            before = loss
            for layer in settings.searched(layers):
                flipped = mask ^ torch.nn.functional.one_hot(layer, sites).bool()
                losses = judge(flipped)
                if losses.min() < loss:
                    mask, loss, found_at = flipped[losses.argmin()], float(losses.min()), len(history) + 1
                record()
            if loss == before:
                break
    except KeyboardInterrupt:
        interrupted = True
    if math.isinf(loss):
        raise ValueError("no set of sites that the search came to has a finite loss on every item")
    return Found(mask, loss, found_at, None, history, judge.evaluations, interrupted, finite.count)
