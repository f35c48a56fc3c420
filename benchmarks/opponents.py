"""Task vectors beside the strong ways to prompt, pair by pair: docs/experiments.md, "Against stronger prompts".

    .venv/bin/python benchmarks/opponents.py --out opponents
    .venv/bin/python benchmarks/opponents.py --model small --data pascal --root VOCdevkit --pairs 60 --out opponents

Methods answer as in `taskvec experiment table-3`, each with the temperature and the level that suit it on prompts that
judge nothing, on the same prompts: drawn scenes of one or several seeds, or the four splits of Pascal-5i. Every number
is a cell of OUT/cells, as an experiment's, so that an interrupted run goes on, and that the directory of an experiment
with as many pairs gives what it has.

Prints two Markdown tables: means and their gain over the example at random, and the gains of the task vectors over
every other method, all with 95 % intervals over queries and groups.
"""

import argparse
from pathlib import Path
from typing import Any

from taskvec import load_model
from taskvec.experiments.cells import Store
from taskvec.experiments.evidence import METHOD_TITLES, OPPONENTS
from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.paper import TASKS
from taskvec.experiments.protocol import GROUPS, protocol
from taskvec.experiments.study import Study
from taskvec.intervals import Interval, verdict


def told(gain: Interval) -> str:
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", default="scenes", choices=["scenes", "pascal"])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=TASKS)
    parser.add_argument("--opponents", nargs="+", choices=OPPONENTS, default=OPPONENTS)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    prompts = ("one_shot", *options.opponents)
    given: dict[str, Any] = {"root": options.root} if options.root else {}
    groups = GROUPS[options.data](range(options.seeds), **given)
    chosen = protocol("best", groups, options.pairs, bfloat16=False, quick=False)
    study = Study(load_model(options.model), chosen, Store(options.out / "cells"))
    every = {
        task: {method: study.scores(method, task) for method in (*prompts, "vectors", "query_only")}
        for task in options.tasks or tasks_in_order(study)
    }
    titles = [f"{study.task(task).title}, {study.task(task).metric.label}" for task in every]
    heading = f"| | {' | '.join(titles)} |\n|{'---|' * (1 + len(titles))}"
    print(heading)
    for method in (*prompts, "vectors", "query_only"):
        cells = []
        for scores in every.values():
            gain = "" if method == "one_shot" else f", {told(scores[method].gain_over(scores['one_shot']))}"
            cells.append(f"{scores[method].mean:.4f}{gain}")
        print(f"| {METHOD_TITLES[method]} | {' | '.join(cells)} |")
    print(f"\nTask vectors over each\n\n{heading}")
    for method in prompts:
        cells = []
        for scores in every.values():
            gain, theirs = scores["vectors"].gain_over(scores[method]), scores[method]
            cells.append(f"{told(gain)} {verdict(gain, theirs.metric.allowed(theirs.mean))}")
        print(f"| {METHOD_TITLES[method]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
