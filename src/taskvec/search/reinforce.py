"""REINFORCE over sites (Section 2.3): a Bernoulli logit for every site, learnt from sampled patches' losses."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.search.finite import FiniteLosses
from taskvec.search.problem import Problem
from taskvec.search.selection import Final, bernoulli
from taskvec.search.steps import Start, Step, StepSettings

Baseline = Literal["batch", "per_item"]
BASELINES: tuple[Baseline, ...] = ("batch", "per_item")


@dataclass(frozen=True)
class ReinforceSettings(StepSettings):
    """Search for the sites whose patch has the lowest loss, equation 5: min over logits of E[loss(mask, item)],
    mask ~ Bernoulli(sigmoid(logits)).

    The paper's settings (Section 8.1) by default, but for ``final``: 600 steps of 32 masks on each of 10 items.
    ``baseline``: ``batch`` standardises all losses of a step together, as the paper does; ``per_item`` compares masks
    on the same item only, which removes the variance between items. ``shared_masks`` draws 32 masks in all and runs
    each on every item, which removes that variance too and compares fewer masks, each on more items.
    """

    name: ClassVar[str] = "reinforce"

    steps: int = 600
    masks_per_item: int = 32
    learning_rate: float = 0.1
    initial_logit: float = -1.0
    baseline: Baseline = "batch"
    shared_masks: bool = False
    checkpoint_every: int = 50
    final: Final = "best"
    candidates: int = 1
    halving: bool = False
    screening: bool = False
    start: Start = "even"
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline not in BASELINES:
            raise ValueError(f"there is no baseline {self.baseline!r}: expected one of {', '.join(BASELINES)}")
        if self.masks_per_item < 2:
            raise ValueError(f"REINFORCE compares masks: it needs at least 2 an item, not {self.masks_per_item}")

    def coarse(self) -> Self:
        return replace(self, steps=20, masks_per_item=8, checkpoint_every=10)

    def learning_step(self, problem: Problem, finite: FiniteLosses) -> Step:
        tasks = problem.tasks
        each = problem.every_item.repeat(self.masks_per_item)

        def step(logits: Tensor, generator: torch.Generator, number: int) -> tuple[Tensor, Tensor, int]:
            drawn = self.masks_per_item if self.shared_masks else len(each)
            masks = torch.rand(drawn, problem.sites, generator=generator) < bernoulli(logits.detach())
            if self.shared_masks:
                losses = problem.evaluate_product(masks, problem.every_item).flatten()
                masks = masks.repeat_interleave(problem.items, 0)
            else:
                losses = problem.evaluate(masks, each)
            kept = finite.of(losses, f"losses of step {number}", each)
            losses, masks, items_of_rows = losses[kept], masks[kept], each[kept]
            tasks_of_rows = None if tasks is None else tasks[items_of_rows]
            groups = [kept] if tasks is None else [kept & (tasks[each] == task) for task in tasks.unique()]
            if min(int(group.sum()) for group in groups) < 2:
                raise ValueError(f"too few losses of step {number} are finite: REINFORCE compares 2 of a task at least")
            weights = advantages(losses, self.baseline, items_of_rows, tasks_of_rows)
            return losses, surrogate(logits, masks, weights), len(each)

        return step


def advantages(
    losses: Float[Tensor, " n"],
    baseline: Baseline = "batch",
    items: Int[Tensor, " n"] | None = None,
    tasks: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Standardised losses (ddof 1), the weights of the log-probabilities.

    With ``tasks``, losses are standardised within each task first, so that no task dominates (Section 8.6). The
    baseline ``per_item`` subtracts each item's mean before that.
    """
    if baseline == "per_item":
        if items is None:
            raise ValueError("the baseline per_item needs to know the item of every loss")
        _, group = items.unique(return_inverse=True)
        counts = torch.bincount(group).to(losses)
        losses = losses - (torch.zeros_like(counts).index_add(0, group, losses) / counts)[group]
    if tasks is not None:
        standardised = torch.empty_like(losses)
        for task in tasks.unique():
            standardised[tasks == task] = _standardise(losses[tasks == task])
        losses = standardised
    return _standardise(losses)


def _standardise(losses: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return (losses - losses.mean()) / (losses.std(correction=1) + 1e-6)


def surrogate(
    logits: Float[Tensor, " sites"], masks: Bool[Tensor, "n sites"], weights: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Its gradient estimates that of equation 5: mean over samples of advantage times log-probability.

    The log-probability is a mean over sites, as in the official code; Adam makes the scale immaterial.
    """
    probability = bernoulli(logits)
    log_probability = torch.where(masks, probability.log(), (1 - probability).log()).mean(1)
    return (log_probability * weights).mean()
