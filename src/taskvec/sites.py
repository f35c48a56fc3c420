"""Positions of head outputs, and the sites that group them for a search.

A position is (stack, layer, head, place). A site is a set of positions that are patched together; which sets, is the
granularity: single tokens, the tokens of a quadrant, a head, or a layer (Sections 2.3 and 8.5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvec.choices import GRANULARITIES, Granularity


@dataclass(frozen=True)
class Place:
    """A place that head outputs have in every run: of an image model a token of a region, such as ``query_input``."""

    region: str | None
    token: int | None


@dataclass(frozen=True)
class StackLayout:
    """One stack of attention layers; z of a place is [layers, heads, head_dim], and its number that in the list."""

    layers: int
    heads: int
    head_dim: int
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Site:
    """What one site covers: None means all heads, or all places that are searched."""

    stack: str
    layer: int
    head: int | None
    region: str | None
    token: int | None


@dataclass(frozen=True)
class Sites:
    """An ordered list of sites: by stack, layer, head, then region or token.

    ``index[stack]`` [layers, heads, places] names the site of every position, -1 where there is none.
    """

    granularity: Granularity
    names: tuple[Site, ...]
    index: dict[str, Int[Tensor, "layers heads places"]]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def group(
        cls,
        layouts: Mapping[str, StackLayout],
        searched: Mapping[str, Int[Tensor, " searched"]],
        granularity: Granularity,
        stacks: Sequence[str] | None = None,
    ) -> "Sites":
        """Group the positions at the ``searched`` places, numbers of each stack, of these stacks, or of all.

        Raises ValueError for a stack or granularity that there is not.
        """
        if granularity not in GRANULARITIES:
            raise ValueError(f"there is no granularity {granularity!r}: expected one of {', '.join(GRANULARITIES)}")
        stacks = list(layouts) if stacks is None else stacks
        if not stacks:
            raise ValueError(f"no stack was named: expected some of {', '.join(layouts)}")
        if len(set(stacks)) < len(stacks):
            raise ValueError(f"a stack was named twice among {', '.join(stacks)}")
        names: list[Site] = []
        index = {}
        for stack in stacks:
            if stack not in layouts:
                raise ValueError(f"there is no stack {stack!r}: expected one of {', '.join(layouts)}")
            layout = layouts[stack]
            slots = _slots(layout.places, searched[stack], granularity)
            table = torch.full((layout.layers, layout.heads, len(layout.places)), -1)
            for layer in range(layout.layers):
                for head in range(layout.heads) if granularity != "layer" else [None]:
                    for region, token, members in slots:
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


def _slots(
    places: Sequence[Place], searched: Int[Tensor, " searched"], granularity: Granularity
) -> list[tuple[str | None, int | None, Int[Tensor, " members"]]]:
    """What the searched places of one head are divided into: (region, token, their numbers) of each part."""
    if granularity in ("head", "layer"):
        return [(None, None, searched)]
    if granularity == "token":
        named = [(places[number], torch.tensor([number])) for number in searched.tolist()]
        return [(place.region, place.token, member) for place, member in named]
    members: dict[str | None, list[int]] = {}
    for number in searched.tolist():
        members.setdefault(places[number].region, []).append(number)
    return [(region, None, torch.tensor(numbers)) for region, numbers in members.items()]
