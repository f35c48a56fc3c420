"""How well a task is done: a score for every prompt, by whatever way the query output came about."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from taskvec import metrics
from taskvec.canvas import VIEWS, View, ViewName
from taskvec.heads import Patch
from taskvec.models.mae_vqgan import DecodeArea, MaeVqgan
from taskvec.prompts import Prompts
from taskvec.vectors import TaskVectors

Pixels = UInt8[Tensor, "n size size 3"]
Method = Callable[[UInt8[Tensor, "n canvas canvas 3"]], Pixels]

BATCH = 64


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval over prompts."""

    mean: float
    low: float
    high: float


def interval(scores: Float[np.ndarray, " n"], resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap of the mean."""
    drawn = np.random.default_rng(seed).integers(0, len(scores), (resamples, len(scores)))
    low, high = np.percentile(scores[drawn].mean(1), [2.5, 97.5])
    return Interval(float(scores.mean()), float(low), float(high))


def run(model: MaeVqgan, view: ViewName | View, patch: Patch | None = None, area: DecodeArea | None = None) -> Method:
    """The model's own answer in a view, patched or not (a patch of one row, the same for every prompt)."""

    def method(canvases: Tensor) -> Pixels:
        return model.decode(model(canvases, view, patch).argmax(-1), view, area)

    return method


def copy_input(model: MaeVqgan) -> Method:
    """The query input as the answer."""
    return lambda canvases: model.geometry.crop(canvases, "query_input")


def ceiling(model: MaeVqgan) -> Method:
    """The tokenizer's reconstruction of the truth: what perfect codes would score."""
    return model.reconstruct


@torch.inference_mode()
def answers(model: MaeVqgan, method: Method, prompts: Prompts) -> Pixels:
    """The query outputs that a method gives, in batches."""
    canvases = prompts.canvases(model.geometry)
    return torch.cat([method(chunk.to(model.device)).cpu() for chunk in canvases.split(BATCH)])


def scores(model: MaeVqgan, method: Method, prompts: Prompts) -> Float[np.ndarray, " n"]:
    """The task's metric of every prompt."""
    targets = torch.from_numpy(prompts.query_output)
    return metrics.score(prompts.task.metric, answers(model, method, prompts), targets).numpy()


def method_named(model: MaeVqgan, name: str) -> Method:
    """``one_shot``, ``query_only``, ``copy_input``, ``ceiling`` or ``vectors:DIRECTORY``; ValueError for another."""
    if name in VIEWS:
        return run(model, name)
    if name.startswith("vectors:"):
        return run(model, "query_only", TaskVectors.load(name.removeprefix("vectors:"), model).patch)
    others = {"copy_input": copy_input, "ceiling": ceiling}
    if name not in others:
        raise ValueError(f"there is no method {name!r}: expected {', '.join([*VIEWS, *others])} or vectors:DIRECTORY")
    return others[name](model)
