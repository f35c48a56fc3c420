"""Answers side by side: with an example, without one, and without one but with task vectors."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taskvec.answering import Choices
from taskvec.app.pairs import Pair, read_pairs
from taskvec.data import load_data
from taskvec.files import printable
from taskvec.heads import Patch, run
from taskvec.images import Raster, read_raster
from taskvec.metrics import METRICS, Metric
from taskvec.models.interface import Decoding, PromptedModel, Variant, ViewName
from taskvec.prompts import Batch, draw_prompts
from taskvec.tasks import IDENTITY, SEGMENTATION, TASKS, Images, Task, compose
from taskvec.vectors import ANSWER_TOKENS, TaskVectors, input_pixels, result_image

ONE_SHOT, QUERY_ONLY, PATCHED = "one example", "query alone", "task vectors"
EXAMPLE = ("example's input", "example's output")
SHOWN_SIDE = 384  # pixels of the longer side of a picture in the page
SCENE_SIDE = 256
SCENE = "scene-"  # before the names of drawn files


@dataclass(frozen=True)
class Answers:
    """What is shown of one query: pictures by name, those of the prompt and the answers, and scores of the answers.

    ``refused`` says in a sentence why there are none.
    """

    name: str
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    metric: Metric | None = None
    refused: str | None = None


def weighted(terms: Sequence[tuple[TaskVectors, float]]) -> TaskVectors | None:
    """The sum of task vectors with these weights, of which those of 0 are left out; None where nothing is left.

    Raises ValueError where they do not add up: their sites differ.
    """
    parts = [vectors if weight == 1 else weight * vectors for vectors, weight in terms if weight]
    return reduce(operator.add, parts) if parts else None


def answer(
    model: PromptedModel,
    vectors: TaskVectors | None,
    query: Path,
    example: Pair | None = None,
    truth: Path | None = None,
) -> Answers:
    """All answers of a model to one image: with the ``example``, if there is one, alone, and with ``vectors``.

    All are decoded as the vectors are. With the ``truth`` they are scored by the vectors' metric, or by the one that
    the outputs tell. A file that cannot be used is ``refused``, not raised.
    """
    try:
        return _answer(model, vectors, query, example, truth)
    except (ValueError, OSError) as error:
        sentence = str(error).replace(f"{query.parent}/", "")
        return Answers(printable(query.name), refused=sentence)


def _answer(
    model: PromptedModel, vectors: TaskVectors | None, query: Path, example: Pair | None, truth: Path | None
) -> Answers:
    size, levels = model.image_size, None if vectors is None else vectors.levels
    raster = _read(query)
    pixels = _pixels(raster, size, vectors, query)
    metric = None if vectors is None else METRICS[vectors.config.metric]
    pairs = [pair for pair in (example, None if truth is None else (query, truth)) if pair is not None]
    supports = targets = pixels[None][:0]
    outputs, ignored = supports, None
    if pairs:
        asked = None if metric is None else metric.name
        examples, metric = read_pairs(pairs, size, asked, None if levels is None else (levels.low, levels.high))
        if example is not None:
            supports, outputs = examples.images[:1], _known(examples.outputs)[:1]
        if truth is not None:
            targets = _known(examples.outputs)[-1:]
            ignored = None if examples.ignored is None else torch.from_numpy(examples.ignored[-1:])
    decoding = Choices().first(model) if vectors is None else vectors.config.decoding
    batch = Batch(supports, outputs, pixels[None], targets, None)
    answers: dict[str, Tensor] = {}
    if example is not None:
        answers[ONE_SHOT] = _uncut(model, decoding, batch, "one_shot")
    answers[QUERY_ONLY] = _uncut(model, decoding, batch, "query_only")
    if vectors is not None:
        answers[PATCHED] = _uncut(model, decoding, batch, "query_only", vectors.patch)
    shown = _shown_size(raster.size)
    threshold = None if vectors is None else vectors.threshold
    pictures = {"query": _picture(raster.bytes(levels), shown)}  # as it is: the model sees it smaller
    if example is not None:
        for name, side in zip(EXAMPLE, (supports[0], outputs[0]), strict=True):  # as the model sees them
            pictures[name] = _picture(side, (SHOWN_SIDE // 2, SHOWN_SIDE // 2))
    for name, images in answers.items():
        pictures[name] = result_image(images[0].numpy(), shown, threshold)
    scores: dict[str, float] = {}
    if truth is not None and metric is not None:
        pictures["truth"] = _picture(targets[0], shown)
        wanted = torch.from_numpy(targets)
        scores = {
            name: float(metric.score(decoding.finish(images), wanted, ignored)) for name, images in answers.items()
        }
    return Answers(printable(query.name), pictures, scores, metric)


@torch.inference_mode()
def _uncut(
    model: PromptedModel, decoding: Decoding, batch: Batch, view: ViewName, patch: Patch | None = None
) -> Tensor:
    """The answer before masks are cut, uint8 [1, size, size, 3]."""
    variant = model.variant(Variant(decoding=replace(decoding, level=None)))
    items = variant.narrow(variant.prepare(batch, view), answers=True)
    return variant.answers(run(variant, items, patch), items).cpu()


def _read(path: Path) -> Raster:
    name = printable(path.name)
    try:
        return read_raster(path)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        why = str(error).replace(str(path), name)
        raise ValueError(why if name in why else f"{name} cannot be read as an image: {why}") from error


def _pixels(raster: Raster, size: int, vectors: TaskVectors | None, path: Path) -> np.ndarray:
    try:
        return input_pixels(raster, size, None if vectors is None else vectors.levels)
    except ValueError as error:
        raise ValueError(f"{printable(path.name)}: {error}") from error


def _known(outputs: Images | None) -> Images:
    if outputs is None:
        raise ValueError("the pairs have no outputs")
    return outputs


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(SHOWN_SIDE / max(size), max(1, SCENE_SIDE / max(size)))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _picture(levels: np.ndarray, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(levels).convert("RGB").resize(size, Image.Resampling.BICUBIC)


def drawn_example(directory: Path, tasks: Sequence[str], number: int) -> dict[str, Path]:
    """A drawn scene that no shipped model was trained on, as files: ``query``, ``truth`` and an example's two sides.

    It is of the built-in ones of ``tasks``: of one, or of two where one gives masks, such as the mask of an image with
    a hole; of segmentation where there is none.
    """
    prompts = draw_prompts(load_data("scenes", split="test"), _drawn_task(tasks), 1, SCENE_SIDE, seed=number)
    sides = {
        "query": prompts.query_input,
        "truth": prompts.query_output,
        "example-input": prompts.support_input,
        "example-output": prompts.support_output,
    }
    paths = {}
    for side, images in sides.items():
        paths[side] = directory / f"{SCENE}{number}-{side}.png"
        Image.fromarray(images[0]).save(paths[side])
    return paths


def _drawn_task(names: Sequence[str]) -> Task:
    known = [TASKS[name] for name in names if name in TASKS] or [SEGMENTATION]
    masks = [task for task in known if task.metric.of_masks]
    others = [task for task in known if task not in [*masks, IDENTITY]]
    return compose(others[0], masks[0]) if masks and others else (masks or others or known)[0]


def answer_texts(
    model: PromptedModel, vectors: TaskVectors, texts: Sequence[str], tokens: int = ANSWER_TOKENS
) -> list[Mapping[str, str]]:
    """The answers of a language model to inputs, the bare question's and with task vectors.

    Raises ValueError for vectors of images and where an input is empty.
    """
    patched = vectors.generate(texts, tokens)
    wording = vectors.config.wording
    if wording is None:
        raise ValueError(f"the task vectors of {vectors.task} are of images: texts are none")
    alone = model.generate([wording.input(text.strip()) for text in texts], tokens)
    return [
        {"input": text.strip(), QUERY_ONLY: wording.answer(bare), PATCHED: with_vectors}
        for text, bare, with_vectors in zip(texts, alone, patched, strict=True)
    ]
