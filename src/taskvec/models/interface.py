"""What the rest of the package knows of a model that learns from examples in its prompt.

A model prepares runs of prompts (``prepare``), runs them (``run``), and makes answers and losses of what came out. It
names where its head outputs can be reached (``taps``) and what positions they have (``stacks``); ``taskvec.heads`` does
the rest from outside.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

Images = UInt8[np.ndarray, "n size size 3"]
Pixels = UInt8[Tensor, "n size size 3"]

ViewName = Literal["one_shot", "query_only"]
VIEWS: tuple[ViewName, ...] = ("one_shot", "query_only")


@dataclass(frozen=True)
class Place:
    """A place that head outputs have in every run: of an image model a token of a region, such as ``query_input``."""

    region: str | None
    token: int | None


@dataclass(frozen=True)
class StackLayout:
    """One stack of attention layers; z of a place is [layers, heads, head_dim]."""

    layers: int
    heads: int
    head_dim: int
    places: tuple[Place, ...]


# by stack, on the CPU: where in a run's sequence each place is, -1 where it is not there; one row if all runs agree
Places = Mapping[str, Int[Tensor, "rows places"]]


@dataclass(frozen=True)
class Tap:
    """A layer's output projection, whose input is z: [rows, tokens, width] or [rows, height, width of grid, width].

    Where a model runs several streams as one batch, z is ``part`` of ``parts`` that lie one after the other in its
    rows.
    """

    module: nn.Module
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class ModelIdentity:
    """``name`` is that of a model that ships or is on the hub, None of a user's own; ``type`` is that of
    ``taskvec.models.load_model``; ``digest`` tells the same weights, 16 hexadecimal digits."""

    name: str | None
    type: str
    digest: str


class Inputs(Protocol):
    """What a run is given; supports are None where only queries were drawn."""

    @property
    def query_input(self) -> Images: ...
    @property
    def support_input(self) -> Images | None: ...
    @property
    def support_output(self) -> Images | None: ...


@dataclass(frozen=True)
class Queries:
    """Images of a user's own, without examples."""

    query_input: Images
    support_input: None = None
    support_output: None = None


class Truths(Inputs, Protocol):
    """Inputs and what should come out."""

    @property
    def query_output(self) -> Images: ...
    @property
    def query_ignored(self) -> "np.ndarray | None": ...


class Items(Protocol):
    """Runs that are prepared, one row each: all that no mask changes, on the model's device."""

    @property
    def places(self) -> Places: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> Self: ...


class Targets(Protocol):
    """What ``PromptedModel.losses`` compares outputs with, one row an item, on the model's device."""

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> Self: ...


@dataclass(frozen=True)
class RowCost:
    """What a row adds to a pass: tokens that it runs through a layer of every stack, and bytes at the peak."""

    tokens: int
    bytes: int


class PromptedModel(ABC):
    """A frozen model for images whose task is shown by an example in its prompt."""

    name: str | None
    licence: str | None
    type: str  # in the registry of taskvec.models

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side in pixels of the square images that it takes and gives."""

    @property
    @abstractmethod
    def stacks(self) -> Mapping[str, StackLayout]: ...

    @abstractmethod
    def taps(self) -> Mapping[str, Sequence[Tap]]:
        """By stack, of every layer where its head outputs are reached."""

    @abstractmethod
    def present(self, view: ViewName) -> Mapping[str, Int[Tensor, " present"]]:
        """By stack, the numbers of the places that every run in this view has, ascending."""

    @abstractmethod
    def prepare(self, inputs: Inputs, view: ViewName) -> Items:
        """Everything of a run that no patch changes. ValueError for ``one_shot`` without supports."""

    @abstractmethod
    def run(self, items: Any) -> Tensor:
        """Outputs of a forward pass of prepared runs, whose head outputs ``taskvec.heads`` may replace."""

    @abstractmethod
    def answers(self, outputs: Tensor, items: Any) -> Pixels:
        """The query outputs as images."""

    @abstractmethod
    def targets(self, prompts: Truths) -> Targets:
        """What ``losses`` compares with."""

    @abstractmethod
    def losses(self, outputs: Tensor, items: Any, targets: Any) -> Float[Tensor, " rows"]:
        """The model's own loss of every row, lower is better, with a gradient."""

    @abstractmethod
    def ceiling(self, prompts: Truths) -> Pixels | None:
        """The best that its answers can be, where its outputs are limited; None where they are not."""

    @abstractmethod
    def cost(self, view: ViewName, *, answers: bool, gradient: bool) -> RowCost:
        """Of a row of a pass that ends in ``answers`` or in losses, estimated from above."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What ``taskvec info`` says of the architecture and its cost."""

    @abstractmethod
    def fingerprint(self) -> str:
        """The digest of ``identity``."""

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, self.type, self.fingerprint())
