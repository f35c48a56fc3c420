"""A gradient search over sites: shares between a head's own output and the mean, learnt through the token objective.

REINFORCE learns from one number a run which of a hundred sites did well. With a share of 0..1 for every site instead of
a yes or no, the loss of a run has a gradient for all of them at once. The shares end near 0 and 1 by themselves, so the
set of sites above a half does nearly what they did.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.search.found import Choice, Found, Validate, search

COST_OF_A_GRADIENT = 3  # evaluations: one forward, and a backward of about two


class Differentiate(Protocol):
    """Losses of shares on items, and the gradient of their mean."""

    def __call__(
        self, shares: Float[Tensor, " sites"], items: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " sites"]]: ...


@dataclass(frozen=True)
class RelaxedSettings:
    """``steps`` of Adam, each on ``items`` drawn of those searched on.

    ``candidates`` is how many sets are sampled at every checkpoint, each site with its share as probability, beside the
    set of all sites above a half.
    """

    steps: int = 40
    items: int = 16
    learning_rate: float = 0.3
    initial_logit: float = -1.0
    checkpoint_every: int = 20
    candidates: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.items, self.checkpoint_every) < 1 or self.candidates < 0:
            raise ValueError("a search needs at least 1 step and 1 item, and checkpoints at least 1 step apart")


def relaxed(
    differentiate: Differentiate,
    validate: Validate,
    sites: int,
    items: int,
    settings: RelaxedSettings | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> Found:
    """Search for the sites whose patch has the lowest loss, by the gradient of their shares.

    ``validate`` gives the mean held-out loss of each mask. ``on_step`` and KeyboardInterrupt are as in
    ``found.search``; a record's ``sites`` is the sum of all shares.
    """
    settings = settings or RelaxedSettings()
    generator = torch.Generator().manual_seed(settings.seed)
    logits = torch.full((sites,), settings.initial_logit, requires_grad=True)
    optimizer = torch.optim.Adam([logits], settings.learning_rate)

    def step() -> tuple[Tensor, int]:
        drawn = torch.randperm(items, generator=generator)[: settings.items]
        shares = torch.sigmoid(logits)
        losses, gradient = differentiate(shares.detach(), drawn)
        optimizer.zero_grad()
        shares.backward(gradient)
        optimizer.step()
        return losses, COST_OF_A_GRADIENT * len(drawn)

    choice = Choice(validate, settings.candidates, generator)
    return search(logits, step, choice, settings.steps, settings.checkpoint_every, on_step)
