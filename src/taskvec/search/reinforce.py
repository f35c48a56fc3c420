"""REINFORCE over sites (Section 2.3): a Bernoulli logit for every site, learnt from sampled patches' losses.

A search knows no model. It sees ``evaluate(masks [n, sites], items [n]) -> losses [n]`` and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.search.found import Choice, Found, Validate, bernoulli, search

Baseline = Literal["batch", "per_item"]
BASELINES: tuple[Baseline, ...] = ("batch", "per_item")


class Evaluate(Protocol):
    """Losses of masks on items, lower is better."""

    def __call__(self, masks: Bool[Tensor, "n sites"], items: Int[Tensor, " n"]) -> Float[Tensor, " n"]: ...


@dataclass(frozen=True)
class ReinforceSettings:
    """The paper's settings (Section 8.1) by default: 600 steps of 32 masks on each of 10 items.

    ``baseline``: ``batch`` standardises all losses of a step together, as the paper does; ``per_item`` compares masks
    on the same item only, which removes the variance between items. ``candidates`` is how many masks are sampled at
    every checkpoint, beside the most probable one, to be scored on the held-out items.
    """

    steps: int = 600
    masks_per_item: int = 32
    learning_rate: float = 0.1
    initial_logit: float = -1.0
    baseline: Baseline = "batch"
    checkpoint_every: int = 50
    candidates: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.baseline not in BASELINES:
            raise ValueError(f"there is no baseline {self.baseline!r}: expected one of {', '.join(BASELINES)}")
        if self.steps < 1 or self.masks_per_item < 2 or self.checkpoint_every < 1 or self.candidates < 0:
            raise ValueError("a search needs at least 1 step, 2 masks an item, and checkpoints at least 1 step apart")


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


def reinforce(
    evaluate: Evaluate,
    validate: Validate,
    sites: int,
    items: int,
    settings: ReinforceSettings | None = None,
    tasks: Int[Tensor, " items"] | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Found:
    """Search for the sites whose patch has the lowest loss.

    ``validate`` gives the mean held-out loss of each mask. ``tasks`` names each item's task in a multi-task search.
    ``on_step`` and KeyboardInterrupt are as in ``found.search``.
    """
    settings = settings or ReinforceSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    logits = torch.full((sites,), settings.initial_logit, requires_grad=True)
    optimizer = torch.optim.Adam([logits], settings.learning_rate)
    each = torch.arange(items).repeat(settings.masks_per_item)

    def step() -> tuple[Tensor, int]:
        with torch.no_grad():
            masks = torch.rand(len(each), sites, generator=generator) < bernoulli(logits)
        losses = evaluate(masks, each)
        weights = advantages(losses, settings.baseline, each, None if tasks is None else tasks[each])
        optimizer.zero_grad()
        surrogate(logits, masks, weights).backward()
        optimizer.step()
        return losses, len(each)

    choice = Choice(validate, settings.candidates, generator)
    return search(logits, step, choice, settings.steps, settings.checkpoint_every, on_step)
