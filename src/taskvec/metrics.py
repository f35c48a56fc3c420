"""Metrics of predicted images and tokens, one number per sample (Section 8.3, and the official code's conventions).

All that the rest of the package must know of a metric is in its object: a new one is a function and a ``Metric`` here.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from pydantic import AfterValidator
from torch import Tensor

from taskvec.choices import METRICS
from taskvec.images.colour import IMAGENET_STD
from taskvec.names import choose_from

Pixels = UInt8[Tensor, "n height width 3"]
Tokens = Int[Tensor, "n scored"]  # of an answer; of a truth -1 where it has ended
Ignored = Bool[Tensor, "n height width"]  # True where a truth does not say what is right, as at VOC's void borders
Better = Literal["higher", "lower"]
WHITE = 255
STEEPNESS = 4.0  # of a soft mask's edge
Numbers = TypeVar("Numbers", float, np.ndarray, Tensor)


class Measure(Protocol):
    """Scores [n] of answers beside their truths, images or tokens; ``ignored`` and the ``inputs`` matter to some."""

    def __call__(
        self,
        answers: Pixels | Tokens,
        truths: Pixels | Tokens,
        /,
        ignored: Ignored | None = None,
        inputs: Pixels | None = None,
    ) -> Float[Tensor, " n"]: ...


class SoftMeasure(Protocol):
    """Scores [n] of pictures, 0 to 255 and not rounded, with a gradient; masks would be cut at ``level``."""

    def __call__(
        self, pictures: Float[Tensor, "n height width 3"], targets: Pixels, ignored: Ignored | None, level: float
    ) -> Float[Tensor, " n"]: ...


@dataclass(frozen=True)
class Metric:
    """A measure and all that follows from what it measures.

    ``name`` is what options and files call it, ``label`` what tables print, ``unit`` what its axis is in; ``described``
    says what it is in a phrase. A score is between ``low`` and ``high``. ``of_masks``: the outputs are masks, and two
    without a white pixel are a perfect score. ``of_tokens``: they are words, not images. Two methods whose means differ
    by less than ``margin`` do equally well; ``margin_is_share`` has it in shares of the mean of the one compared with.
    ``soft`` is the measure for a search by gradient, None where there is none.
    """

    name: str
    label: str
    measure: Measure
    unit: str
    described: str
    better: Better = "lower"
    low: float = 0.0
    high: float = math.inf
    of_masks: bool = False
    of_tokens: bool = False
    margin: float = 0.05
    margin_is_share: bool = True
    soft: SoftMeasure | None = None

    def score(
        self,
        answers: Pixels | Tokens,
        truths: Pixels | Tokens,
        ignored: Ignored | None = None,
        inputs: Pixels | None = None,
    ) -> Float[Tensor, " n"]:
        """The score of every sample."""
        return self.measure(answers, truths, ignored, inputs)

    def loss(self, scores: Numbers) -> Numbers:
        """What a search minimises: an error itself, else minus the score; of a loss, the score again."""
        return -scores if self.better == "higher" else scores

    def gain(self, scores: Numbers, others: Numbers) -> Numbers:
        """By how much scores are better than others, positive where they are."""
        return scores - others if self.better == "higher" else others - scores

    def best(self, scores: Iterable[float]) -> float:
        return max(scores) if self.better == "higher" else min(scores)

    def allowed(self, reference: float) -> float:
        """How much worse than ``reference``, the mean of what is compared with, is still as good."""
        return self.margin * reference if self.margin_is_share else self.margin

    @property
    def margin_told(self) -> str:
        if self.margin_is_share:
            return f"{self.margin:.0%} of the error of the method compared with"
        return f"{self.margin:g} {self.label}"


def is_white(images: Pixels, level: float = WHITE / 2) -> Bool[Tensor, "n height width"]:
    """Pixels whose channels' mean is at least ``level``, by default those nearer to white than to black."""
    return images.sum(-1, dtype=torch.int32) >= 3 * level


def cut(images: Pixels, level: float) -> Pixels:
    """Masks: white where an image ``is_white``, black elsewhere."""
    white = is_white(images, level).to(torch.uint8) * WHITE
    return white[..., None].expand(*images.shape).contiguous()


def intersection_over_union(
    images: Pixels, targets: Pixels, ignored: Ignored | None = None, inputs: Pixels | None = None
) -> Float[Tensor, " n"]:
    """IoU of the white areas, 0..1; 1 where both are empty. Pixels that are ``ignored`` count as in neither."""
    predicted, true = is_white(images).flatten(1), is_white(targets).flatten(1)
    if ignored is not None:
        predicted, true = predicted & ~ignored.flatten(1), true & ~ignored.flatten(1)
    union = (predicted | true).sum(1)
    return torch.where(union > 0, (predicted & true).sum(1) / union.clamp(min=1), 1.0)


