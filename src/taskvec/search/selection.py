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
FINALISTS = 4  # sets that are left for the task's own metric, where a cheaper loss screens them

Final = Literal["best", "threshold", "sample"]
FINALS: tuple[Final, ...] = ("best", "threshold", "sample")


class Best(NamedTuple):
    """The winner of a checkpoint, and the logits that it came from."""

    loss: float
    step: int
    mask: Bool[Tensor, " sites"]
    logits: Float[Tensor, " sites"]


@dataclass
class Judge:
    """Chooses among sets of sites by their mean loss on validation items, which ``validate`` gives.

    With ``halving`` sets are scored on few validation items, the better half of them on twice as many, and so on until
    one is left (sequential halving, Karnin et al. 2013): n cost as much as log2(n) + 1 would. Where there is a cheaper
    ``screen``, it scores them until FINALISTS are left; what decides among those is ``validate``.
    """

    validate: Validate
    finite: FiniteLosses
    halving: bool = False
    screen: Validate | None = None

    def best(self, masks: Bool[Tensor, "candidates sites"]) -> tuple[float, Bool[Tensor, " sites"]] | None:
        """The best of the sets with its loss; None where none that was scored on all items has a finite one."""
        if self.halving:
            masks = self._halve(masks)
        losses = self.losses(masks)
        winner = int(losses.argmin())
        loss = float(losses[winner])
        return None if math.isinf(loss) else (loss, masks[winner])

    def losses(self, masks: Bool[Tensor, "candidates sites"]) -> Float[Tensor, " candidates"]:
        """Validation losses, infinite where they are not finite."""
        return self._finite(self.validate(masks))

    def _finite(self, losses: Float[Tensor, " candidates"]) -> Float[Tensor, " candidates"]:
        return losses.where(self.finite.of(losses, "validation losses of sets of sites"), torch.inf)

    def _halve(self, masks: Bool[Tensor, "candidates sites"]) -> Bool[Tensor, "1 sites"]:
        """The mask that is left when every round drops the worse half."""
        for halvings in range(math.ceil(math.log2(len(masks))), 0, -1):
            score = self.validate if self.screen is None or len(masks) <= FINALISTS else self.screen
            losses = self._finite(score(masks, 0.5**halvings))
            masks = masks[losses.argsort(stable=True)[: (len(masks) + 1) // 2]]
        return masks


@dataclass
class Selection:
    """The best set of sites so far, by the mean loss on validation items that ``validate`` gives.

    What a checkpoint scores is ``final``: ``best`` the most probable mask (all sites above one half) and ``sampled``
    random ones, of which the best is kept; ``threshold`` only the most probable one; ``sample`` one random mask, as the
    official code does, which keeps the logits and ends with another sample of them. Of masks with more than ``at_most``
    sites the most probable ones stay. ``halving`` and ``screen`` are as in ``Judge``.
    """

    validate: Validate
    final: Final
    sampled: int
    halving: bool
    generator: torch.Generator
    finite: FiniteLosses = field(default_factory=FiniteLosses)
    screen: Validate | None = None
    at_most: int | None = None
    best: Best | None = field(default=None, init=False)

    def checkpoint(self, logits: Float[Tensor, " sites"], step: int) -> dict[str, Any]:
        """Score candidates; returns what the record of the step has to say of the winner, nothing where there is none.

        A candidate whose loss is not finite never wins.
        """
        judged = self._judge.best(self._candidates(logits))
        if judged is None:
            return {}
        loss, mask = judged
        if self.best is None or loss < self.best.loss:
            self.best = Best(loss, step, mask, logits.clone())
        return {"validation_loss": loss, "chosen_sites": int(mask.sum())}

    def settle(self) -> Best:
        """The final set, after at least one checkpoint; ValueError where no set ever had a finite loss."""
        if self.best is None:
            raise ValueError("there is no set of sites to choose: none had a finite validation loss at a checkpoint")
        if self.final != "sample":
            return self.best
        masks = self._candidates(self.best.logits)
        loss = float(self._judge.losses(masks)[0])
        if math.isinf(loss):
            raise ValueError("the validation loss of the final sample of sites is not finite")
        return self.best._replace(loss=loss, mask=masks[0])

    @property
    def _judge(self) -> Judge:
        return Judge(self.validate, self.finite, self.halving, self.screen)

    def _candidates(self, logits: Float[Tensor, " sites"]) -> Bool[Tensor, "candidates sites"]:
        masks = _candidates(logits, self.final, self.sampled, self.generator)
        return masks if self.at_most is None else most_probable(masks, logits, self.at_most).unique(dim=0)


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


def most_probable(
    masks: Bool[Tensor, "candidates sites"], scores: Float[Tensor, " sites"], at_most: int
) -> Bool[Tensor, "candidates sites"]:
    """The masks, with ``at_most`` of their sites: those with the highest scores, the earlier of equal ones."""
    order = scores.argsort(descending=True, stable=True)
    ranked = masks[:, order]
    return (ranked & (ranked.cumsum(1) <= at_most))[:, order.argsort()]
