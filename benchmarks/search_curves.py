"""How good a search is for its cost: test scores by evaluations and by seconds, over seeds.

    .venv/bin/python benchmarks/search_curves.py --tasks low_light --seeds 0 1 2 3 4 --out search-curves

Searches on as many items see the same ones of drawn scenes, all the same statistics and validation items; seeds change.
`paper` is Section 8.1, but that the best set that was seen is final and not a sample.
At each of its checkpoints the best set so far is scored on 500 test queries that no search sees, by the task's metric.
Evaluations are of the search and of the validation items that choose; one with a gradient counts as three. Seconds are
of processor time, summed over threads, so that other work on the machine does not count. The variants of `paper` take a
sixth of its steps, to be compared with it at as many evaluations.

Says how each search ends, beside the score that `paper` has at as many evaluations, and after how many evaluations and
seconds each first has the mean score that `paper` ends with, which `paper` itself may have before its end. Writes
OUT.jsonl, a line for each checkpoint, all searches with one seed before the next seed, goes on where it was
interrupted, and draws OUT.png.

With --effects instead, how attribution ranks sites beside causal mediation analysis: rank correlations, and the
validation losses of as many of the best sites by either.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from taskvec import collect, evaluation, load_data, load_model
from taskvec.finding import pose_search, statistics_prompts
from taskvec.heads import Patch
from taskvec.models.interface import PromptedModel
from taskvec.objectives import ObjectiveKind
from taskvec.presets import PRESETS
from taskvec.prompts import draw_prompts
from taskvec.search import (
    AttributionSettings,
    CmaSettings,
    ReinforceSettings,
    RelaxedSettings,
    SearchSettings,
    attributed_effects,
    causal_effects,
)
from taskvec.search.attribution import prefixes
from taskvec.search.gradient import COST_OF_A_GRADIENT
from taskvec.tasks import TASKS, Task

BEST = PRESETS["best"]
TEST_QUERIES = 500
COSTS = ("evaluations", "seconds")
# name: items searched on, objective, settings. `paper` is Section 8.1; `per item` compares masks on the same item.
SEARCHES: dict[str, tuple[int, ObjectiveKind, SearchSettings]] = {
    "paper": (10, "pixel", ReinforceSettings()),
    "paper, per item": (10, "pixel", ReinforceSettings(steps=100, baseline="per_item")),
    "paper, shared masks": (10, "pixel", ReinforceSettings(steps=100, shared_masks=True)),
    "paper, token": (10, "token", ReinforceSettings(steps=100)),
    "per item, token": (
        40,
        "token",
        ReinforceSettings(
            steps=60, masks_per_item=8, learning_rate=0.3, baseline="per_item", checkpoint_every=10, candidates=31
        ),
    ),
    "relaxed": (40, "token", RelaxedSettings(checkpoint_every=10)),
    "relaxed, halving": (40, "token", RelaxedSettings(checkpoint_every=10, halving=True)),
    "relaxed, straight through": (40, "token", RelaxedSettings(checkpoint_every=10, gate="straight_through")),
    "relaxed, hard concrete": (40, "token", RelaxedSettings(checkpoint_every=10, gate="hard_concrete")),
    "relaxed, start": (40, "token", RelaxedSettings(steps=20, checkpoint_every=10, halving=True, start="attribution")),
    "attribution": (40, "token", AttributionSettings()),
    "attribution, 80 items": (80, "token", AttributionSettings()),
}
POINTS, COUNTS = (1, 4), (4, 8, 16, 32, 64)  # of integrated gradients; numbers of sites that are compared
BAR = "paper"  # the search that the others are measured against
COLOURS = dict(
    zip(
        SEARCHES,
        (
            "#222222",
            "#999999",
            "#56b4e9",
            "#0072b2",
            "#009e73",
            "#8c510a",
            "#d55e00",
            "#e69f00",
            "#cc79a7",
            "#7a0177",
            "#006837",
            "#41ab5d",
        ),
        strict=True,
    )
)


def run(model: PromptedModel, task: Task, name: str, seed: int, *, bfloat16: bool) -> list[dict[str, Any]]:
    """A record of every checkpoint of one search."""
    items, kind, settings = SEARCHES[name]
    data, size = load_data("scenes", "validation"), model.image_size
    statistics = collect(model, [statistics_prompts(model, data, task, BEST)])
    finding = replace(BEST, items=items, objective=kind, bfloat16=bfloat16, search=settings)
    posed = pose_search(model, data, [task], finding, statistics)
    means, sites = statistics.means([task.name]), posed.objective.sites
    judge = settings.required(posed.problem.validate, "validate")
    queries = draw_prompts(load_data("scenes", "test"), task, TEST_QUERIES, size, 0)
    first, each = _costs(items, settings)
    counted, best, records = [0], [(float("inf"), None)], []
    started, away = time.process_time(), [0.0]

    def screen(masks: Any, share: float = 1.0) -> Any:
        counted[0] += len(masks) * max(1, round(share * BEST.validation))
        return posed.problem.screen(masks, share) if posed.problem.screen else judge(masks, share)

    def validate(masks: Any, share: float = 1.0) -> Any:
        counted[0] += len(masks) * max(1, round(share * BEST.validation))
        losses = judge(masks, share)
        if share < 1:  # a round of halving, which names no best
            return losses
        winner = int(losses.argmin())
        if float(losses[winner]) < best[0][0]:
            best[0] = (float(losses[winner]), masks[winner])
        return losses

    def on_step(record: dict[str, Any]) -> None:
        if "validation_loss" not in record or best[0][1] is None:
            return
        now = time.process_time()
        patch = Patch(sites, best[0][1][None], means)
        scores = evaluation.scores(model, evaluation.run(model, "query_only", patch), queries)
        fact = {"model": model.fingerprint(), "task": task.name, "search": name, "seed": seed}
        fact |= {"settings": settings_of(name, bfloat16=bfloat16)}
        fact |= {"step": record["step"], "score": float(scores.mean())}
        fact |= {"evaluations": first + record["step"] * each + counted[0], "seconds": now - started - away[0]}
        records.append(fact | {"validation_loss": best[0][0]})
        away[0] += time.process_time() - now

    found = settings.search(replace(posed.problem, validate=validate, screen=screen, seed=seed), on_step)
    if found.interrupted:
        raise KeyboardInterrupt
    return records


def _costs(items: int, settings: SearchSettings) -> tuple[int, int]:
    """Evaluations before the first step, and of every step."""
    match settings:
        case RelaxedSettings():
            return COST_OF_A_GRADIENT * items * (settings.start == "attribution"), COST_OF_A_GRADIENT * settings.items
        case ReinforceSettings():
            return 0, items * settings.masks_per_item
    return 0, COST_OF_A_GRADIENT * items


def effects(model: PromptedModel, tasks: list[str], seeds: list[int]) -> None:
    """A table of how attribution and causal mediation analysis rank sites, a row a task and seed."""
    print("| task | seed | points | rank, CMA by tokens | rank, CMA by pixels | " + " | ".join(map(str, COUNTS)) + " |")
    print("|---" * (5 + len(COUNTS)) + "|")
    data = load_data("scenes", "train")
    for task in tasks:
        for seed in seeds:
            settings = replace(BEST, seed=seed, search=AttributionSettings())
            statistics = collect(model, [statistics_prompts(model, data, TASKS[task], settings)])
            problem = pose_search(model, data, [TASKS[task]], settings, statistics).problem
            judge = settings.search.required(problem.validate, "validate")
            pixels = replace(settings, objective="pixel", items=10, search=CmaSettings())
            by_pixels = causal_effects(pose_search(model, data, [TASKS[task]], pixels, statistics).problem)
            by_tokens = causal_effects(problem)
            ranked = {f"{n}": attributed_effects(problem, n)[0] for n in POINTS}
            for name, own in {**ranked, "CMA, tokens": by_tokens, "CMA, pixels": by_pixels}.items():
                ranks = " | ".join(f"{_spearman(own, other):.3f}" for other in (by_tokens, by_pixels))
                losses = " | ".join(f"{loss:.4f}" for loss in judge(prefixes(own, COUNTS)).tolist())
                print(f"| {task} | {seed} | {name} | {ranks} | {losses} |", flush=True)


def _spearman(first: Tensor, second: Tensor) -> float:
    """The rank correlation of numbers without ties."""
    ranks = [values.argsort().argsort().double() for values in (first, second)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


def settings_of(name: str, *, bfloat16: bool) -> str:
    """All that a search is but its seed, so that one of other settings is not taken for it."""
    items, kind, settings = SEARCHES[name]
    return repr(((items, kind, settings), BEST.prompts, BEST.validation)) + bfloat16 * " bfloat16"


class Point(NamedTuple):
    """A checkpoint of a search: mean and standard deviation of the score over seeds, and the median cost until then."""

    score: float
    spread: float
    evaluations: float
    seconds: float
    seeds: int


def curves(records: list[dict[str, Any]]) -> dict[str, dict[str, list[Point]]]:
    """By task and search the checkpoints in their order."""
    steps: dict[tuple[str, str, int], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        steps[record["task"], record["search"], record["step"]].append(record)
    found: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for (task, name, _), runs in sorted(steps.items(), key=lambda item: item[0][2]):
        scores, evaluations, seconds = (np.array([run[key] for run in runs]) for key in ("score", *COSTS))
        spread = np.std(scores, ddof=1) if len(runs) > 1 else np.nan
        point = Point(scores.mean(), float(spread), float(np.median(evaluations)), float(np.median(seconds)), len(runs))
        found[task][name].append(point)
    return found


def table(records: list[dict[str, Any]]) -> None:
    """The score at the end of each search, its cost, and what the paper's search has reached at that cost."""
    print(f"| task | search | score | evaluations | seconds | seeds | {BAR} at as many evaluations |")
    print("|---|---|---|---|---|---|---|")
    for task, searches in curves(records).items():
        for name in [name for name in SEARCHES if name in searches]:
            end = searches[name][-1]
            before = [point for point in searches.get(BAR, []) if point.evaluations <= end.evaluations]
            cost = f"{end.evaluations:,.0f} | {end.seconds:.0f}"
            same = f"{before[-1].score:.4f}" if before else "no checkpoint yet"
            print(f"| {task} | {name} | {end.score:.4f} ± {end.spread:.4f} | {cost} | {end.seeds} | {same} |")


