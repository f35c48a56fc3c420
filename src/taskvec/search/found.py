"""What every search shares: its steps and checkpoints, the choice on held-out items, what it ends with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

PROBABILITY_FLOOR = 1e-6

Validate = Callable[[Bool[Tensor, "n sites"]], Float[Tensor, " n"]]


@dataclass(frozen=True)
class Found:
    """The best set of sites that a checkpoint saw, by its mean loss on the held-out items, and how it was found.

    ``evaluations`` are those of the search itself, without the held-out items'; one with a gradient counts as three.
    ``interrupted`` is True where Ctrl-C ended the search before its last step.
    """

    mask: Bool[Tensor, " sites"]
    loss: float
    step: int
    logits: Float[Tensor, " sites"]
    history: list[dict[str, Any]]
    evaluations: int
    interrupted: bool


@dataclass
class Choice:
    """The best set of sites so far. ``validate`` gives the mean held-out loss of each mask.

    A checkpoint scores the most probable mask and ``sampled`` random ones.
    """

    validate: Validate
    sampled: int
    generator: torch.Generator
    best: tuple[float, int, Bool[Tensor, " sites"]] | None = field(default=None, init=False)

    def checkpoint(self, logits: Float[Tensor, " sites"], step: int) -> dict[str, Any]:
        """Score candidates; returns what the record of the step has to say of the winner."""
        masks = _candidates(logits, self.sampled, self.generator)
        losses = self.validate(masks)
        winner = int(losses.argmin())
        loss = float(losses[winner])
        if self.best is None or loss < self.best[0]:
            self.best = (loss, step, masks[winner])
        return {"held_out_loss": loss, "chosen_sites": int(masks[winner].sum())}


def search(
    logits: Tensor,
    step: Callable[[], tuple[Float[Tensor, " n"], int]],
    choice: Choice,
    steps: int,
    checkpoint_every: int,
    on_step: Callable[[dict[str, Any]], None],
) -> Found:
    """Call ``step``, which improves ``logits`` and gives losses and their cost, and choose at checkpoints and the end.

    ``on_step`` sees a record of every step: step, loss, expected number of sites, and at checkpoints the held-out loss.
    KeyboardInterrupt ends the search early with the best set so far, once there is a checkpoint.
    """
    history: list[dict[str, Any]] = []
    evaluations, interrupted = 0, False
    try:
        for number in range(1, steps + 1):
            losses, cost = step()
            evaluations += cost
            expected = float(bernoulli(logits.detach()).sum())
            record: dict[str, Any] = {"step": number, "loss": float(losses.mean()), "sites": expected}
            if number % checkpoint_every == 0 or number == steps:
                record |= choice.checkpoint(logits.detach(), number)
            history.append(record)
            on_step(record)
    except KeyboardInterrupt:
        if choice.best is None:
            raise
        interrupted = True
    loss, best_step, mask = cast(tuple[float, int, Tensor], choice.best)  # the last step is a checkpoint
    return Found(mask, loss, best_step, logits.detach(), history, evaluations, interrupted)


def bernoulli(logits: Float[Tensor, " sites"]) -> Float[Tensor, " sites"]:
    """Probability of each site, kept away from 0 and 1."""
    return torch.sigmoid(logits).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)


def _candidates(
    logits: Float[Tensor, " sites"], sampled: int, generator: torch.Generator
) -> Bool[Tensor, "candidates sites"]:
    """The most probable mask and ``sampled`` random ones, without the empty mask, which is no patch."""
    chances = bernoulli(logits)
    drawn = torch.rand(sampled, len(logits), generator=generator) < chances
    masks = torch.cat([(chances > 0.5)[None], drawn])
    kept = masks[masks.any(1)]
    if len(kept) == 0:
        kept = torch.nn.functional.one_hot(chances.argmax(), len(logits)).bool()[None]
    return kept.unique(dim=0)
