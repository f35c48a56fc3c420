"""Greedy random search (Section 13.1): the best of some random sets, then the best flip of one site, layer by layer.

It minimises the mean loss over the items of the set alpha; of several tasks the mean over tasks of
(loss - centre) / spread, with a task's mean and standard deviation over the random sets.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.search.checkpoint import Checkpoint, State, check_like, check_steps, damaged, facts_of
from taskvec.search.finite import FiniteLosses, NonFinite
from taskvec.search.problem import Problem, one_site_masks
from taskvec.search.selection import most_probable
from taskvec.search.settings import Need, OnStep, SearchResult, SearchSettings

Layers = Sequence[Int[Tensor, " members"]]
Order = Literal["taskness", "random"]
ORDERS: tuple[Order, ...] = ("taskness", "random")
PAPER_LAYERS = 17 / 32  # of all layers, that the paper searches


@dataclass(frozen=True)
class GreedySettings(SearchSettings):
    """The paper's settings by default (Section 13.2): the first 17 of 32 layers, and 100 trials of random sets with a
    ``share`` of 0.3 of their sites. ``layers`` None is as large a share of however many there are. The paper's limit of
    "10k iterations" is read as ten ``sweeps`` over the k layers. ``order`` is that of the layers: by taskness, or at
    random, which is one of the paper's baselines.
    """

    name: ClassVar[str] = "greedy"
    needs: ClassVar[frozenset[Need]] = frozenset({"layers"})

    layers: int | None = None
    share: float = 0.3
    trials: int = 100
    sweeps: int = 10
    order: Order = "taskness"

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

    def coarse(self) -> Self:
        return replace(self, trials=10, sweeps=1)

    def searched(self, problem: Problem) -> Layers:
        """The layers of a problem that are searched, in the order in which they are."""
        layers = self.required(problem.layers, "layers")()
        if self.order == "random":
            order = torch.randperm(len(layers), generator=torch.Generator().manual_seed(problem.seed))
            layers = [layers[index] for index in order.tolist()]
        return layers[: max(1, round(PAPER_LAYERS * len(layers))) if self.layers is None else self.layers]

    def search(
        self,
        problem: Problem,
        on_step: OnStep = lambda record: None,
        checkpoint: Checkpoint | None = None,
        non_finite: NonFinite = "refuse",
    ) -> SearchResult:
        """Start from the best of the random sets; of each layer in turn, keep the flip of one site that lowers the loss
        most, if one does; end after a sweep over all layers without a change, or after ``sweeps``.

        Fewer layers than are asked for are all searched. There is a record of the trials and of every layer of every
        sweep: step, loss, sites, evaluations so far. KeyboardInterrupt ends the search with the set that it has, once
        there is one. ``checkpoint`` keeps the state with every record, from where the same search goes on to the same
        end. A set with a loss that is not finite is refused or left out; ValueError where none of the random
        sets is left.
        """
        finite = FiniteLosses(non_finite, problem.names)
        judge = _Judge(problem, finite)
        layers = self.searched(problem)
        of, interrupted = self.identity(problem, non_finite), False
        progress = _Progress.recalled(judge, checkpoint, of) or _Progress(*self._start(judge, layers))

        def record() -> None:
            progress.record(judge)
            if checkpoint is not None:
                checkpoint.keep(of, progress.state(judge))
            on_step(progress.history[-1])

        try:
            if not progress.history:
                record()
            while (done := len(progress.history) - 1) < self.sweeps * len(layers):
                if done % len(layers) == 0:
                    if progress.loss == progress.before:
                        break
                    progress.before = progress.loss
                progress.take(judge, layers[done % len(layers)])
                record()
        except KeyboardInterrupt:
            interrupted = True
        mask, loss, found_at, history = progress.mask, progress.loss, progress.found_at, progress.history
        if math.isinf(loss):
            raise ValueError("no set of sites that the search came to has a finite loss on every item")
        return SearchResult(mask, loss, found_at, None, history, judge.evaluations, interrupted, finite.count)

    def start(self, problem: Problem) -> tuple[Bool[Tensor, " sites"], float, int]:
        """The best of ``trials`` random sets, its loss, and the evaluations that it took (Figure 14).

        alpha_i ~ Bernoulli(share) for the sites of the layers that are searched, 0 elsewhere.
        """
        judge = _Judge(problem, FiniteLosses(names=problem.names))
        mask, loss = self._start(judge, self.searched(problem))
        return mask, loss, judge.evaluations

    def _start(self, judge: "_Judge", layers: Layers) -> tuple[Bool[Tensor, " sites"], float]:
        searched = torch.cat(list(layers))
        drawn = torch.rand(self.trials, len(searched), generator=torch.Generator().manual_seed(judge.problem.seed))
        trials = torch.zeros(self.trials, judge.problem.sites, dtype=torch.bool)
        trials[:, searched] = drawn < self.share
        if judge.problem.at_most is not None:  # of a larger set, the sites with the lowest draws
            chances = torch.zeros(judge.problem.sites)
            for trial, draws in zip(trials, drawn, strict=True):
                chances[searched] = -draws
                trial[:] = most_probable(trial[None], chances, judge.problem.at_most)[0]
        losses = judge(trials)
        if trials.any() and losses.isinf().all():
            raise ValueError(f"none of {len(trials)} random sets of sites has a finite loss on every item")
        return trials[losses.argmin()], float(losses.min())


@dataclass(frozen=True)
class _Facts:
    """What a kept state says beside its tensors."""

    found_at: int
    history: list[dict[str, Any]]
    evaluations: int
    non_finite: int


@dataclass
class _Progress:
    """The best set so far, its loss, the loss ``before`` the present sweep, and the records."""

    mask: Bool[Tensor, " sites"]
    loss: float
    before: float = math.nan
    found_at: int = 1
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def recalled(cls, judge: "_Judge", checkpoint: Checkpoint | None, of: dict[str, Any]) -> "_Progress | None":
        """What a checkpoint kept, ``judge`` put back to it; None where there is nothing. ValueError where it is
        damaged."""
        if checkpoint is None or (state := checkpoint.recall(of)) is None:
            return None
        tensors, facts = state
        problem = judge.problem
        number = torch.empty((), dtype=torch.float64)
        expected = {"mask": torch.empty(problem.sites, dtype=torch.bool), "loss": number, "before": number}
        if problem.tasks is not None:
            each = torch.empty(len(problem.tasks.unique()))
            expected |= {"centre": each, "spread": each}
        try:
            check_like(tensors, expected)
            kept = facts_of(_Facts, facts)
            check_steps(kept.history)
            if not kept.history:
                raise ValueError("it has no record")
        except ValueError as error:
            raise damaged(checkpoint.path, str(error)) from error
        judge.evaluations, judge.finite.count = kept.evaluations, kept.non_finite
        judge.scale = None if problem.tasks is None else (tensors["centre"], tensors["spread"])
        loss, before = float(tensors["loss"]), float(tensors["before"])
        return cls(tensors["mask"], loss, before, kept.found_at, kept.history)

    def state(self, judge: "_Judge") -> State:
        # as tensors, which hold what JSON does not: losses that are not finite
        tensors = {"mask": self.mask}
        tensors |= {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in ("loss", "before")}
        if judge.scale is not None:
            tensors |= dict(zip(("centre", "spread"), judge.scale, strict=True))
        facts = _Facts(self.found_at, self.history, judge.evaluations, judge.finite.count)
        return tensors, asdict(facts)

    def take(self, judge: "_Judge", layer: Int[Tensor, " members"]) -> None:
        """The best flip of one site of a layer, if it lowers the loss."""
        flipped = self.mask ^ one_site_masks(layer, judge.problem.sites)
        losses = judge(flipped)
        if losses.min() < self.loss:
            best = losses.argmin()
            self.mask, self.loss, self.found_at = flipped[best], float(losses[best]), len(self.history) + 1

    def record(self, judge: "_Judge") -> None:
        told = sum(one.get("non_finite", 0) for one in self.history)
        so_far = {"loss": self.loss, "sites": int(self.mask.sum()), "evaluations": judge.evaluations}
        self.history.append({"step": len(self.history) + 1, **so_far, **judge.finite.since(told)})


@dataclass
class _Judge:
    """The loss of sets of sites on all items, in the scale of the first batch that it sees. Counts evaluations."""

    problem: Problem
    finite: FiniteLosses
    scale: tuple[Tensor, Tensor] | None = None
    evaluations: int = 0

    def __call__(self, masks: Bool[Tensor, "n sites"]) -> Float[Tensor, " n"]:
        """Infinite for sets that are never the best: empty or larger than wanted, or with a loss that is not finite."""
        items, tasks = self.problem.every_item, self.problem.tasks
        losses = self.problem.evaluate_product(masks, items)
        rows = items.repeat(len(masks))
        finite = self.finite.of(losses.flatten(), f"losses of {len(masks)} sets of sites", rows).view_as(losses)
        allowed = masks.any(1) & finite.all(1) & (masks.sum(1) <= self.problem.most)
        self.evaluations += losses.numel()
        if tasks is None:
            mean = losses.mean(1)
        else:
            by_task = torch.stack([losses[:, tasks == task].mean(1) for task in tasks.unique()], 1)
            if self.scale is None:
                known = by_task[finite.all(1)]
                if len(known) < 2:
                    raise ValueError(f"{len(known)} of {len(masks)} random sets of sites have finite losses: too few")
                spread = known.std(0, correction=1)
                self.scale = known.mean(0), torch.where(spread > 0, spread, 1.0)
            centre, spread = self.scale
            mean = ((by_task - centre) / spread).mean(1)
        return mean.where(allowed, torch.inf)
