"""What intervals cover and what verdicts claim, in simulation: the tables of docs/statistics.md.

    .venv/bin/python benchmarks/coverage.py

Beside ours stand the percentile bootstrap, over images or over runs and then images, and what "not worse" would be by
the old habits: overlapping intervals, or no difference found.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from taskvec.intervals import FEWEST, gain, interval, nested_interval, verdict
from taskvec.metrics import IOU

STUDIES = 2000
RESAMPLES = 1000
IMAGES = (2, 3, 5, 10, 20, 50, 200)
MISSED = 0.2  # share of images whose object is not found

Draw = Callable[[np.random.Generator, tuple[int, ...]], Float[np.ndarray, "..."]]


def normal(random: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    return random.normal(0.5, 0.1, shape)


def iou(random: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """As segmentation has it: many good masks, some that miss the object."""
    return np.where(random.random(shape) < MISSED, random.beta(1, 8, shape), random.beta(8, 2, shape))


def mse(random: np.random.Generator, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """As an error of pictures has it: with a tail to the right."""
    return random.gamma(3.0, 0.05, shape)


TRUE_MEANS: dict[Draw, float] = {normal: 0.5, iou: MISSED / 9 + (1 - MISSED) * 0.8, mse: 0.15}


def bootstrap(random: np.random.Generator, scores: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The percentile bootstrap's interval of the mean."""
    means = scores[random.integers(0, len(scores), (RESAMPLES, len(scores)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_of_runs(random: np.random.Generator, scores: Float[np.ndarray, "runs images"]) -> tuple[float, float]:
    """The same, of runs first and then of the images of each."""
    runs, images = scores.shape
    drawn = random.integers(0, runs, (RESAMPLES, runs, 1))
    means = scores[drawn, random.integers(0, images, (RESAMPLES, runs, images))].mean((1, 2))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def over_images() -> list[str]:
    """How often the interval holds the true mean, by number of images: bootstrap / ours."""
    lines = ["| images | " + " | ".join(f"{draw.__name__} scores" for draw in TRUE_MEANS) + " |", "|---|---|---|---|"]
    for images in IMAGES:
        cells = []
        for draw, true in TRUE_MEANS.items():
            random = np.random.default_rng(images)
            studies = draw(random, (STUDIES, images))
            old = [low <= true <= high for low, high in (bootstrap(random, scores) for scores in studies)]
            new = [found.low <= true <= found.high for found in map(interval, studies)]
            cells.append(f"{np.mean(old):.1%}, {np.mean(new):.1%}")
        few = " (too few to tell)" if images < FEWEST else ""
        lines.append(f"| {images}{few} | " + " | ".join(cells) + " |")
    return lines


def over_runs(images: int = 50) -> list[str]:
    """How often the interval of several searches holds the mean of new ones, and its mean width."""
    lines = [
        "| searches | between them | images | over images alone | bootstrap of searches, then images | ours | width |",
        "|---|---|---|---|---|---|---|",
    ]
    for runs in (3, 4):
        for between in (0.0, 0.02, 0.05):
            for shared in (False, True):
                random = np.random.default_rng(runs)
                covered, widths = [], []
                for _ in range(STUDIES // 2):
                    of_image = random.normal(0.5, 0.1, (1 if shared else runs, images))
                    scores = of_image + between * random.normal(0, 1, (runs, 1))
                    scores = scores + random.normal(0, 0.05, (runs, images))
                    numbers = np.arange(images) if shared else np.arange(runs * images).reshape(runs, images)
                    names = np.broadcast_to(numbers, (runs, images)).tolist()
                    alone = interval(scores.ravel(), [name for run in names for name in run])
                    drawn = bootstrap_of_runs(random, scores)
                    ours = nested_interval(list(scores), names)
                    three = ((alone.low, alone.high), drawn, (ours.low, ours.high))
                    covered.append([low <= 0.5 <= high for low, high in three])
                    widths.append(ours.high - ours.low)
                cells = " | ".join(f"{share:.1%}" for share in np.mean(covered, 0))
                kind = "the same" if shared else "others"
                lines.append(f"| {runs} | {between:g} | {kind} | {cells} | {np.mean(widths):.3f} |")
    return lines


def false_equals(deficit: float = 0.05, spread: float = 0.1) -> list[str]:
    """How often a method that is ``deficit`` IoU worse is called not worse, by differences of this spread."""
    lines = [
        "| pairs | no difference found | intervals overlap | ours, 'not worse' | ours, 'worse' | ours, undecided |",
        "|---|---|---|---|---|---|",
    ]
    for pairs in IMAGES:
        random = np.random.default_rng(pairs)
        outcomes = []
        for _ in range(STUDIES):
            other = random.beta(4, 2, pairs)
            worse = other - deficit + random.normal(0, spread, pairs)
            high = bootstrap(random, worse - other)[1]
            overlap = bootstrap(random, worse)[1] >= bootstrap(random, other)[0]
            found = gain(IOU, worse, other)
            told = verdict(found, IOU.allowed(float(other.mean())))
            fine = told in ("better", "not worse")
            outcomes.append([high >= 0, overlap, fine, told == "worse", told in ("undecided", "too few")])
        lines.append(f"| {pairs} | " + " | ".join(f"{share:.1%}" for share in np.mean(outcomes, 0)) + " |")
    return lines


def rare_failures(share: float = 0.05) -> list[str]:
    """The limit of any such interval: a method that is equal but fails altogether on this share of images."""
    lines = ["| pairs | called not worse |", "|---|---|"]
    for pairs in IMAGES:
        random = np.random.default_rng(pairs)
        fine = []
        for _ in range(STUDIES):
            difference = np.where(random.random(pairs) < share, -1.0, 0.0)
            fine.append(verdict(interval(difference), IOU.allowed(1.0)) in ("better", "not worse"))
        lines.append(f"| {pairs} | {np.mean(fine):.1%} |")
    return lines


def main() -> None:
    for title, table in (
        ("Coverage over images: percentile bootstrap, ours", over_images),
        ("Coverage over searches", over_runs),
        ("A true deficit of .05 IoU", false_equals),
        ("A method that fails on 5 % of images", rare_failures),
    ):
        print(f"\n{title}\n", *table(), sep="\n")


if __name__ == "__main__":
    main()
