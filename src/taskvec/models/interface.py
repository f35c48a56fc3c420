"""What the rest of the package knows of a model that learns from examples in its prompt.

A model prepares runs of prompts (``prepare``), runs them (``run``), and makes answers and losses of what came out. It
names where its head outputs can be reached (``taps``) and what positions they have (``stacks``); ``taskvec.heads`` does
the rest from outside.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from taskvec.choices import ANSWER_SCOPES, DECODINGS, AnswerScope, DecodingKind, Granularity
from taskvec.metrics import WHITE, cut
from taskvec.models.sharing import Shared
from taskvec.sites import Place, Sites, StackLayout
from taskvec.tasks import Images

__all__ = [
    "ANSWER_SCOPES",
    "DECODINGS",
    "VIEWS",
    "AnswerScope",
    "Decoding",
    "DecodingKind",
    "Handle",
    "HeadFunction",
    "HeadOutput",
    "Images",
    "Inputs",
    "Items",
    "Locations",
    "ModelIdentity",
    "Pixels",
    "Place",
    "ProjectionTap",
    "PromptedModel",
    "Queries",
    "RowCost",
    "StackLayout",
    "Tap",
    "Targets",
    "Truths",
    "Variant",
    "ViewName",
]

Pixels = UInt8[Tensor, "n size size 3"]

ViewName = Literal["one_shot", "query_only"]
VIEWS: tuple[ViewName, ...] = ("one_shot", "query_only")


@dataclass(frozen=True)
class Locations:
    """Where the places of a stack are in a run's sequence of ``tokens``, -1 where they are not there.

    ``where`` has a row for every run, or one if all agree, on the CPU.
    """

    where: Int[Tensor, "rows places"]
    tokens: int

    @cached_property
    def sequence(self) -> Int[Tensor, " tokens"] | None:
        """The place at every token, where all runs agree and every token is one; else None."""
        if len(self.where) > 1 or int((self.where >= 0).sum()) != self.tokens:
            return None
        sequence = torch.full((self.tokens,), -1)
        present = (self.where[0] >= 0).nonzero()[:, 0]
        sequence[self.where[0, present]] = present
        return sequence

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> "Locations":
        return self if len(self.where) == 1 else Locations(self.where[rows], self.tokens)


HeadOutput = Float[Tensor, "rows tokens heads head_dim"]
HeadFunction = Callable[[HeadOutput], HeadOutput | None]


class Handle(Protocol):
    def remove(self) -> None:
        """Undo what this is the handle of."""


class Tap(Protocol):
    """Where the head outputs of one layer are reached."""

    def attach(self, function: HeadFunction, heads: int) -> Handle:
        """Call ``function`` with the head outputs of every forward pass from now on; what it returns, unless None,
        takes their place. Of several functions each sees what the one before made of them."""
        ...

    def weights(self) -> Iterable[Tensor]:
        """Weights next to the heads: where these are still the same, the model is taken to be."""
        ...


@dataclass(frozen=True)
class ProjectionTap:
    """A layer's output projection, whose input is z: [rows, tokens, width] or [rows, height, width of grid, width].

    Where a model runs several streams as one batch, z is ``part`` of ``parts`` that lie one after the other in its
    rows.
    """

    module: nn.Module
    part: int = 0
    parts: int = 1

    def attach(self, function: HeadFunction, heads: int) -> Handle:
        def before_projection(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            part = inputs[0].unflatten(0, (self.parts, -1))[self.part]
            replaced = function(part.flatten(1, -2).unflatten(-1, (heads, -1)))
            if replaced is None:
                return None
            whole = replaced.flatten(-2).view_as(part)
            if self.parts > 1:
                parts = list(inputs[0].chunk(self.parts))
                parts[self.part] = whole
                whole = torch.cat(parts)
            return (whole, *inputs[1:])

        return self.module.register_forward_pre_hook(before_projection)

    def weights(self) -> Iterable[Tensor]:
        return self.module.parameters(recurse=False)


@dataclass(frozen=True)
class ModelIdentity:
    """``name`` is that of a model that ships or is on the hub, None of a user's own; ``type`` is that of
    ``taskvec.models.load_model``; ``digest`` tells the same weights, 16 hexadecimal digits."""

    name: str | None
    type: str
    digest: str


class Inputs(Protocol):
    """What a run is given; supports are empty where there is no example.

    Images, or of a model that takes texts str [n] and, of supports, [n, shots].
    """

    @property
    def query_input(self) -> Images: ...
    @property
    def support_input(self) -> Images: ...
    @property
    def support_output(self) -> Images: ...


@dataclass(frozen=True)
class Queries:
    """Inputs of a user's own, images or texts as they stand in a prompt, without examples."""

    query_input: Images

    @property
    def support_input(self) -> Images:
        return self.query_input[:0]

    @property
    def support_output(self) -> Images:
        return self.query_input[:0]


class Truths(Inputs, Protocol):
    """Inputs and what should come out."""

    @property
    def query_output(self) -> Images: ...
    @property
    def query_ignored(self) -> Bool[np.ndarray, "n size size"] | None: ...


class Items(Protocol):
    """Runs that are prepared, one row each: all that no mask changes, on the model's device."""

    @property
    def places(self) -> Mapping[str, Locations]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> Self: ...


class Targets(Protocol):
    """What ``PromptedModel.losses`` compares outputs with, one row an item, on the model's device."""

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice, /) -> Self: ...


Area = Literal["canvas", "quadrant"]


@dataclass(frozen=True)
class Decoding:
    """How a model's outputs become an answer. The defaults are the paper's.

    ``likeliest`` decodes the likeliest code of every patch; ``expected`` the mean of the codebook's entries under the
    probabilities softmax(logits / ``temperature``), which says what no single code can and has a gradient. ``level``,
    0 to 255, makes answers masks: white where the mean of a pixel's channels is at least that, black elsewhere. None
    leaves answers as they are decoded. Raises ValueError for other values.
    """

    kind: DecodingKind = "likeliest"
    temperature: float = 1.0
    level: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in DECODINGS:
            raise ValueError(f"there is no decoding {self.kind!r}: expected one of {', '.join(DECODINGS)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"the temperature of a decoding is {self.temperature}, expected a number above 0")
        if self.level is not None and not 0 < self.level <= WHITE:
            raise ValueError(f"the level of a decoding is {self.level}, expected a number above 0, at most {WHITE}")

    def __str__(self) -> str:
        temperature = f", temperature {self.temperature:g}" if self.kind == "expected" else ""
        return self.kind + temperature + ("" if self.level is None else f", masks from level {self.level:g} of {WHITE}")

    @property
    def threshold(self) -> float:
        """The level, or one half of white."""
        return WHITE / 2 if self.level is None else self.level

    def finish(self, images: Pixels) -> Pixels:
        """Decoded images as answers: at the level, if there is one, masks."""
        return images if self.level is None else cut(images, self.level)


@dataclass(frozen=True)
class Variant:
    """How a model computes. The defaults are the model as it was published; each other choice shares its weights.

    ``fused`` computes attention in one kernel, equal but for rounding. ``bfloat16`` computes matrix products and
    convolutions in that type, with a copy of their weights, and attention as ``fused`` does. ``area`` is what a model
    with a canvas decodes together, None for what its tokenizer is made for. ``decoding`` None is the default one.
    ``answers`` is how much of a text a model with texts is judged by: its ``first`` token, the default, or all.
    """

    bfloat16: bool = False
    fused: bool = False
    area: Area | None = None
    decoding: Decoding | None = None
    answers: AnswerScope | None = None

    def with_(self, other: "Variant") -> "Variant":
        """This one, and what the other asks for."""
        return Variant(
            self.bfloat16 or other.bfloat16,
            self.fused or other.fused,
            other.area or self.area,
            other.decoding or self.decoding,
            other.answers or self.answers,
        )


@dataclass(frozen=True)
class RowCost:
    """What a row adds to a pass: tokens that it runs through a layer of every stack, and bytes at the peak."""

    tokens: int
    bytes: int


class PromptedModel(Shared, ABC):
    """A frozen model, for images or texts, whose task is shown by examples in its prompt.

    What only a model for images has is refused by the others, and what only one for texts has the other way round.
    """

    model_type: str  # in the registry of taskvec.models
    decodings: tuple[DecodingKind, ...] = ("likeliest",)  # that it has; one without codes has its answers alone
    arrangements: int = 1  # ways to lay out a prompt's images that ``arranged`` runs

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that it takes and gives; 0 of a model that takes texts."""
        return 0

    @property
    def takes_texts(self) -> bool:
        return self.image_size == 0

    @property
    def answer_scope(self) -> AnswerScope | None:
        """How much of an answer this variant is judged by, of a model that takes texts; else None."""
        return None

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

    def depth(self, stack: str, layer: int) -> int:
        """How many layers run before this one, as ``advance`` counts them; 0 of a model that cannot."""
        return 0

    def advance(self, items: Any, depth: int) -> Any:
        """The items with the first ``depth`` layers run, once for all patches of later ones; ``run`` goes on from it.

        What was advanced does not go back. By default the items as they are.
        """
        return items

    def narrow(self, items: Any, *, answers: bool) -> Any:
        """Items whose runs end in no more than ``answers`` need of them, or ``losses``; by default as they are."""
        return items

    @abstractmethod
    def answers(self, outputs: Tensor, items: Any) -> Pixels:
        """The query outputs as images, by the decoding of this variant; of texts the likeliest tokens,
        int64 [rows, tokens that are scored]."""

    def truths(self, prompts: Truths) -> Tensor:
        """What a metric compares ``answers`` with: true outputs, or their tokens with -1 where a text has ended."""
        return torch.from_numpy(prompts.query_output)

    def texts(self, answers: Int[Tensor, "rows tokens"]) -> list[str]:
        """Answers that are tokens as texts; ValueError of a model whose answers are images."""
        raise ValueError(f"a model of the type {self.model_type} answers with images")

    def remarks(self, prompts: Truths) -> list[str]:
        """What a reader of scores on these prompts should know of how the model is given them, a sentence each."""
        return []

    def generate(
        self,
        texts: Sequence[str],
        tokens: int,
        *,
        patch: Any = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """What follows texts, at most so many tokens, with a patch at their last token if there is one: the likeliest
        tokens, or at a ``temperature`` those drawn with ``seed`` of which the likeliest have ``top_p`` of the
        probability. ValueError of a model whose answers are images."""
        raise ValueError(f"a model of the type {self.model_type} answers with images")

    @property
    def decoding(self) -> Decoding:
        """That of this variant."""
        return Decoding()

    def pictures(self, outputs: Tensor, items: Any) -> Float[Tensor, "rows size size 3"]:
        """The query outputs before they are rounded or cut, 0 to 255, with a gradient.

        Raises ValueError for a decoding that has none, such as the choice of a code.
        """
        raise ValueError(f"the decoding {self.decoding} has no gradient: expected `expected`, or the objective token")

    def drafts(self, outputs: Tensor) -> Int[Tensor, "rows numbers"] | None:
        """What ``answers`` are made of where that is few numbers: of one item, equal ones have equal answers."""
        return None

    @abstractmethod
    def targets(self, prompts: Truths) -> Targets:
        """What ``losses`` compares with."""

    @abstractmethod
    def losses(self, outputs: Tensor, items: Any, targets: Any) -> Float[Tensor, " rows"]:
        """The model's own loss of every row, lower is better, with a gradient."""

    def features(self, images: Images) -> Float[Tensor, "n width"]:
        """What the encoder makes of images alone: its last layer's output, the mean over their tokens."""
        raise ValueError(f"a model of the type {self.model_type} has no features of inputs alone")

    @abstractmethod
    def mean_outputs(self, outputs: Iterable[Tensor]) -> Tensor:
        """Outputs of several runs on the same queries as one, of what they say of an answer the mean; a single run's
        are returned as they are."""

    def arranged(self, inputs: Inputs) -> Iterator[Tensor]:
        """Outputs of one-shot runs, one for each of ``arrangements``: first the usual one, in whose order all are.

        ValueError without supports.
        """
        yield self.run(self.prepare(inputs, "one_shot"))

    @property
    def has_tokenizer(self) -> bool:
        """Whether images are decoded from codes."""
        return False

    def reconstruction(self, prompts: Truths) -> Pixels:
        """The truth through the tokenizer and back, of a model that has one."""
        raise NotImplementedError(f"a model of the type {self.model_type} has no tokenizer")

    def mixture(self, prompts: Truths) -> Pixels:
        """The means of codes that come nearest to the truth, of a model that has a tokenizer."""
        raise NotImplementedError(f"a model of the type {self.model_type} has no tokenizer")

    @abstractmethod
    def cost(self, view: ViewName, *, answers: bool, gradient: bool) -> RowCost:
        """Of a row of a pass that ends in ``answers`` or in losses, estimated from above."""

    @property
    @abstractmethod
    def number_of_parameters(self) -> int: ...

    @abstractmethod
    def gigaflops(self) -> dict[str, float]:
        """GFLOP of one run in each view, by its name, and of what else there is to a run, as torch counts them; of a
        model whose prompts are of any length, of a token."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What ``taskvec info`` says of the architecture alone."""

    @abstractmethod
    def variant(self, variant: Variant) -> Self:
        """This model, computing so, with the same identity; ValueError for what it does not have."""

    @abstractmethod
    def fingerprint(self) -> str:
        """The digest of ``identity``, of which variants have the same."""

    def former_fingerprint(self) -> str | None:
        """What task vectors of formats 1 and 2 call it; None for a model that came later."""
        return None

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity(self.name, self.model_type, self.fingerprint())

    def sites(
        self,
        granularity: Granularity = "quadrant",
        stacks: Sequence[str] | None = None,
        view: ViewName = "query_only",
    ) -> Sites:
        """The sites of a search among the places that ``view`` has, in these stacks or in all."""
        return Sites.group(self.stacks, self.present(view), granularity, stacks)


def require_model(model: object) -> None:
    """ValueError for the name of a model, or the directory of one, in its place."""
    if isinstance(model, str | Path):
        raise ValueError(f"the model is {str(model)!r}, a name: expected what taskvec.load_model({str(model)!r}) gives")
