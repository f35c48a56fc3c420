"""Positions of head outputs, and the sites that group them for a search.

A position is (stack, layer, head, place). A site is a set of positions that are patched together; which sets, is the
granularity: single tokens, the tokens of a quadrant, a head, or a layer (Sections 2.3 and 8.5).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taskvec.choices import GRANULARITIES, Granularity

_NAME = re.compile(r"([^.]+)\.(\d+)(?:\.head\.(\d+))?(?:\.([^\d.][^.]*))?(?:\.(\d+))?", re.ASCII)


@dataclass(frozen=True, repr=False)
class Place:
    """A place that head outputs have in every run: of an image model a token of a region, such as ``query_input``."""

    region: str | None
    token: int | None

    def __repr__(self) -> str:
        """Such as ``query_input.17``; ``last`` of a language model, whose only place is the prompt's last token."""
        return ".".join(str(part) for part in (self.region, self.token) if part is not None) or "last"


@dataclass(frozen=True)
class StackLayout:
    """One stack of attention layers; z of a place is [layers, heads, head_dim], and its number that in the list."""

    layers: int
    heads: int
    head_dim: int
    places: tuple[Place, ...]


@dataclass(frozen=True, repr=False)
class Site:
    """What one site covers: None means all heads, or all places that are searched.

    It prints as its name, such as ``encoder.3.head.5.query_input``, which ``parse`` reads.
    """

    stack: str
    layer: int
    head: int | None
    region: str | None
    token: int | None

    def __repr__(self) -> str:
        head = None if self.head is None else f"head.{self.head}"
        parts = (self.stack, self.layer, head, self.region, self.token)
        return ".".join(str(part) for part in parts if part is not None)

    @classmethod
    def parse(cls, name: str) -> Self:
        """The site of a name: STACK.LAYER, of a head .head.HEAD, of places .REGION, .TOKEN or both; ValueError for any
        other text."""
        if not (found := _NAME.fullmatch(name)):
            raise ValueError(f"{name!r} is no name of a site: expected one such as encoder.3.head.5.query_input")
        stack, layer, head, region, token = found.groups()
        return cls(
            stack, int(layer), None if head is None else int(head), region, None if token is None else int(token)
        )


@dataclass(frozen=True, repr=False)
class Sites:
    """An ordered list of sites: by stack, layer, head, then region or token.

    ``index[stack]`` [layers, heads, places] names the site of every position, -1 where there is none.
    """

    granularity: Granularity
    names: tuple[Site, ...]
    index: dict[str, Int[Tensor, "layers heads places"]]

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.names[:3])) + (", ..." if len(self) > 3 else "")
        return f"Sites({len(self)} by {self.granularity}: {shown})"

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

    def mask(self, chosen: Sequence[int | str | Site] | Int[Tensor | np.ndarray, " chosen"]) -> Bool[Tensor, " sites"]:
        """The mask of these sites, by their numbers, 0 to ``len(sites) - 1``, or names; ValueError for any other."""
        given = chosen.tolist() if isinstance(chosen, Tensor | np.ndarray) else list(chosen)
        named = [Site.parse(one) if isinstance(one, str) else one for one in given]
        place = {}
        if any(isinstance(one, Site) for one in named):
            place = {site: number for number, site in enumerate(self.names)}
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.tensor([self._number(one, place) for one in named], dtype=torch.int64)] = True
        return mask

    def _number(self, chosen: object, place: Mapping[Site, int]) -> int:
        if isinstance(chosen, Site):
            if chosen not in place:
                raise ValueError(f"there is no site {chosen} among these, by {self.granularity}")
            return place[chosen]
        if isinstance(chosen, bool | np.bool_) or not isinstance(chosen, int | np.integer):
            raise ValueError(f"{chosen!r} is no site: expected numbers of sites, 0 to {len(self) - 1}")
        if not 0 <= chosen < len(self):
            raise ValueError(f"there is no site {chosen}: expected numbers from 0 to {len(self) - 1}")
        return int(chosen)

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
