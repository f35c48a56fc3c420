"""The selection of a search's final set of sites among candidates, by their loss on validation items."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taskvec.search.finite import FiniteLosses
from taskvec.search.problem import Validate

PROBABILITY_FLOOR = 1e-6

Final = Literal["best", "threshold", "sample"]
FINALS: tuple[Final, ...] = ("best", "threshold", "sample")


class Best(NamedTuple):
    """The winner of a checkpoint, and the logits that it came from."""

    loss: float
    step: int
    mask: Bool[Tensor, " sites"]
    logits: Float[Tensor, " sites"]


@dataclass
class Selection:
    """The best set of sites so far, by the mean loss on validation items that ``validate`` gives.

    What a checkpoint scores is ``final``: ``best`` the most probable mask (all sites above one half) and ``sampled``
    random ones, of which the best is kept; ``threshold`` only the most probable one; ``sample`` one random mask, as the
    official code does, which keeps the logits and ends with another sample of them.

    With ``halving`` the candidates are scored on few validation items, the better half of them on twice as many, and so
    on until one is left (sequential halving, Karnin et al. 2013): n cost as much as log2(n) + 1 would.
    """

    validate: Validate
    final: Final
    sampled: int
    halving: bool
    generator: torch.Generator
    finite: FiniteLosses = field(default_factory=FiniteLosses)
    best: Best | None = field(default=None, init=False)

    def checkpoint(self, logits: Float[Tensor, " sites"], step: int) -> dict[str, Any]:
        """Score candidates; returns what the record of the step has to say of the winner, nothing where there is none.

        A candidate whose loss is not finite never wins.
        """
        masks = _candidates(logits, self.final, self.sampled, self.generator)
        if self.halving:
            masks = self._halve(masks)
        losses = self._losses(masks)
        if losses.isinf().all():
            return {}
        winner = int(losses.argmin())
        loss = float(losses[winner])
        if self.best is None or loss < self.best.loss:
            self.best = Best(loss, step, masks[winner], logits.clone())
        return {"validation_loss": loss, "chosen_sites": int(masks[winner].sum())}

    def settle(self) -> Best:
        """The final set, after at least one checkpoint; ValueError where no set ever had a finite loss."""
        if self.best is None:
            raise ValueError("there is no set of sites to choose: none had a finite validation loss at a checkpoint")
        if self.final != "sample":
            return self.best
        masks = _candidates(self.best.logits, self.final, self.sampled, self.generator)
        loss = float(self._losses(masks)[0])
        if math.isinf(loss):
            raise ValueError("the validation loss of the final sample of sites is not finite")
        return self.best._replace(loss=loss, mask=masks[0])

    def _losses(self, masks: Bool[Tensor, "candidates sites"], *share: float) -> Float[Tensor, " candidates"]:
        """Held-out losses, infinite where they are not finite."""
        losses = self.validate(masks, *share)
        return losses.where(self.finite.of(losses, "validation losses of sets of sites"), torch.inf)

    def _halve(self, masks: Bool[Tensor, "candidates sites"]) -> Bool[Tensor, "1 sites"]:
        """The mask that is left when every round drops the worse half."""
        for halvings in range(math.ceil(math.log2(len(masks))), 0, -1):
            losses = self._losses(masks, 0.5**halvings)
            masks = masks[losses.argsort(stable=True)[: (len(masks) + 1) // 2]]
        return masks


def bernoulli(logits: Float[Tensor, " sites"]) -> Float[Tensor, " sites"]:
    """Probability of each site, kept away from 0 and 1."""
    return torch.sigmoid(logits).clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)


def _candidates(
    logits: Float[Tensor, " sites"], final: Final, sampled: int, generator: torch.Generator
) -> Bool[Tensor, "candidates sites"]:
    """What ``final`` asks for (see ``Selection``), without the empty mask, which is no patch."""
    chances = bernoulli(logits)
    rows = {"best": sampled, "threshold": 0, "sample": 1}[final]
    drawn = torch.rand(rows, len(logits), generator=generator) < chances
    masks = drawn if final == "sample" else torch.cat([(chances > 0.5)[None], drawn])
    kept = masks[masks.any(1)]
    if len(kept) == 0:
        kept = torch.nn.functional.one_hot(chances.argmax(), len(logits)).bool()[None]
    return kept.unique(dim=0)