def soft_intersection_over_union(
    pictures: Float[Tensor, "n height width 3"], targets: Pixels, ignored: Ignored | None, level: float
) -> Float[Tensor, " n"]:
    """IoU of shares of white, sigmoid(4 (grey / level - 1)), one half at the level at which the mask would be cut."""
    shares = torch.sigmoid(STEEPNESS * (pictures.mean(-1) / level - 1)).flatten(1)
    true = is_white(targets).flatten(1).to(shares)
    if ignored is not None:
        counted = (~ignored.flatten(1)).to(shares)
        shares, true = shares * counted, true * counted
    both = (shares * true).sum(1)
    return both / (shares.sum(1) + true.sum(1) - both).clamp(min=1e-6)


def mean_squared_error(
    images: Pixels, targets: Pixels, ignored: Ignored | None = None, inputs: Pixels | None = None
) -> Float[Tensor, " n"]:
    """Mean over pixels and channels of the squared difference in ImageNet-normalised units; no pixel is ignored."""
    return _squares(images, targets).flatten(1).mean(1)


def soft_mean_squared_error(
    pictures: Float[Tensor, "n height width 3"], targets: Pixels, ignored: Ignored | None, level: float
) -> Float[Tensor, " n"]:
    """``mean_squared_error`` of pictures that are not rounded; the level is of no matter to it."""
    return _squares(pictures, targets).flatten(1).mean(1)


def _squares(images: Shaped[Tensor, "n height width 3"], targets: Pixels) -> Float[Tensor, "n height width 3"]:
    scale = 255 * torch.tensor(IMAGENET_STD, device=images.device)
    return ((images.float() - targets.float()) / scale).square()


def chroma_error(
    images: Pixels, targets: Pixels, ignored: Ignored | None = None, inputs: Pixels | None = None
) -> Float[Tensor, " n"]:
    """Mean over pixels of the squared differences of Cb and Cr (ITU-R 601, 0..1): colour without luminance."""
    difference = (images.float() - targets.float()) / 255
    return (difference @ _CHROMA.to(difference).T).square().sum(-1).flatten(1).mean(1)


def changed_error(
    images: Pixels, targets: Pixels, ignored: Ignored | None = None, inputs: Pixels | None = None
) -> Float[Tensor, " n"]:
    """``mean_squared_error`` over the pixels in which truth and input differ; NaN where none does.

    For in-painting that is the hole, but for pixels that are as black as it. Raises ValueError without inputs.
    """
    if inputs is None:
        raise ValueError("what changes cannot be told without the inputs")
    changed = (inputs != targets).any(-1, keepdim=True)
    squares = _squares(images, targets) * changed
    return squares.flatten(1).sum(1) / (3 * changed.flatten(1).sum(1))


def every_token_right(
    answers: Tokens, truths: Tokens, ignored: Ignored | None = None, inputs: Pixels | None = None
) -> Float[Tensor, " n"]:
    """1 where every token of the truth is the answer's, else 0; what follows the end of the truth counts nowhere."""
    return ((answers == truths) | (truths < 0)).all(1).float()


_CHROMA = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

IOU = Metric(
    "iou",
    "IoU",
    intersection_over_union,
    unit="0 to 1",
    described="the overlap of the predicted and the true mask, 0 to 1",
    better="higher",
    high=1.0,
    of_masks=True,
    margin=0.02,
    margin_is_share=False,
    soft=soft_intersection_over_union,
)
MSE = Metric(
    "mse",
    "MSE",
    mean_squared_error,
    unit="normalised units",
    described="the mean squared difference of pixels after ImageNet normalisation",
    soft=soft_mean_squared_error,
)
TOP1 = Metric(
    "top1",
    "top-1",
    every_token_right,
    unit="0 to 1",
    described="the share of queries whose likeliest answer is the true one",
    better="higher",
    high=1.0,
    of_tokens=True,
    margin=0.02,
    margin_is_share=False,
)
FOR_MASKS, FOR_IMAGES = IOU, MSE  # where nothing else is asked for

# Second errors, of just what a task is to change, where its metric is mostly about the rest.
CHROMA = Metric(
    "chroma", "chroma error", chroma_error, unit="0 to 1", described="the mean squared difference of Cb and Cr"
)
CHANGED = Metric(
    "changed",
    "MSE of what changes",
    changed_error,
    unit="normalised units",
    described="MSE over the pixels that truth and input differ in",
)


def metric_named(name: str) -> Metric:
    """ValueError, which names the choices, where there is none of this name."""
    if name not in METRICS:
        raise ValueError(f"there is no metric {name!r}: {choose_from(name, METRICS)}")
    return METRICS[name]


# how records hold a metric, which refuse any other text
MetricName = Annotated[str, AfterValidator(lambda name: metric_named(name).name)]
