"""The same answers by the likeliest and by the expected codes, to look at: twenty queries of the pictures that ship.

    .venv/bin/python benchmarks/decoded_pictures.py --root VOCdevkit --out docs/small-decodings.png

A query is one of the six photographs, or a corner of one, and its example another photograph, whole or a corner.
Temperatures and levels of masks are chosen, and task vectors found, on the training photographs of Pascal-5i, or on
drawn scenes without --root: the pictures choose nothing. Prints the mean score of each column as a Markdown table.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from taskvec import TASKS, evaluation, load_data, load_model
from taskvec.answering import calibrate
from taskvec.data.examples import Examples
from taskvec.data.pictures import Pictures
from taskvec.finding import find, validation_prompts
from taskvec.images import resize
from taskvec.models.interface import Decoding
from taskvec.presets import PRESETS
from taskvec.prompts import draw_prompts
from taskvec.report.panels import answers_figure

WHOLE, SIDE = 224, 144  # pixels of a photograph, and of a corner that is cut out of it
CORNERS = {"": (0, 0, WHOLE)} | {
    f", {down} {across}": (top, left, SIDE)
    for down, top in {"top": 0, "bottom": WHOLE - SIDE}.items()
    for across, left in {"left": 0, "right": WHOLE - SIDE}.items()
}
HALF = 127  # of a mask
OBJECT = (0.02, 0.95)  # the least and the most of an image that its object may fill
QUERIES = 20
DOTS = 110  # an inch

Indices = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Corners:
    """The photographs and their corners as examples, where they show enough of the object and of what is around it."""

    pictures: Pictures = Pictures()
    cuts: list[tuple[int, str]] = field(init=False)  # a photograph, and where in it

    def __post_init__(self) -> None:
        every = [(number, name) for name in CORNERS for number in range(len(self.pictures))]
        shares = [(_cut(mask, name) > HALF).mean() for (_, name), mask in zip(every, self._of(every)[1], strict=True)]
        kept = [cut for cut, share in zip(every, shares, strict=True) if OBJECT[0] < share < OBJECT[1]]
        object.__setattr__(self, "cuts", kept)

    def __len__(self) -> int:
        return len(self.cuts)

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def class_of(self, indices: Indices) -> Indices:
        return np.zeros(len(indices), np.int64)

    def names(self, indices: Indices) -> list[str]:
        cuts = [self.cuts[index] for index in indices]
        return [name + where for name, (_, where) in zip(self.pictures.names(_numbers(cuts)), cuts, strict=True)]

    def images_of(self, indices: Indices) -> list[str]:
        return self.pictures.images_of(_numbers([self.cuts[index] for index in indices]))

    def groups_of(self, indices: Indices) -> list[str]:
        return self.images_of(indices)

    def remarks(self) -> list[str]:
        return []

    def describe(self) -> dict[str, object]:
        return {"data": "corners of pictures", "side": SIDE}

    def load(self, indices: Indices, size: int) -> Examples:
        cuts = [self.cuts[index] for index in indices]
        images, masks = (
            np.stack([resize(_cut(whole, name), size) for (_, name), whole in zip(cuts, side, strict=True)])
            for side in self._of(cuts)
        )
        return Examples(images, masks, self.class_of(indices), np.asarray(indices))

    def _of(self, cuts: list[tuple[int, str]]) -> tuple[np.ndarray, np.ndarray]:
        """The whole photographs that these are cut from, and their masks."""
        loaded = self.pictures.load(_numbers(cuts), WHOLE)
        if loaded.masks is None:
            raise ValueError("the pictures that ship have no masks")
        return loaded.images, loaded.masks


def _numbers(cuts: list[tuple[int, str]]) -> Indices:
    return np.array([number for number, _ in cuts])


def _cut(whole: np.ndarray, name: str) -> np.ndarray:
    top, left, side = CORNERS[name]
    return whole[top : top + side, left : left + side]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="small")
    parser.add_argument("--task", default="segmentation")
    parser.add_argument("--root", type=Path, help="a directory of Pascal-5i, of whose photographs all classes are used")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model, task, settings = load_model(options.model), TASKS[options.task], PRESETS["best"]
    train = load_data("pascal", "train", root=options.root) if options.root else load_data("scenes", "validation")
    prompts = draw_prompts(Corners(), task, QUERIES, model.image_size, 0)
    vectors = find(model, train, task, settings)
    patched = evaluation.run(model, "query_only", vectors.patch)
    one_shot = evaluation.run(model, "one_shot")
    chosen = calibrate(one_shot, validation_prompts(model, train, task, settings), settings.choices)
    print(f"one-shot is decoded as {chosen}\ntask vectors as {vectors.config.decoding}\n")
    columns = {
        "example": prompts.support_input,
        "its output": prompts.support_output,
        "query": prompts.query_input,
        "truth": prompts.query_output,
    }
    print(f"| | {task.metric.label} |\n|---|---|")
    ways = {"one-shot": (one_shot, chosen), "task vectors": (patched, vectors.config.decoding)}
    for kind in ("likeliest", "expected"):
        for name, (method, own) in ways.items():
            decoding = own if kind == "expected" else Decoding()
            answers = evaluation.answers(model, method.decoded(decoding), prompts)
            columns[f"{name}, {kind}"] = answers.numpy()
            print(f"| {name}, {kind} | {evaluation.judged(model, prompts, answers).scores.mean():.3f} |", flush=True)
    white = np.full_like(prompts.query_output, 255)
    print(f"| white everywhere | {evaluation.judged(model, prompts, torch.from_numpy(white)).scores.mean():.3f} |")
    answers_figure(columns, prompts.query_names).savefig(options.out, dpi=DOTS)


if __name__ == "__main__":
    main()
