"""How fast a search evaluates masks: every way of doing it against one at a time, as the paper's code does it.

    .venv/bin/python benchmarks/evaluation_speed.py --models tiny --out evaluation-speed.json

`--models` takes shipped models, directories, and `full`: the published architecture with random weights. `reference` is
float32, one row a pass, the whole canvas decoded, and an encoding by the tokenizer whose result nothing uses. All ways
take turns in every repeat, and the ratio is the median over repeats of the reference's time over theirs. `difference`
is the mean difference from the exact losses over their standard deviation over masks, `rank` their rank correlation.
Ways in bfloat16 are left out where the processor only emulates it. tests/test_benchmarks.py holds the reference to the
recorded losses of the official code.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskvec import collect, draw_prompts, environment, load_data
from taskvec.heads import Means, Patch
from taskvec.models.interface import Variant
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.models.vqgan import to_unit
from taskvec.objectives import Objective, ObjectiveKind
from taskvec.prompts import Prompts
from taskvec.sites import Sites
from taskvec.tasks import LOW_LIGHT
from workload import model_of

ROWS = {"reference": 2}  # of a repeat; all other ways take the number asked for
Losses = Callable[[Tensor, Tensor], Tensor]


def reference(model: MaeVqgan, sites: Sites, means: Means, prompts: Prompts) -> Losses:
    """Losses one by one, as the official code computes them."""
    canvases = model.geometry.canvases(prompts)
    whole = model.variant(Variant(area="canvas"))
    metric = prompts.task.metric

    @torch.inference_mode()
    def losses(masks: Tensor, items: Tensor) -> Tensor:
        values = []
        for mask, item in zip(masks, items.tolist(), strict=True):
            canvas = canvases[item : item + 1]
            model.vqgan.encode(to_unit(canvas))
            codes = model(canvas, "query_only", Patch(sites, mask[None], means)).argmax(-1)
            image = whole.decode(codes, "query_only")
            truth = model.geometry.crop(canvas, "query_output")
            values.append(metric.loss(metric.score(image, truth)).float())
        return torch.cat(values)

    return losses


def ways(model: MaeVqgan, sites: Sites, means: Means, prompts: Prompts) -> dict[str, Losses]:
    """Every way of evaluating masks, from the reference to a gradient by all sites at once."""

    def objective(kind: ObjectiveKind = "pixel", **options: Any) -> Objective:
        return Objective(model.variant(Variant(**options)), sites, means, [prompts], kind)

    def with_a_gradient(objective: Objective) -> Losses:
        return lambda masks, items: objective.differentiate(masks.float().mean(0), items)[0]

    token = objective(kind="token")
    every: dict[str, Losses] = {
        "reference": reference(model, sites, means, prompts),
        "exact: float32, canvas": objective(area="canvas"),
        "float32, quadrant": objective(area="quadrant"),
        "token, float32": token,
        "token, float32, fused": objective(kind="token", fused=True),
        "token, float32, with a gradient": with_a_gradient(token),
    }
    if environment.bfloat16_is_fast(model.device):
        token = objective(kind="token", bfloat16=True)
        every |= {
            "bfloat16, canvas": objective(area="canvas", bfloat16=True),
            "bfloat16, quadrant": objective(area="quadrant", bfloat16=True),
            "token, bfloat16": token,
            "token, bfloat16, with a gradient": with_a_gradient(token),
        }
    return every


def measure(model: MaeVqgan, rows: int, repeats: int) -> list[dict[str, Any]]:
    """A record of each way."""
    data, size = load_data("scenes", "validation"), model.config.image_size
    sites = model.sites("quadrant")
    statistics_of_task = collect(model, [draw_prompts(data, LOW_LIGHT, 8, size, 1)])
    prompts = draw_prompts(data, LOW_LIGHT, 1, size, 0)  # one, so that losses differ by their masks alone
    every = ways(model, sites, statistics_of_task.means([LOW_LIGHT.name]), prompts)
    masks, items = sites.sample(rows, 0.3), torch.zeros(rows, dtype=torch.int64)
    seconds: dict[str, list[float]] = {name: [] for name in every}
    losses: dict[str, Tensor] = {}
    for repeat in range(repeats + 1):
        for name, evaluate in every.items():
            count = min(rows, ROWS.get(name, rows)) if repeat else 1
            started = time.perf_counter()
            losses[name] = evaluate(masks[:count], items[:count])
            if repeat:  # the first is for warming up
                seconds[name].append((time.perf_counter() - started) / count)
    exact = losses["exact: float32, canvas"]
    torch.testing.assert_close(losses["reference"], exact[: len(losses["reference"])], rtol=1e-3, atol=1e-3)
    return [_record(name, seconds[name], seconds["reference"], losses[name], exact) for name in every]


def _record(name: str, own: list[float], base: list[float], losses: Tensor, exact: Tensor) -> dict[str, Any]:
    ratios = [first / second for first, second in zip(base, own, strict=True)]
    record: dict[str, Any] = {"way": name, "seconds": statistics.median(own), "ratio": statistics.median(ratios)}
    if len(losses) == len(exact) and not name.startswith("token"):
        record["difference"] = float((losses - exact).mean() / exact.std())
    if len(losses) == len(exact) and "gradient" not in name:
        own_ranks, exact_ranks = (np.argsort(np.argsort(values.numpy())) for values in (losses, exact))
        record["rank"] = float(np.corrcoef(own_ranks, exact_ranks)[0, 1])
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["tiny"])
    parser.add_argument("--rows", type=int, default=64, help="masks evaluated in a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not environment.bfloat16_is_fast(torch.device("cpu")):
        print("This processor only emulates bfloat16: the ways that use it are left out.\n")
    results: dict[str, Any] = {"machine": environment.machine(), "versions": environment.versions(), "models": {}}
    print("| model | way | ms an evaluation | times the reference | difference | rank |\n|---|---|---|---|---|---|")
    for name in options.models:
        model = model_of(name)
        results["models"][name] = measure(model, options.rows, options.repeats)
        for record in results["models"][name]:
            effects = (f"{record[key]:+.3f}" if key in record else "" for key in ("difference", "rank"))
            cells = [name, record["way"], f"{1000 * record['seconds']:.1f}", f"{record['ratio']:.1f}", *effects]
            print("| " + " | ".join(cells) + " |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
