"""What is saved where only that is computed which a mask changes: seconds and peak memory of parts of searches.

    .venv/bin/python benchmarks/shared_layers.py --models tiny small --out shared_layers.json

`plain` runs every layer in every run, predicts every patch of the view and decodes every answer; `shared` is what
searches do. Both have the same losses but for rounding, and take turns in every repeat; ratios are medians.
`cma` patches every site alone and scores by pixels; `reinforce` is a step of random masks and `relaxed` one of
gradients, both by tokens and among the sites of the decoder alone. With `--peaks`, on Linux, MiB by which the process's
peak grows in a step among all tokens. `full` is the published architecture with random weights.
"""

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taskvec import collect, draw_prompts, environment, load_data
from taskvec.models.interface import PromptedModel
from taskvec.models.mae_vqgan import CanvasItems, MaeVqgan
from taskvec.objectives import Objective, ObjectiveKind
from taskvec.sites import Granularity
from taskvec.tasks import LOW_LIGHT
from workload import model_of

SHARE = 0.27  # of the sites in a random mask: what a search starts from


class Plain(MaeVqgan):
    """With what a model does that says nothing of its layers."""

    def depth(self, stack: str, layer: int) -> int:
        return PromptedModel.depth(self, stack, layer)

    def advance(self, items: CanvasItems, depth: int) -> CanvasItems:
        return PromptedModel.advance(self, items, depth)

    def narrow(self, items: CanvasItems, *, answers: bool) -> CanvasItems:
        return PromptedModel.narrow(self, items, answers=answers)

    def drafts(self, outputs: Tensor) -> None:
        return None


def plain(model: MaeVqgan) -> Plain:
    """The same model, weights and all."""
    other = copy(model)
    other.__class__ = Plain
    return other  # pyright: ignore[reportReturnType]


def objective(
    model: MaeVqgan, items: int, kind: ObjectiveKind, granularity: Granularity, stacks: tuple[str, ...] | None
) -> Objective:
    """Low light on drawn scenes, with means over eight prompts."""
    data, size = load_data("scenes", "validation"), model.config.image_size
    means = collect(model, [draw_prompts(data, LOW_LIGHT, 8, size, 1)]).means([LOW_LIGHT.name])
    prompts = draw_prompts(data, LOW_LIGHT, items, size, 0)
    return Objective(model, model.sites(granularity, stacks), means, [prompts], kind)


def steps(model: MaeVqgan, items: int, masks: int, ways: list[str]) -> dict[str, Callable[[], Tensor]]:
    """Losses, and what else comes out, of a part of each kind of search."""
    every = torch.arange(items)
    made: dict[str, Callable[[], Tensor]] = {}
    if "cma" in ways:
        own = objective(model, items, "pixel", "quadrant", None)

        def cma() -> Tensor:
            own._known.clear()  # of the repeat before
            return own.evaluate_product(torch.eye(len(own.sites)).bool(), every)

        made["cma"] = cma
    decoder = objective(model, items, "token", "quadrant", ("decoder",))
    random = decoder.sites.sample(masks * items, SHARE)
    shares = torch.full((len(decoder.sites),), SHARE)
    if "reinforce" in ways:
        made["reinforce"] = lambda: decoder(random, every.repeat(masks))
    if "relaxed" in ways:
        made["relaxed"] = lambda: decoder.differentiate(shares, every)[0]
    return made


def measure(model: MaeVqgan, items: int, masks: int, repeats: int, ways: list[str]) -> list[dict[str, Any]]:
    """A record of each part: seconds of both, and how many times faster one is."""
    both = [steps(each, items, masks, ways) for each in (plain(model), model)]
    records = []
    for name in both[0]:
        seconds: list[tuple[float, float]] = []
        losses: list[Tensor] = []
        for _ in range(repeats):
            taken = []
            for each in both:
                started = time.perf_counter()
                losses.append(each[name]())
                taken.append(time.perf_counter() - started)
            seconds.append((taken[0], taken[1]))
        medians = [statistics.median(taken) for taken in zip(*seconds, strict=True)]
        faster = statistics.median(first / second for first, second in seconds)
        apart = float((losses[0] - losses[1]).abs().max())
        record = {"part": name, "plain": medians[0], "shared": medians[1], "times": faster, "largest_difference": apart}
        records.append(record)
    return records


def peaks(model: MaeVqgan, items: int, masks: int) -> dict[str, float]:
    """MiB by which the peak grows in a step of gradients, and of random masks on one item, among all tokens."""
    grown = {}
    own = objective(model, items, "token", "token", None)
    for name, step in {
        "reinforce": lambda: own(own.sites.sample(masks, SHARE), torch.zeros(masks, dtype=torch.int64)),
        "relaxed": lambda: own.differentiate(torch.full((len(own.sites),), SHARE), torch.arange(items)),
    }.items():
        before = _status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins again
        step()
        grown[name] = _status("VmHWM") - before
    return grown


def _status(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    if found is None:
        raise ValueError(f"the system does not say {name}: peaks are measured on Linux alone")
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["tiny"])
    parser.add_argument("--ways", nargs="+", default=["cma", "reinforce", "relaxed"])
    parser.add_argument("--items", type=int, default=10)
    parser.add_argument("--masks", type=int, default=32, help="random ones on every item")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peaks", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": environment.machine(), "versions": environment.versions(), "models": {}}
    print("| model | part | plain, s | shared, s | times faster | largest difference |\n|---|---|---|---|---|---|")
    for name in options.models:
        model = model_of(name)
        records = measure(model, options.items, options.masks, options.repeats, options.ways) if options.repeats else []
        results["models"][name] = {"parts": records}
        for record in records:
            numbers = [f"{record[key]:.2f}" for key in ("plain", "shared", "times")]
            print("| " + " | ".join([name, record["part"], *numbers, f"{record['largest_difference']:.0e}"]) + " |")
        if options.peaks:
            grown = peaks(model, options.items, options.masks)
            results["models"][name]["peaks_mib"] = grown
            print(
                f"{name}, growth of the peak, MiB: " + ", ".join(f"{key} {value:.0f}" for key, value in grown.items())
            )
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
