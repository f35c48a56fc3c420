"""What more training buys: loss and one-shot scores on held-out images by canvases seen, from a recipe's log.

    .venv/bin/python benchmarks/training_curves.py recipes/small/mae.jsonl --batch 32 --out docs/small-training.png

The log is what `taskvec train` writes to `mae.jsonl` in its directory.
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

COLOURS = {"low_light": "#0072b2", "inpainting": "#d55e00", "colorization": "#009e73", "segmentation": "#222222"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("log", type=Path)
    parser.add_argument("--batch", type=int, required=True, help="canvases a step")
    parser.add_argument("--out", type=Path, required=True, help="a PNG")
    options = parser.parse_args()
    records = [json.loads(line) for line in options.log.read_text().splitlines()]
    losses = [record for record in records if "loss" in record]
    scores = [record for record in records if "low_light" in record]

    def canvases(chosen: list[dict[str, float]]) -> list[float]:
        return [record["step"] * options.batch / 1000 for record in chosen]

    figure = Figure((11, 3.6), 128, layout="constrained")
    loss, errors, overlap = figure.subplots(1, 3, sharex=True)
    loss.plot(canvases(losses), [record["loss"] for record in losses], color="#666666")
    loss.set_ylabel("training loss (nats a patch)")
    for task, colour in COLOURS.items():
        axes = overlap if task == "segmentation" else errors
        values = [record[task] for record in scores]
        axes.plot(canvases(scores), values, color=colour, marker="o", markersize=4)
        axes.annotate(task.replace("_", " "), (canvases(scores)[0], values[0]), (6, 4), textcoords="offset points")
    errors.set_ylabel("one-shot MSE, lower is better")
    errors.set_ylim(bottom=0)
    overlap.set_ylabel("one-shot IoU, higher is better")
    overlap.set_ylim(bottom=0)
    for axes in (loss, errors, overlap):
        axes.set_xlabel("canvases seen (thousands)")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
