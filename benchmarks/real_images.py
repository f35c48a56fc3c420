"""A model on photographs and x-rays: the numbers of docs/real-images.md.

    .venv/bin/python benchmarks/real_images.py --pascal VOCdevkit --xrays xrays --out real-images.jsonl

`--pascal` is a directory that `taskvec evaluate --data pascal` reads. `--xrays` holds `images/input/`, x-rays, and
`lungs/input/` and `lungs/output/`, x-rays with masks of the lungs. Every cell is a line of the output as soon as it is
there; the same command goes on where it was interrupted, and prints the tables in the end.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from taskvec import evaluation, load_data, load_model
from taskvec.data.examples import DataSet, Part, task_for
from taskvec.data.pascal import FOLDS
from taskvec.evaluation import Evaluation
from taskvec.finding import find
from taskvec.intervals import bounded, nested_interval
from taskvec.models.interface import PromptedModel
from taskvec.presets import PRESETS
from taskvec.prompts import draw_prompts, pairs_of
from taskvec.tasks import INPAINTING, LOW_LIGHT, TASKS, Task, task_named
from taskvec.vectors import TaskVectors

METHODS = ("one_shot", "query_only", "task_vectors", "scene_vectors", "copy_input", "reconstruction")
Cells = dict[str, dict[str, Any]]


class Bench:
    """A model, the cells measured so far, and the task vectors found on the way."""

    def __init__(
        self, model: PromptedModel, out: Path, pairs: int, seed: int, roots: list[Path | None], *, bfloat16: bool
    ):
        self._model, self._out, self._pairs, self._seed = model, out, pairs, seed
        self._key = {"model": model.fingerprint(), "pairs_wanted": pairs, "seed": seed}
        self._key |= {"roots": [None if root is None else str(root.resolve()) for root in roots]}
        self._settings = replace(PRESETS["best"], seed=seed, bfloat16=bfloat16)
        self._key |= {"settings": json.loads(json.dumps(asdict(self._settings)))}
        lines = out.read_text().splitlines(keepends=True) if out.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("}\n")]  # a killed run may leave half a line
        self.cells: Cells = {record["cell"]: record for record in records if self._key.items() <= record.items()}
        self._on_scenes: dict[str, TaskVectors] = {}

    def measure(self, name: str, task: Task, test: DataSet, train: DataSet) -> None:
        """Every method on pairs of ``test``; task vectors are found on ``train``."""
        wanted = {*METHODS} - (set() if task.name in TASKS else {"scene_vectors"})
        if all(f"{name} {task.name} {method}" in self.cells for method in wanted):
            return
        count = min(self._pairs, pairs_of(test))
        prompts = draw_prompts(test, task, count, self._model.image_size, self._seed)
        methods: dict[str, evaluation.Method] = {
            method: evaluation.method_named(self._model, method)
            for method in ("one_shot", "query_only", "copy_input", "reconstruction")
        }
        started = time.perf_counter()
        vectors = find(self._model, train, task, self._settings)
        seconds = time.perf_counter() - started
        methods["task_vectors"] = evaluation.run(self._model, "query_only", vectors.patch)
        if task.name in TASKS:
            methods["scene_vectors"] = evaluation.run(self._model, "query_only", self._scene_vectors(task).patch)
        results = {method: evaluation.evaluate(self._model, run, prompts) for method, run in methods.items()}
        with self._out.open("a") as lines:
            for method, result in results.items():
                record = {**self._key, **_record(f"{name} {task.name} {method}", result)}
                record["find_seconds"] = seconds if method == "task_vectors" else 0.0
                self.cells[record["cell"]] = record
                lines.write(json.dumps(record) + "\n")

    def _scene_vectors(self, task: Task) -> TaskVectors:
        """Found on drawn scenes, which are all that the shipped model was trained on."""
        if task.name not in self._on_scenes:
            self._on_scenes[task.name] = find(self._model, load_data("scenes", "validation"), task, self._settings)
        return self._on_scenes[task.name]


def _record(cell: str, result: Evaluation) -> dict[str, Any]:
    summary = asdict(evaluation.summarise([result]))
    details = [] if result.details is None else result.details.tolist()
    scores = {"scores": result.scores.tolist(), "details": details, "of_groups": result.prompts.query_groups}
    return {"cell": cell, **summary, **scores}


def over_splits(cells: Cells, task: str, method: str, kind: str = "scores", digits: int = 3) -> str:
    """Mean over the four splits, its 95 % interval, in which is what splits, with a search each, and images add to it,
    and the standard deviation over splits as the paper has it (ddof 0)."""
    splits = [cells[f"split {fold} {task} {method}"] for fold in range(FOLDS)]
    values = [np.array(split[kind]) for split in splits]
    known = [np.isfinite(of_split) for of_split in values]  # no pixel of some query may change
    groups = [np.array(split["of_groups"])[rows].tolist() for split, rows in zip(splits, known, strict=True)]
    values = [of_split[rows] for of_split, rows in zip(values, known, strict=True)]
    chosen = task_named(task)
    metric = chosen.detail if kind == "details" and chosen.detail is not None else chosen.metric
    whole = bounded(nested_interval(values, groups), metric)
    spread = np.std([of_split.mean() for of_split in values])
    mean, low, high, spread = (f"{value:.{digits}f}" for value in (whole.mean, whole.low, whole.high, spread))
    return f"{mean} [{low}, {high}] ± {spread}"


def one(cells: Cells, place: str, task: str, method: str) -> str:
    """One cell with its interval; a dash where the method has none."""
    cell = cells.get(f"{place} {task} {method}")
    return "-" if cell is None else f"{cell['mean']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def table(rows: dict[str, Callable[[str], str]], methods: tuple[str, ...] = METHODS) -> None:
    """A Markdown table: a row for each label, a column for each method."""
    print("\n| | " + " | ".join(method.replace("_", " ") for method in methods) + " |")
    print("|---" * (len(methods) + 1) + "|")
    for label, cell in rows.items():
        print(f"| {label} | " + " | ".join(cell(method) for method in methods) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pascal", type=Path, required=True)
    parser.add_argument("--xrays", type=Path)
    parser.add_argument("--pairs", type=int, default=1000, help="in each split")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="compute searches in this precision")
    parser.add_argument("--out", type=Path, default=Path("real-images.jsonl"))
    options = parser.parse_args()
    roots = [options.pascal, options.xrays]
    model = load_model(options.model)
    bench = Bench(model, options.out, options.pairs, options.seed, roots, bfloat16=options.bfloat16)
    for fold in range(FOLDS):
        train, test = (load_data("pascal", part, root=options.pascal, fold=fold) for part in ("train", "test"))
        for task in TASKS.values():
            bench.measure(f"split {fold}", task, test, train)
    cells = bench.cells
    table({task: lambda method, task=task: over_splits(cells, task, method) for task in TASKS})
    rows = {f"{task.name}, {task.detail.name}": task.name for task in TASKS.values() if task.detail is not None}
    print("\nErrors of what the task is to change")
    table(
        {
            label: lambda method, task=task: over_splits(cells, task, method, "details", 4)
            for label, task in rows.items()
        }
    )
    for fold in range(FOLDS):
        print(f"\nSplit {fold}")
        table({task: lambda method, task=task, fold=fold: one(cells, f"split {fold}", task, method) for task in TASKS})
    if options.xrays is not None:
        xrays(bench, options.xrays, load_data("pascal", "train", root=options.pascal))
    speed(cells)


def xrays(bench: Bench, root: Path, photographs: DataSet) -> None:
    """In-painting and low light with vectors from elsewhere (Figure 6), lungs with vectors of their own."""
    for task in (LOW_LIGHT, INPAINTING):
        bench.measure("x-rays", task, load_data("folder", "all", root=root / "images"), photographs)
    train, test = (load_data("folder", part, root=root / "lungs") for part in ("train", "test"))
    task = task_for(train, None)
    counts = [len(train), 8]
    for count in counts:
        bench.measure(f"{count} pairs", task, test, Part(train, np.arange(count)))
    rows = {"low light": ("x-rays", "low_light"), "in-painting": ("x-rays", "inpainting")}
    rows |= {f"lungs, {count} pairs": (f"{count} pairs", task.name) for count in counts}
    table({label: lambda method, place=place: one(bench.cells, *place, method) for label, place in rows.items()})


def speed(cells: Cells) -> None:
    """Pairs a second of each method, and the seconds that a search took: medians over all cells."""
    for method in METHODS:
        rates = [cell["pairs_per_second"] for cell in cells.values() if cell["cell"].endswith(f" {method}")]
        print(f"{method}: {np.median(rates):.0f} pairs/s (median of {len(rates)})")
    seconds = [cell["find_seconds"] for cell in cells.values() if cell["find_seconds"]]
    print(f"statistics and search: {np.median(seconds):.0f} s (median of {len(seconds)})")


if __name__ == "__main__":
    main()
