"""What a search is given: losses of sets of sites on items, and nothing of the model that they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Evaluate(Protocol):
    """The loss of each row, a mask on an item; lower is better."""

    def __call__(self, masks: Bool[Tensor, "n sites"], items: Int[Tensor, " n"]) -> Float[Tensor, " n"]: ...


class EvaluateProduct(Protocol):
    """The losses of every mask on every one of the items."""

    def __call__(self, masks: Bool[Tensor, "m sites"], items: Int[Tensor, " k"]) -> Float[Tensor, "m k"]: ...


class Differentiate(Protocol):
    """Losses of shares, 0 to 1 for each site, on items, and the gradient of their mean by the shares."""

    def __call__(
        self, shares: Float[Tensor, " sites"], items: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " sites"]]: ...


class Validate(Protocol):
    """The mean loss of each mask over the validation items, or over the first ``share`` of them."""

    def __call__(self, masks: Bool[Tensor, "n sites"], share: float = 1.0) -> Float[Tensor, " n"]: ...


@dataclass(frozen=True)
class Problem:
    """Choose among ``sites`` sites those with the lowest loss over ``items`` items; both are numbers.

    ``evaluate_product`` is what ``evaluate`` gives for every pair, without a copy of a mask for each item. ``tasks`` is
    the task of every item where several are searched for together. ``layers`` gives the sites of each layer, that of
    the highest taskness first (equation 6); it is called by a search that needs them alone. ``names`` are those of the
    items, for errors; ``seed`` is that of all that a search draws. A search says in ``needs`` which of the parts that
    may be None it does not go without. ``screen`` is a cheaper ``validate`` that orders masks similarly, for the first
    rounds among many. No set of more than ``at_most`` sites is wanted. Raises ValueError where that is none.
    """

    sites: int
    items: int
    evaluate: Evaluate
    evaluate_product: EvaluateProduct
    tasks: Int[Tensor, " items"] | None = None
    differentiate: Differentiate | None = None
    validate: Validate | None = None
    layers: Callable[[], Sequence[Int[Tensor, " members"]]] | None = None
    names: Sequence[str] = ()
    seed: int = 0
    screen: Validate | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        if self.at_most is not None and self.at_most < 1:
            raise ValueError(f"at_most is {self.at_most}: a set of sites has at least 1")

    @property
    def most(self) -> int:
        """How many sites a set has at most."""
        return self.sites if self.at_most is None else min(self.at_most, self.sites)

    @property
    def every_item(self) -> Int[Tensor, " items"]:
        return torch.arange(self.items)


def one_site_masks(chosen: Int[Tensor, " n"], sites: int) -> Bool[Tensor, "n sites"]:
    """A mask for each of these sites alone."""
    masks = torch.zeros(len(chosen), sites, dtype=torch.bool)
    masks[torch.arange(len(chosen)), chosen] = True
    return masks