def race(records: list[dict[str, Any]]) -> None:
    """What each search costs until its mean score is first as good as that at the end of the paper's.

    How many times less, than the paper's whole search and than the paper's until then.
    """
    print(f"\n| task | search | evaluations to {BAR}'s score | less than all, than until then | seconds | less |")
    print("|---|---|---|---|---|---|")
    for task, searches in curves(records).items():
        if BAR not in searches:
            continue
        sign = 1 if TASKS[task].metric.better == "higher" else -1
        whole = searches[BAR][-1]
        target = sign * whole.score
        reached = {
            name: next((point for point in searches[name] if sign * point.score >= target), None)
            for name in SEARCHES
            if name in searches
        }
        bar = reached[BAR]
        for name, point in reached.items():
            if point is None or bar is None:
                print(f"| {task} | {name} | not reached | | | |")
                continue
            times = [f"{each.evaluations / point.evaluations:.1f}x" for each in (whole, bar)]
            less = [f"{each.seconds / point.seconds:.1f}x" for each in (whole, bar)]
            cells = (f"{point.evaluations:,.0f}", ", ".join(times), f"{point.seconds:.0f}", ", ".join(less))
            print(f"| {task} | {name} | {' | '.join(cells)} |")


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Scores by evaluations and by seconds, a row a task, a line a seed."""
    tasks = list(dict.fromkeys(record["task"] for record in records))
    figure = Figure((11.5, 3.4 * len(tasks)), 128, layout="constrained")
    for row, task in zip(figure.subplots(len(tasks), 2, squeeze=False), tasks, strict=True):
        for axes, cost in zip(row, COSTS, strict=True):
            for name, colour in COLOURS.items():
                seeds = {r["seed"] for r in records if (r["task"], r["search"]) == (task, name)}
                for index, seed in enumerate(sorted(seeds)):
                    own = [r for r in records if (r["task"], r["search"], r["seed"]) == (task, name, seed)]
                    points = [r[cost] for r in own], [r["score"] for r in own]
                    axes.plot(*points, color=colour, marker=".", linewidth=1, label=None if index else name)
            axes.set_xscale("log")
            axes.set_xlabel("seconds of processor time" if cost == "seconds" else cost)
            axes.set_ylabel(f"{task.replace('_', ' ')}, test {TASKS[task].metric.label}")
            axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8.5)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["low_light", "segmentation"])
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bfloat16", action="store_true", help="compute searches in this precision")
    parser.add_argument("--out", type=Path, default=Path("search-curves"))
    parser.add_argument("--effects", action="store_true", help="only how attribution ranks sites, beside CMA")
    options = parser.parse_args()
    model = load_model(options.model)
    if options.effects:
        effects(model, options.tasks, options.seeds)
        return
    log = options.out.with_suffix(".jsonl")
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("}\n")]  # a killed run may leave half a line
    fingerprint = model.fingerprint()
    wanted = {name: settings_of(name, bfloat16=options.bfloat16) for name in SEARCHES}
    records = [r for r in records if (r["model"], r["settings"]) == (fingerprint, wanted[r["search"]])]
    done = {(record["task"], record["search"], record["seed"]) for record in records}
    for seed in options.seeds:
        for task in options.tasks:
            for name in options.searches:
                if (task, name, seed) not in done:
                    records += (found := run(model, TASKS[task], name, seed, bfloat16=options.bfloat16))
                    with log.open("a") as file:
                        file.write("".join(json.dumps(record) + "\n" for record in found))
    table(records)
    race(records)
    draw(records, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
