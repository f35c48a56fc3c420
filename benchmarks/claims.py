"""What becomes of the claims by what a study has so far: nothing is computed, a claim without its numbers is left open.

    .venv/bin/python benchmarks/claims.py --out study
    .venv/bin/python benchmarks/claims.py --model small --data pascal --root VOCdevkit --pairs 250 --out pascal

`taskvec experiment all` judges every claim in the end; this reads the cells of a directory in which single experiments
were run, with the same model, data, pairs and seeds. Prints a Markdown table of the claims that can be judged, and
names those that cannot.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskvec import load_model
from taskvec.experiments.cells import Store
from taskvec.experiments.claims import verdicts
from taskvec.experiments.evidence import METHOD_TITLES, Evidence
from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.protocol import GROUPS, protocol
from taskvec.experiments.study import Study
from taskvec.models import published_architecture


class MissingError(Exception):
    """A cell that is not there."""


class Found(Store):
    """A directory of cells, to which none is added."""

    def get(self, what: str, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        if not self.path(key, ".json").exists():
            raise MissingError(what)
        return super().get(what, key, compute)


def evidence(study: Study) -> Evidence:
    scores = {}
    for method in METHOD_TITLES:
        for task in tasks_in_order(study):
            try:
                scores[method, task] = study.scores(method, task)
            except MissingError:
                continue
    gigaflops = {"this model": study.model.gigaflops(), "published": published_architecture().gigaflops()}
    return Evidence(scores, gigaflops=gigaflops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--data", default="scenes", choices=["scenes", "pascal"])
    parser.add_argument("--root", type=Path)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    seeds = options.seeds or (1 if options.data == "pascal" else 3)
    given: dict[str, Any] = {"root": options.root} if options.root else {}
    chosen = protocol("best", GROUPS[options.data](range(seeds), **given), options.pairs, bfloat16=False, quick=False)
    judged = verdicts(evidence(Study(load_model(options.model), chosen, Found(options.out / "cells"))))
    print("| claim | here | why |\n|---|---|---|")
    for each in judged:
        if each.judgement != "cannot be tested here":
            ours = each.ours.replace("\n\n", "; ").replace("\n", "; ")
            print(f"| {each.claim}: {each.statement} | {each.judgement} | {each.explanation} ({ours}) |")
    left = [each.claim for each in judged if each.judgement == "cannot be tested here"]
    print(f"\nNot measured: {', '.join(left)}")


if __name__ == "__main__":
    main()
