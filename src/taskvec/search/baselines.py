"""Sets of sites that no search found (Section 8.6): at random, or those with the highest scores."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def random_sites(sites: int, count: int, seed: int) -> Bool[Tensor, " sites"]:
    """``count`` different sites, uniformly drawn; ValueError where there are not as many."""
    order = torch.randperm(sites, generator=torch.Generator().manual_seed(seed))
    return _first(order, sites, count)


def top_sites(scores: Float[Tensor, " sites"], count: int) -> Bool[Tensor, " sites"]:
    """The ``count`` sites with the highest scores, the earlier of equal ones and none that is NaN.

    Raises ValueError where there are not as many.
    """
    order = scores.argsort(descending=True, stable=True)
    return _first(order[~scores[order].isnan()], len(scores), count)


def _first(order: Tensor, sites: int, count: int) -> Bool[Tensor, " sites"]:
    if not 0 < count <= len(order):
        raise ValueError(f"{count} sites cannot be chosen: expected 1 to {len(order)}")
    mask = torch.zeros(sites, dtype=torch.bool)
    mask[order[:count]] = True
    return mask
