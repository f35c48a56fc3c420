"""Positions of head outputs, and the sites that group them for a search.

A position is (stack, layer, head, canvas token). A site is a set of positions that are patched together; which sets, is
the granularity: single tokens, the tokens of a quadrant, a head, or a layer (Sections 2.3 and 8.5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvec.canvas import REGIONS

Granularity = Literal["token", "quadrant", "head", "layer"]
GRANULARITIES: tuple[Granularity, ...] = ("token", "quadrant", "head", "layer")


@dataclass(frozen=True)
class StackShape:
    """One stack of attention blocks as a search sees it.

    ``regions`` holds the region index of every canvas token; ``searched`` the tokens that sites may cover, in order.
    """

    layers: int
    heads: int
    regions: Int[Tensor, " tokens"]
    searched: Int[Tensor, " searched"]


@dataclass(frozen=True)
class Site:
    """What one site covers: None means all heads, or all searched tokens."""

    stack: str
    layer: int
    head: int | None
    region: str | None
    token: int | None


@dataclass(frozen=True)
class Sites:
    """An ordered list of sites: by stack, layer, head, then region or token.

    ``index[stack]`` [layers, heads, canvas tokens] names the site of every position, -1 where there is none.
    """

    granularity: Granularity
    names: tuple[Site, ...]
    index: dict[str, Int[Tensor, "layers heads tokens"]]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def group(cls, shapes: dict[str, StackShape], granularity: Granularity, stacks: Sequence[str]) -> "Sites":
        """Group the positions of ``stacks``; ValueError for a stack or granularity that there is not."""
        if granularity not in GRANULARITIES:
            raise ValueError(f"there is no granularity {granularity!r}: expected one of {', '.join(GRANULARITIES)}")
        if not stacks:
            raise ValueError(f"no stack was named: expected some of {', '.join(shapes)}")
        if len(set(stacks)) < len(stacks):
            raise ValueError(f"a stack was named twice among {', '.join(stacks)}")
        names: list[Site] = []
        index = {}
        for stack in stacks:
            if stack not in shapes:
                raise ValueError(f"there is no stack {stack!r}: expected one of {', '.join(shapes)}")
            shape = shapes[stack]
            table = torch.full((shape.layers, shape.heads, len(shape.regions)), -1)
            for layer in range(shape.layers):
                for head in range(shape.heads) if granularity != "layer" else [None]:
                    for region, token, members in _slots(shape, granularity):
                        table[layer, slice(None) if head is None else head, members] = len(names)
                        names.append(Site(stack, layer, head, region, token))
            index[stack] = table
        return cls(granularity, tuple(names), index)

    def mask(self, chosen: Sequence[int] | Int[Tensor | np.ndarray, " chosen"]) -> Bool[Tensor, " sites"]:
        """The mask of the sites of these numbers, 0 to ``len(sites) - 1``; ValueError for anything else."""
        numbers = chosen.tolist() if isinstance(chosen, Tensor | np.ndarray) else list(chosen)
        for number in numbers:
            if isinstance(number, bool | np.bool_) or not isinstance(number, int | np.integer):
                raise ValueError(f"{number!r} is no site: expected numbers of sites, 0 to {len(self) - 1}")
            if not 0 <= number < len(self):
                raise ValueError(f"there is no site {number}: expected numbers from 0 to {len(self) - 1}")
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.tensor(numbers, dtype=torch.int64)] = True
        return mask

    def sample(self, rows: int, share: float, seed: int = 0) -> Bool[Tensor, "rows sites"]:
        """Random masks: each site is in each row with probability ``share``."""
        return torch.rand(rows, len(self), generator=torch.Generator().manual_seed(seed)) < share


def _slots(shape: StackShape, granularity: Granularity) -> list[tuple[str | None, int | None, Tensor]]:
    """What the searched tokens of one head are divided into: (region, token, canvas tokens) of each part."""
    if granularity in ("head", "layer"):
        return [(None, None, shape.searched)]
    regions = shape.regions[shape.searched]
    if granularity == "token":
        pairs = zip(shape.searched, regions, strict=True)
        return [(REGIONS[region], int(token), token[None]) for token, region in pairs]
    return [(REGIONS[region], None, shape.searched[regions == region]) for region in regions.unique()]
