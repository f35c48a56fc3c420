"""How near an evaluation comes to what the machine can do: its GFLOP/s beside measured peaks.

    .venv/bin/python benchmarks/roofline.py --models tiny small --out roofline.json

`--models` takes shipped models, directories, and `full`: the published architecture with random weights. The peaks are
of a matrix product and a convolution alone, at the sizes of the full model: its widest layers on a batch of queries,
and the convolutions of each level of its decoder on a canvas. `bound` is the time that an evaluation's products and
convolutions, as torch counts them, would take at the best of these peaks, and `share` is that over the measured time.
bfloat16 is measured where the processor multiplies it in hardware. Peaks and evaluations take turns in every repeat.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from taskvec import environment
from taskvec.models.mae_vqgan import MaeVqganConfig
from taskvec.models.transformer import StackConfig
from taskvec.objectives import OBJECTIVES
from workload import masks_and_items, model_of, objective_of

Work = Callable[[], object]
CONVOLUTION = "convolution"  # all other operations that torch counts are matrix products
ENOUGH = 0.05  # seconds that a measurement lasts at least


def products(rows: int, dtype: torch.dtype) -> dict[str, Work]:
    """The widest product of each stack on the tokens that the query-only view has, of so many rows."""
    config = MaeVqganConfig()
    patches = (config.canvas_size // config.patch_size // 2) ** 2
    works = {"square": _product(2048, 2048, 2048, dtype)}
    for name, stack, tokens in (("encoder", config.encoder, 1 + patches), ("decoder", config.decoder, 1 + 2 * patches)):
        works[f"{name} MLP"] = _product(rows * tokens, stack.width, _hidden(stack), dtype)
    return works


def convolutions(dtype: torch.dtype) -> dict[str, Work]:
    """The residual blocks' convolution of each level of the tokenizer's decoder on one canvas."""
    config = MaeVqganConfig()
    works = {}
    for level, multiplier in enumerate(config.vqgan.multipliers):
        side, channels = config.canvas_size // 2**level, config.vqgan.channels * multiplier
        image = torch.randn(1, channels, side, side, dtype=dtype)
        weight = torch.randn(channels, channels, 3, 3, dtype=dtype)
        works[f"{channels} channels, {side} x {side}"] = _convolution(image, weight)
    return works


def _hidden(stack: StackConfig) -> int:
    return int(stack.width * stack.mlp_ratio)


def _product(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> Work:
    x, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    return lambda: torch.nn.functional.linear(x, weight)


def _convolution(image: torch.Tensor, weight: torch.Tensor) -> Work:
    return lambda: torch.nn.functional.conv2d(image, weight, padding=1)


def evaluations(name: str, rows: int, bfloat16: bool) -> dict[str, Work]:
    """A batch of evaluations by each objective."""
    model = model_of(name)
    works: dict[str, Work] = {}
    for kind in OBJECTIVES:
        objective = objective_of(model, kind=kind, rows=rows, bfloat16=bfloat16)
        masks, items = masks_and_items(objective, rows)
        works[kind] = lambda objective=objective, masks=masks, items=items: objective(masks, items)
    return works


def operations(work: Work) -> tuple[float, float]:
    """GFLOP of its matrix products and of its convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    counts = counter.get_flop_counts()["Global"]
    convolved = sum(count for operation, count in counts.items() if CONVOLUTION in str(operation))
    return (sum(counts.values()) - convolved) / 1e9, convolved / 1e9


@torch.inference_mode()
def measure(works: dict[str, Work], repeats: int) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    counts = {}
    for name, work in works.items():
        work()
        started = time.perf_counter()
        work()
        counts[name] = max(1, round(ENOUGH / (time.perf_counter() - started)))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            started = time.perf_counter()
            for _ in range(counts[name]):
                work()
            seconds[name].append((time.perf_counter() - started) / counts[name])
    return {name: statistics.median(own) for name, own in seconds.items()}


def compare(
    models: list[str], rows: int, repeats: int, dtype: torch.dtype
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """GFLOP/s of everything that runs alone, and a record of each evaluation."""
    peaks = {"product": products(rows, dtype), CONVOLUTION: convolutions(dtype)}
    evaluated = {name: evaluations(name, rows, dtype == torch.bfloat16) for name in models}
    groups = {**peaks, **evaluated}
    works = {f"{group}: {name}": work for group, own in groups.items() for name, work in own.items()}
    gigaflops = {name: operations(work) for name, work in works.items()}
    seconds = measure(works, repeats)
    rates = {name: sum(gigaflops[name]) / seconds[name] for name in works}
    best = [max(rates[f"{group}: {name}"] for name in own) for group, own in peaks.items()]
    records = []
    for model, own in evaluated.items():
        for kind in own:
            name = f"{model}: {kind}"
            bound = sum(flop / peak for flop, peak in zip(gigaflops[name], best, strict=True))
            record = {"model": model, "objective": kind, "gflop": sum(gigaflops[name]) / rows, "rate": rates[name]}
            records.append(
                record | {"seconds": seconds[name] / rows, "bound": bound / rows, "share": bound / seconds[name]}
            )
    return {name: rates[name] for name in works if name.partition(":")[0] in peaks}, records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["tiny", "small"])
    parser.add_argument("--rows", type=int, default=32, help="masks in a pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    fast = environment.bfloat16_is_fast(torch.device("cpu"))
    results: dict[str, Any] = {"machine": environment.machine(), "versions": environment.versions(), "types": {}}
    for dtype in [torch.float32, torch.bfloat16] if fast else [torch.float32]:
        kind = str(dtype).removeprefix("torch.")
        peaks, records = compare(options.models, options.rows, options.repeats, dtype)
        results["types"][kind] = {"peaks": peaks, "evaluations": records}
        print(f"| alone, {kind} | GFLOP/s |\n|---|---|")
        print("\n".join(f"| {name} | {rate:.0f} |" for name, rate in peaks.items()))
        print(f"\n| evaluation, {kind} | GFLOP | ms | GFLOP/s | bound, ms | share |\n|---|---|---|---|---|---|")
        for record in records:
            numbers = f"{record['gflop']:.3f} | {1000 * record['seconds']:.2f} | {record['rate']:.0f}"
            bound = f"{1000 * record['bound']:.2f} | {100 * record['share']:.0f} %"
            print(f"| {record['model']}, {record['objective']} | {numbers} | {bound} |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
