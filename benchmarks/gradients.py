"""Whether a search by gradient does better by the pixels of an answer than by the codes that it is made of.

    .venv/bin/python benchmarks/gradients.py --tasks inpainting low_light --seeds 0 1 2 3 4

Preset `best` as it is, with the token objective, and with the pixel objective in its place, whose gradient goes through
the tokenizer's decoder and the mean of codes. Both answer by the expected codes at one temperature, so that nothing but
the gradient differs: statistics, items, validation items, the choice among candidates and the starting point are the
same of a seed. Each seed searches on scenes of its own; all are judged on the same prompts of the split `final`.

Prints a Markdown table: a row for each seed, and the mean over seeds with the 95 % interval of the gain, query by
query, over queries and seeds. Seconds are of processor time for a search and its choice, without the statistics.
"""

import argparse
import time
from dataclasses import replace

import numpy as np

from taskvec import TASKS, evaluation, load_data, load_model
from taskvec.evaluation import Evaluation
from taskvec.finding import collect_for, find_sites
from taskvec.intervals import Interval, improvements, interval, nested_interval
from taskvec.models.interface import PromptedModel
from taskvec.objectives import ObjectiveKind
from taskvec.presets import PRESETS
from taskvec.prompts import Prompts, draw_prompts
from taskvec.statistics import Statistics

GRADIENTS: tuple[ObjectiveKind, ...] = ("token", "pixel")
TEMPERATURE = 1.5  # of both


def searched(
    model: PromptedModel, kind: ObjectiveKind, seed: int, prompts: Prompts, statistics: Statistics
) -> tuple[Evaluation, int, float]:
    """How the task vectors of one search do on prompts, the number of their sites, and the seconds of the search."""
    settings = replace(PRESETS["best"], seed=seed, objective=kind, temperatures=(TEMPERATURE,))
    started = time.process_time()
    train = load_data("scenes", "validation", seed=seed)
    (vectors,) = find_sites(model, train, [prompts.task], settings, statistics).vectors()
    seconds = time.process_time() - started
    method = evaluation.run(vectors.answering, "query_only", vectors.patch)
    return evaluation.evaluate(model, method, prompts), len(vectors.sites), seconds


def told(gain: Interval) -> str:
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def row(name: str, scores: tuple[float, float], gain: Interval, sites: str, seconds: tuple[float, float]) -> str:
    token, pixel = scores
    return f"| {name} | {token:.4f} | {pixel:.4f} | {told(gain)} | {sites} | {seconds[0]:.0f}, {seconds[1]:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--tasks", nargs="+", default=["inpainting", "low_light"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    model = load_model(options.model)
    for task in (TASKS[name] for name in options.tasks):
        prompts = draw_prompts(load_data("scenes", "final"), task, options.queries, model.image_size, 0)
        groups = prompts.query_groups
        print(f"\n{task.title}, {task.metric.label}, {options.queries} queries\n")
        print("| seed | by tokens | by pixels | gain by pixels | sites | seconds |\n|---|---|---|---|---|---|")
        gains, means, times = [], [], []
        for seed in options.seeds:
            settings = replace(PRESETS["best"], seed=seed)
            train = load_data("scenes", "validation", seed=seed)
            statistics = collect_for(model, train, [task], settings)
            results = [searched(model, kind, seed, prompts, statistics) for kind in GRADIENTS]
            token, pixel = (result.scores for result, _, _ in results)
            gains.append(improvements(task.metric, pixel, token))
            means.append((float(token.mean()), float(pixel.mean())))
            times.append((results[0][2], results[1][2]))
            sites = f"{results[0][1]}, {results[1][1]}"
            print(row(str(seed), means[-1], interval(gains[-1], groups), sites, times[-1]), flush=True)
        scores, seconds = np.mean(means, 0), np.mean(times, 0)
        whole = nested_interval(gains, [groups] * len(gains))
        print(row("mean", (scores[0], scores[1]), whole, "", (seconds[0], seconds[1])), flush=True)


if __name__ == "__main__":
    main()
