"""What an answer is worth by how it is made of a model's outputs, of one-shot prompts and of the query alone.

    .venv/bin/python benchmarks/decodings.py --model small --data pascal --root VOCdevkit --pairs 60
    .venv/bin/python benchmarks/decodings.py --model tiny --pairs 200
    .venv/bin/python benchmarks/decodings.py --model tiny --pairs 100 --area canvas

Prints a Markdown table a task: the likeliest codes; the mean of the codes' entries at several temperatures; the mean of
sampled decodings; the pixels of each code alone, weighted by its probability; of masks also shares of white in place of
the mean. Masks have two scores: cut at one half, and at the level that is best on prompts of the training part, fold by
fold. Of Pascal-5i every fold counts the same.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskvec import TASKS, evaluation, load_data, load_model
from taskvec.answering import LEVELS
from taskvec.data.pascal import FOLDS
from taskvec.metrics import WHITE
from taskvec.models.interface import VIEWS, Area, Decoding, Pixels, Variant, ViewName
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts, draw_prompts

TEMPERATURES = (0.7, 1.0, 1.5, 2.0, 2.5)
SAMPLED_AT = (1.0, 1.5)
SAMPLES = 8
CALIBRATION = 60  # prompts by which a level is chosen
ROWS = 16  # of a pass through the tokenizer

Pictures = Tensor  # [rows, size, size, 3] of float, 0 to 255


def believed(model: MaeVqgan, view: ViewName, prompts: Prompts) -> tuple[Tensor, Any]:
    """Logits of every prompt, and the items that they belong to."""
    return evaluation.run(model, view).outputs(prompts)


def pictures(model: MaeVqgan, decoding: Decoding, logits: Tensor, items: Any) -> Pictures:
    return model.variant(Variant(decoding=decoding)).answers(logits, items).float()


def sampled(model: MaeVqgan, temperature: float, logits: Tensor, items: Any) -> tuple[Pictures, Pictures]:
    """The mean of some decodings whose codes are drawn, and the share of them in which each pixel is white."""
    generator = torch.Generator().manual_seed(0)
    chances = (logits / temperature).softmax(-1)
    mean, white = torch.zeros(()), torch.zeros(())
    for _ in range(SAMPLES):
        codes = torch.multinomial(chances.flatten(0, 1), 1, generator=generator).view(chances.shape[:2])
        images = model.decode(codes, items.view).float()
        mean = mean + images / SAMPLES
        white = white + WHITE * is_light(images) / SAMPLES
    return mean, white


def alone(model: MaeVqgan, temperature: float, logits: Tensor, items: Any) -> tuple[Pictures, Pictures]:
    """The pixels that each code has among others like it, weighted by its probability, and likewise their whiteness."""
    grid = torch.arange(model.config.vqgan.codes)[:, None, None].expand(-1, 3, 3)
    patch = model.config.patch_size
    tiles = torch.cat([model.vqgan.decode(some) for some in grid.split(64)])[:, :, patch : 2 * patch, patch : 2 * patch]
    tiles = tiles.clamp(-1, 1).add(1).mul(WHITE / 2).permute(0, 2, 3, 1)
    chances = (model.query_output_logits(logits, items.view) / temperature).softmax(-1)
    half, size = model.geometry.grid // 2, model.image_size

    def laid_out(tiles: Tensor) -> Pictures:
        rows = (chances @ tiles.flatten(1)).unflatten(-1, tiles.shape[1:]).unflatten(1, (half, half))
        return rows.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, -size:, -size:]

    return laid_out(tiles), laid_out(WHITE * is_light(tiles))


def is_light(images: Pictures) -> Pictures:
    return (images.mean(-1, keepdim=True) >= WHITE / 2).float().expand_as(images)


@torch.inference_mode()
def ways(model: MaeVqgan, of_masks: bool, view: ViewName, prompts: Prompts) -> Iterator[tuple[str, Pictures]]:
    """Every way by name, with its answers."""
    logits, items = believed(model, view, prompts)
    yield "likeliest", pictures(model, Decoding(), logits, items)
    for temperature in TEMPERATURES:
        decoding = Decoding("expected", temperature)
        yield f"expected, T = {temperature:g}", pictures(model, decoding, logits, items)
    others: dict[str, Callable[..., tuple[Pictures, Pictures]]] = {f"{SAMPLES} samples": sampled, "codes alone": alone}
    for temperature in SAMPLED_AT:
        for name, function in others.items():
            if function is alone and model.area == "canvas":
                continue
            mean, white = function(model, temperature, logits, items)
            yield f"mean of {name}, T = {temperature:g}", mean
            if of_masks:
                yield f"white of {name}, T = {temperature:g}", white


def chunked(model: MaeVqgan, of_masks: bool, view: ViewName, prompts: Prompts) -> dict[str, Pixels]:
    """Answers of all prompts by every way, as bytes."""
    answers: dict[str, list[Pixels]] = {}
    for start in range(0, len(prompts), ROWS):
        for name, images in ways(model, of_masks, view, prompts[start : start + ROWS]):
            answers.setdefault(name, []).append(images.to(torch.uint8))
    return {name: torch.cat(images) for name, images in answers.items()}


def mean_score(model: MaeVqgan, prompts: Prompts, answers: Pixels, level: float | None = None) -> float:
    return float(evaluation.judged(model, prompts, Decoding(level=level).finish(answers)).scores.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", default="scenes", choices=["scenes", "pascal"])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["segmentation", "low_light", "inpainting", "colorization"])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--area", choices=["canvas", "quadrant"])
    options = parser.parse_args()
    area: Area | None = options.area
    model = load_model(options.model).variant(Variant(area=area))
    if not isinstance(model, MaeVqgan):
        parser.error(f"--model {options.model}: only a MAE-VQGAN has codes")
    folds = range(FOLDS) if options.data == "pascal" else [None]
    parts = ("train", "test") if options.data == "pascal" else ("validation", "final")
    for task in (TASKS[name] for name in options.tasks):
        of_masks, scores, levels = task.metric.of_masks, {}, {}
        for fold in folds:
            given = {} if fold is None else {"fold": fold, "root": options.root}
            training, test = (load_data(options.data, part, **given) for part in parts)
            judged = draw_prompts(test, task, options.pairs, model.image_size, 0)
            chosen_by = draw_prompts(training, task, CALIBRATION, model.image_size, 1)
            for view in VIEWS:
                known = chunked(model, of_masks, view, chosen_by) if of_masks else {}
                for name, answers in chunked(model, of_masks, view, judged).items():
                    own = [mean_score(model, judged, answers)]
                    if of_masks:
                        best = max(LEVELS, key=partial(mean_score, model, chosen_by, known[name]))
                        own.append(mean_score(model, judged, answers, best))
                        levels.setdefault((view, name), []).append(f"{best:g}")
                    scores.setdefault((view, name), []).append(own)
        columns = [task.metric.label, *(["at the chosen level", "levels"] if of_masks else [])]
        print(f"\n{task.title}, {options.pairs} pairs{' a fold' if len(folds) > 1 else ''}\n")
        print(f"| | view | {' | '.join(columns)} |\n|{'---|' * (2 + len(columns))}")
        for (view, name), own in scores.items():
            means = [f"{mean:.3f}" for mean in np.mean(own, 0)]
            cells = [name, view, *means, *([", ".join(levels[view, name])] if of_masks else [])]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
