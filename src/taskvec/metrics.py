"""Metrics of predicted images, one number per sample (Section 8.3, and the conventions of the official code)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from taskvec.models.mae_vqgan import IMAGENET_STD
from taskvec.tasks import Detail, Metric

Pixels = UInt8[Tensor, "n height width 3"]
Ignored = Bool[Tensor, "n height width"]  # True where a truth does not say what is right, as at VOC's void borders


def is_white(images: Pixels) -> Bool[Tensor, "n height width"]:
    """Pixels nearer to white than to black in squared distance; a tie, which bytes cannot make, would be white."""
    return 2 * images.sum(-1, dtype=torch.int32) >= 3 * 255


def intersection_over_union(images: Pixels, targets: Pixels, ignored: Ignored | None = None) -> Float[Tensor, " n"]:
    """IoU of the white areas, 0..1; 1 where both are empty. Pixels that are ``ignored`` count as in neither."""
    predicted, true = is_white(images).flatten(1), is_white(targets).flatten(1)
    if ignored is not None:
        predicted, true = predicted & ~ignored.flatten(1), true & ~ignored.flatten(1)
    union = (predicted | true).sum(1)
    return torch.where(union > 0, (predicted & true).sum(1) / union.clamp(min=1), 1.0)


def mean_squared_error(images: Pixels, targets: Pixels) -> Float[Tensor, " n"]:
    """Mean over pixels and channels of the squared difference in ImageNet-normalised units."""
    scale = 255 * torch.tensor(IMAGENET_STD, device=images.device)
    return ((images.float() - targets.float()) / scale).square().flatten(1).mean(1)


def chroma_error(images: Pixels, targets: Pixels, inputs: Pixels) -> Float[Tensor, " n"]:
    """Mean over pixels of the squared differences of Cb and Cr (ITU-R 601, 0..1): colour without luminance."""
    difference = (images.float() - targets.float()) / 255
    return (difference @ _CHROMA.to(difference).T).square().sum(-1).flatten(1).mean(1)


def changed_error(images: Pixels, targets: Pixels, inputs: Pixels) -> Float[Tensor, " n"]:
    """``mean_squared_error`` over the pixels in which truth and input differ; NaN where none does.

    For in-painting that is the hole, but for pixels that are as black as it.
    """
    changed = (inputs != targets).any(-1, keepdim=True)
    scale = 255 * torch.tensor(IMAGENET_STD, device=images.device)
    squares = ((images.float() - targets.float()) / scale).square() * changed
    return squares.flatten(1).sum(1) / (3 * changed.flatten(1).sum(1))


_CHROMA = torch.tensor([[-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
DETAILS: dict[Detail, Callable[[Pixels, Pixels, Pixels], Tensor]] = {"chroma": chroma_error, "changed": changed_error}


def score(metric: Metric, images: Pixels, targets: Pixels, ignored: Ignored | None = None) -> Float[Tensor, " n"]:
    """The metric of every sample; ``iou`` is better when higher, ``mse`` when lower, which ignores no pixel."""
    if metric == "iou":
        return intersection_over_union(images, targets, ignored)
    return mean_squared_error(images, targets)


def loss(metric: Metric, scores: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """What a search minimises: the error, or minus the IoU."""
    return -scores if metric == "iou" else scores
