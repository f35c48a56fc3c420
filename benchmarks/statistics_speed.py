"""What the statistics of head outputs cost beside the one-shot runs that they are of.

    .venv/bin/python benchmarks/statistics_speed.py --models tiny small --out statistics-speed.json

`forward` runs the prompts and keeps nothing, `collect` also takes mean and variance of every head output; they take
turns, and the ratio is the median over repeats. `peak` is the process's largest memory so far, with the prompts'
images, which are drawn before; `memory.py` measures it where they are read as they are needed.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from taskvec import collect, draw_prompts, environment, load_data
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts
from taskvec.statistics import BATCH
from taskvec.tasks import LOW_LIGHT
from workload import model_of


@torch.inference_mode()
def forward(model: MaeVqgan, prompts: Prompts) -> None:
    """One-shot runs, and the model's fingerprint, which belongs to the statistics."""
    for chunk in model.geometry.canvases(prompts).split(BATCH):
        model(chunk, "one_shot")
    model.fingerprint()


def measure(model: MaeVqgan, count: int, repeats: int) -> dict[str, Any]:
    """Seconds of both and their ratio."""
    prompts = draw_prompts(load_data("scenes", "validation"), LOW_LIGHT, count, model.config.image_size, 0)
    ways = {"forward": lambda: forward(model, prompts), "collect": lambda: collect(model, [prompts])}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if repeat:  # the first is for warming up
                seconds[name].append(time.perf_counter() - started)
    ratios = [own / base for own, base in zip(seconds["collect"], seconds["forward"], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"prompts": count, **medians, "ratio": statistics.median(ratios), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["tiny"])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": environment.machine(), "versions": environment.versions(), "models": {}}
    print("| model | prompts | forward, s | collect, s | ratio | peak, MiB |\n|---|---|---|---|---|---|")
    for name in options.models:
        model = model_of(name)
        results["models"][name] = []
        for count in (options.prompts, 4 * options.prompts):
            record = measure(model, count, options.repeats)
            results["models"][name].append(record)
            cells = (f"{record['forward']:.2f}", f"{record['collect']:.2f}", f"{record['ratio']:.2f}")
            print(f"| {name} | {count} | {' | '.join(cells)} | {record['peak_mib']} |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
