"""Made-up evidence whose means are the numbers that the paper prints, with little noise."""

from collections.abc import Mapping

import numpy as np

from taskvec.experiments.claims import PAPER, TASKS
from taskvec.experiments.evidence import COMPOSED, OPPONENTS, XRAYS, Evidence
from taskvec.metrics import IOU, MSE, Metric
from taskvec.results import GroupScores, Scores
from taskvec.tasks import TASKS as BUILT_IN

PAIRS, SPLITS, NOISE = 40, 2, 0.01
HEADS = 512
PUBLISHED = {"one_shot": 102.8, "query_only": 36.05, "decode_canvas": 193.4, "decode_quadrant": 48.3}


def made_scores(metric: Metric, mean: float, seed: int = 0, noise: float = NOISE) -> Scores:
    """Two groups whose means are exactly ``mean``, of a few pairs an image."""
    random = np.random.default_rng(seed)
    groups = {}
    for split in range(SPLITS):
        scores = random.normal(0, noise, PAIRS)
        images = [f"{split}-{pair // 2}" for pair in range(PAIRS)]
        groups[f"split {split}"] = GroupScores(scores - scores.mean() + mean, images)
    return Scores(metric, groups)


def made_starts(means: Mapping[tuple[int, float], float], noise: float = NOISE) -> dict[tuple[int, float], Scores]:
    """Of one group of ten items."""
    starts = {}
    for seed, (place, mean) in enumerate(means.items()):
        scores = np.random.default_rng(seed).normal(0, noise, 10)
        group = GroupScores(scores - scores.mean() + mean, [str(item) for item in range(10)])
        starts[place] = Scores(IOU, {"split 0": group})
    return starts


def papers_evidence(changes: Mapping[tuple[str, str], float] | None = None) -> Evidence:
    """Every claim that can be tested at all can be with it, and holds; ``changes`` are other means of some scores."""
    means = {(method, task): mean for method, row in PAPER.items() for task, mean in zip(TASKS, row, strict=False)}
    for task in TASKS:
        iou = BUILT_IN[task].metric is IOU
        means["query_only", task] = 0.05 if iou else 5.0
        means["reconstruction", task] = 0.9 if iou else 0.2
        means |= {(opponent, task): PAPER["one_shot"][TASKS.index(task)] for opponent in OPPONENTS}
    means |= {("combined", COMPOSED): 0.3, ("vectors_multi", COMPOSED): 0.25, ("inpainting_multi", COMPOSED): 0.1}
    means |= changes or {}
    scores = {
        (method, task): made_scores(IOU if task == COMPOSED else BUILT_IN[task].metric, mean, seed)
        for seed, ((method, task), mean) in enumerate(means.items())
    }
    xrays = {
        (method, task): made_scores(MSE, mean, seed)
        for task in XRAYS
        for seed, (method, mean) in enumerate({"vectors": 0.5, "query_only": 2.0, "reconstruction": 0.4}.items())
    }
    starts = made_starts({(k, p): 0.2 for k in (14, 17, 20) for p in (0.1, 0.3, 0.6)} | {(17, 0.3): 0.3})
    gigaflops = {"small": {**PUBLISHED, "one_shot": 60.0}, "published": PUBLISHED}
    return Evidence(scores, xrays, (0.7, -0.8), gigaflops, starts, layers=32, heads=HEADS)
