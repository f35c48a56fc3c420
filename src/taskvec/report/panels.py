"""Figures of a study: a grid of numbers, answers of several methods side by side, curves with their spread."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from taskvec.report.style import BLUE, INK, MUTED
from taskvec.tasks import Images

TILE = 1.0  # inches


def grid_figure(values: Mapping[tuple[int, float], float], rows: str, columns: str, label: str) -> Figure:
    """Numbers by (row, column) as a heatmap with every number written in its cell; the highest is framed."""
    row_names = sorted({row for row, _ in values})
    column_names = sorted({column for _, column in values})
    table = np.array([[values[row, column] for column in column_names] for row in row_names])
    figure = Figure((1.6 + 0.85 * len(column_names), 1.2 + 0.45 * len(row_names)), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(table, cmap="cividis", aspect="auto")
    middle = (table.min() + table.max()) / 2
    for row, column in np.ndindex(*table.shape):
        colour = "white" if table[row, column] < middle else INK
        axes.text(column, row, f"{table[row, column]:.3f}", ha="center", va="center", fontsize=8.5, color=colour)
    best = np.unravel_index(table.argmax(), table.shape)
    axes.add_patch(_frame(float(best[1]), float(best[0])))
    axes.set_xticks(range(len(column_names)), [f"{name:g}" for name in column_names])
    axes.set_yticks(range(len(row_names)), [f"{name:g}" for name in row_names])
    axes.set_xlabel(columns)
    axes.set_ylabel(rows)
    figure.colorbar(picture, label=label)
    return figure


def _frame(column: float, row: float) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#d55e00", linewidth=2.5)


def answers_figure(columns: Mapping[str, Images], titles: Sequence[str] = ()) -> Figure:
    """A column of images under each name, [n, size, size, 3] all; ``titles`` stand before the rows."""
    count = len(next(iter(columns.values())))
    left = 1.1 if titles else 0.05
    figure = Figure((left + len(columns) * TILE, 0.55 + count * TILE), 192)
    width, height = figure.get_size_inches()
    for index, (name, images) in enumerate(columns.items()):
        for row, image in enumerate(images):
            place = (left + index * TILE + 0.03, height - 0.55 - (row + 1) * TILE + 0.03, TILE - 0.06, TILE - 0.06)
            axes = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
            axes.imshow(image, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_color("#999999")
        centre = (left + (index + 0.5) * TILE) / width
        heading = "\n".join(textwrap.wrap(name, 15))
        figure.text(centre, 1 - 0.5 / height, heading, fontsize=7.5, color=INK, ha="center", va="bottom")
    for row, title in enumerate(titles):
        middle = 1 - (0.55 + (row + 0.5) * TILE) / height
        text = "\n".join(textwrap.wrap(title, 16))
        figure.text(0.5 * left / width, middle, text, fontsize=8, color=INK, ha="center", va="center")
    return figure


def curves_figure(
    curves: Mapping[str, tuple[Sequence[float], Float[np.ndarray, "groups points"]]],
    horizontal: str,
    vertical: Mapping[str, str],
    references: Mapping[str, Mapping[str, float]] | None = None,
) -> Figure:
    """A panel for each curve (x, y of every group): its mean as a line, each group as dots, on a logarithmic x-axis.

    The band is the standard deviation of the groups (ddof 0).

    ``vertical`` names the y-axis of each panel. ``references`` are horizontal lines of a panel, by their names.
    """
    figure = Figure((3.3 * len(curves), 3.1), layout="constrained")
    for axes, (title, (x, y)) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for group in y:
            axes.plot(x, group, linestyle="none", marker=".", color=BLUE, alpha=0.45, markersize=6)
        axes.plot(x, y.mean(0), color=BLUE, marker="o", markersize=4, label="task vectors, mean")
        if len(y) > 1:
            spread = y.std(0)
            axes.fill_between(x, y.mean(0) - spread, y.mean(0) + spread, color=BLUE, alpha=0.15, linewidth=0)
        lines = (references or {}).get(title, {})
        for (name, level), style in zip(lines.items(), ("--", ":", "-."), strict=False):
            axes.axhline(level, color=MUTED, linestyle=style, linewidth=1.2, label=name)
        axes.set_xscale("log")
        axes.set_xticks(list(x), [f"{each:g}" for each in x])
        axes.minorticks_off()
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(horizontal, fontsize=9)
        axes.set_ylabel(vertical[title], fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure
