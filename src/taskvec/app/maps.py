"""Where task vectors are: a map of layers and heads, and of one head the tokens that it takes the mean at."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taskvec.app.offer import Taskness
from taskvec.models.interface import PromptedModel
from taskvec.sites import Place
from taskvec.vectors import TaskVectors

if TYPE_CHECKING:
    from taskvec.analysis.clustering import HeadOutputs


@dataclass(frozen=True, order=True)
class Head:
    stack: str
    layer: int
    number: int

    @classmethod
    def named(cls, text: str) -> "Head":
        """The head of ``str(head)``; ValueError for anything else."""
        stack, _, rest = text.rpartition(" L")
        layer, _, number = rest.partition(" H")
        if not stack or not layer.isdecimal() or not number.isdecimal():
            raise ValueError(f"{text!r} is no head: expected one such as 'encoder L2 H3'")
        return cls(stack, int(layer), int(number))

    def __str__(self) -> str:
        return f"{self.stack} L{self.layer} H{self.number}"


@dataclass(frozen=True)
class HeadCell:
    """A head on the map: at how many places it takes the mean, whether that is switched ``off``, and its taskness as a
    share 0..1 of the map's highest, None where it is not known."""

    head: Head
    places: int
    off: bool
    taskness: float | None


@dataclass(frozen=True)
class TokenCell:
    """A place of a head: whether it takes the mean there, the mean's norm and the place's taskness as shares 0..1 of
    the head's highest."""

    place: Place
    chosen: bool
    norm: float
    taskness: float | None


@dataclass(frozen=True)
class TokenMap:
    """The places of one head, as many in a row as ``columns``; ``rest`` are those that lie on no grid, as CLS does."""

    head: Head
    cells: tuple[TokenCell, ...]
    columns: int
    rest: tuple[TokenCell, ...]


def chosen_places(vectors: TaskVectors) -> Mapping[str, Bool[Tensor, "layers heads places"]]:
    """By stack, where the vectors have a mean."""
    return {stack: ~mean.isnan().any(-1) for stack, mean in vectors.means.items()}


def heads_of(vectors: TaskVectors) -> set[Head]:
    """The heads that take a mean anywhere."""
    return {
        Head(stack, layer, number)
        for stack, chosen in chosen_places(vectors).items()
        for layer, number in chosen.any(-1).nonzero().tolist()
    }


def without(vectors: TaskVectors, off: Collection[Head]) -> TaskVectors | None:
    """The same vectors without these heads; None where no head is left."""
    means = {stack: mean.clone() for stack, mean in vectors.means.items()}
    for head in off:
        if head.stack in means:
            means[head.stack][head.layer, head.number] = torch.nan
    if all(mean.isnan().all() for mean in means.values()):
        return None
    return replace(vectors, means=means)


def head_map(
    model: PromptedModel, vectors: TaskVectors | None, off: Collection[Head] = (), taskness: Taskness | None = None
) -> dict[str, list[list[HeadCell]]]:
    """By stack, a row of heads for every layer."""
    chosen = {} if vectors is None else chosen_places(vectors)
    scores = {} if taskness is None else taskness.heads
    highest = _highest(list(scores.values()))
    rows: dict[str, list[list[HeadCell]]] = {}
    for stack, layout in model.stacks.items():
        counts = chosen[stack].sum(-1) if stack in chosen else torch.zeros(layout.layers, layout.heads)
        rows[stack] = []
        for layer in range(layout.layers):
            heads = [Head(stack, layer, number) for number in range(layout.heads)]
            rows[stack].append(
                [
                    HeadCell(
                        head,
                        int(counts[layer, head.number]),
                        head in off,
                        _share(scores[stack][layer, head.number], highest) if stack in scores else None,
                    )
                    for head in heads
                ]
            )
    return rows


def token_map(
    model: PromptedModel, vectors: TaskVectors | None, head: Head, taskness: Taskness | None = None
) -> TokenMap:
    """The places of a head in the order that the model has them, on the canvas's grid where they fill one.

    Raises ValueError for a head that the model does not have.
    """
    layout = model.stacks.get(head.stack)
    if layout is None or head.layer >= layout.layers or head.number >= layout.heads:
        raise ValueError(f"the model has no head {head}")
    nothing = torch.full((len(layout.places), layout.head_dim), torch.nan)
    known = vectors is not None and head.stack in vectors.means
    mean = vectors.means[head.stack][head.layer, head.number] if vectors is not None and known else nothing
    norms = mean.norm(dim=-1)
    scores = None if taskness is None else taskness.places[head.stack][head.layer, head.number]
    cells = [
        TokenCell(
            place,
            bool(norms[number].isfinite()),
            _share(norms[number], _highest([norms])),
            None if scores is None else _share(scores[number], _highest([scores])),
        )
        for number, place in enumerate(layout.places)
    ]
    rest = tuple(cell for cell in cells if cell.place.region in ("cls", None))
    grid = tuple(cell for cell in cells if cell.place.region not in ("cls", None))
    return TokenMap(head, grid, _columns(model, len(grid)), rest)


def _columns(model: PromptedModel, count: int) -> int:
    """Of a square canvas its side; of a canvas of two images above each other, one image's."""
    side = round(count**0.5)
    if side * side == count:
        return side
    half = round((count / 2) ** 0.5)
    return half if 2 * half * half == count else min(count, 16) or 1


def _highest(scores: list[Float[Tensor, "*any"]]) -> float:
    finite = [float(each[each.isfinite()].max()) for each in scores if each.isfinite().any()]
    return max(finite, default=0.0)


def _share(score: Tensor, highest: float) -> float:
    """0 where nothing is known; what is infinite counts as the highest."""
    if score.isnan() or highest <= 0:
        return 0.0
    return min(1.0, float(score) / highest)


def task_points(samples: "HeadOutputs", head: Head) -> dict[str, Float[np.ndarray, "prompts 2"]]:
    """The prompts' outputs of a head in the plane by t-SNE, by task, coordinates 0..1; ValueError for a head that there
    is not."""
    from taskvec.analysis.clustering import embed  # noqa: PLC0415 (where scikit-learn comes from)

    of_stack = samples.vectors.get(head.stack)
    if of_stack is None or head.layer >= of_stack.shape[0] or head.number >= of_stack.shape[1]:
        raise ValueError(f"the model has no head {head}")
    points = embed(of_stack[head.layer, head.number])
    points = (points - points.min(0)) / np.maximum(np.ptp(points, 0), 1e-12)
    labels = samples.labels.numpy()
    return {task: points[labels == number] for number, task in enumerate(samples.tasks)}
