"""Images a second: with an example in the prompt (one-shot) against task vectors in its place (query-only).

    .venv/bin/python benchmarks/throughput.py --models tiny small full --out throughput.json

Each way runs and decodes the same prompts, the whole canvas or the query output's quadrant alone; `model` leaves
decoding out. They take turns in every repeat, and ratios are medians over repeats: `alike` to one-shot of the same
decoding, `official` to one-shot with the canvas decoded, as the official code does. `by GFLOP` is what the latter would
be if every product and convolution took the same time. `full` is the published architecture with random weights.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch.utils.flop_counter import FlopCounterMode

from taskvec import draw_prompts, environment, load_data
from taskvec.heads import Means, Patch
from taskvec.models.interface import VIEWS, Area, Variant, ViewName
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.tasks import LOW_LIGHT
from workload import model_of

SITES = 0.3  # of all sites, patched with random means: their cost is not a matter of their values
NAMES: dict[ViewName, str] = {"one_shot": "one-shot", "query_only": "query-only + vectors"}


def ways(model: MaeVqgan, images: int) -> dict[tuple[ViewName, str], Callable[[int], object]]:
    """Answers to the first of the same prompts in every view, by what is decoded."""
    sites, tensors = model.sites("quadrant"), {}
    for stack, index in sites.index.items():
        tensors[stack] = torch.randn(1, *index.shape, model.stacks[stack].head_dim)
    means = Means(tensors, model.fingerprint())
    patches = {"one_shot": None, "query_only": Patch(sites, sites.sample(1, SITES), means)}
    prompts = draw_prompts(load_data("scenes", "validation"), LOW_LIGHT, images, model.config.image_size, 0)
    canvases = model.geometry.canvases(prompts).to(model.device)

    def way(view: ViewName, area: Area | None) -> Callable[[int], object]:
        decoder = model.variant(Variant(area=area))

        def run(count: int) -> object:
            codes = model(canvases[:count], view, patches[view]).argmax(-1)
            return codes if area is None else decoder.decode(codes, view)

        return run

    areas: tuple[Area | None, ...] = (None, *get_args(Area))
    return {(view, area or "model"): way(view, area) for area in areas for view in VIEWS}


@torch.inference_mode()
def measure(model: MaeVqgan, images: int, repeats: int) -> list[dict[str, Any]]:
    """A record of each way."""
    every = ways(model, images)
    seconds: dict[tuple[ViewName, str], list[float]] = {way: [] for way in every}
    operations = {}
    for repeat in range(repeats + 1):
        for way, run in every.items():
            if not repeat:  # for warming up, and for counting
                with FlopCounterMode(display=False) as counter:
                    run(1)
                operations[way] = counter.get_total_flops() / 1e9
                continue
            started = time.perf_counter()
            run(images)
            seconds[way].append((time.perf_counter() - started) / images)
    return [_record(view, decoded, seconds, operations) for view, decoded in every]


def _record(
    view: ViewName,
    decoded: str,
    seconds: dict[tuple[ViewName, str], list[float]],
    operations: dict[tuple[ViewName, str], float],
) -> dict[str, Any]:
    own = seconds[view, decoded]
    alike: tuple[ViewName, str] = ("one_shot", decoded)
    official: tuple[ViewName, str] = ("one_shot", "canvas")
    record: dict[str, Any] = {"way": NAMES[view], "decoded": decoded, "images_per_second": 1 / statistics.median(own)}
    for name, base in (("alike", seconds[alike]), ("official", seconds[official])):
        record[name] = statistics.median(first / second for first, second in zip(base, own, strict=True))
    gflop = operations[view, decoded]
    return record | {"gflop": gflop, "by_gflop": operations[official] / gflop}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["tiny"])
    parser.add_argument("--images", type=int, default=32, help="in one pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": environment.machine(), "versions": environment.versions(), "models": {}}
    print(
        "| model | way | decoded | images/s | alike | official | GFLOP | by GFLOP |\n|---|---|---|---|---|---|---|---|"
    )
    for name in options.models:
        model = model_of(name)
        results["models"][name] = measure(model, options.images, options.repeats)
        for record in results["models"][name]:
            cells = [name, record["way"], record["decoded"], f"{record['images_per_second']:.2f}"]
            cells += [f"{record[key]:.2f}" for key in ("alike", "official", "gflop", "by_gflop")]
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
