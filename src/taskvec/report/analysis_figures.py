"""Figures of taskness: maps of heads and of tokens, and head outputs in the plane (Figure 2)."""

import itertools
import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import QuadMesh
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, StrMethodFormatter
from torch import Tensor

from taskvec.analysis.clustering import HeadOutputs, embed
from taskvec.analysis.scores import HeadScores, TokenScores, head_taskness
from taskvec.models.canvas import QUADRANTS
from taskvec.report.style import BLUE, FAINT, INK, MUTED, VERMILLION, ticks, tidy
from taskvec.sites import Place
from taskvec.tasks import title_of

TASKNESS = "taskness (between- over within-task variance)"
SHADES = LinearSegmentedColormap.from_list("taskness", ["#e6eff6", BLUE, "#001a2e"])
LOGARITHMIC = 20  # largest over smallest score from which on a colour scale is logarithmic

# As many colours as Okabe and Ito have on white, and one marker more, so that many tasks differ in one or the other.
COLOURS = (BLUE, VERMILLION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

HEIGHT, AROUND = 8, 0.8  # inches: of a large figure, of the labels of one stack's map
GAP = 0.6  # between quadrants, in patches
Head = tuple[str, int, int]  # stack, layer, head


def taskness_map(scores: HeadScores) -> Figure:
    """The scores of all heads, every stack with its layers down and its heads across, on one colour scale."""
    height = min(HEIGHT, sum(AROUND + 0.34 * len(of_stack) for of_stack in scores.values()))
    figure = Figure((_map_width(scores, height), height), layout="compressed")
    _draw_heads(figure, scores, marked={})
    return figure


def quadrant_side(places: Sequence[Place]) -> int:
    """Tokens along a side of a quadrant where the places are CLS and a 2x2 canvas, row by row; else 0."""
    side = math.isqrt(len(places) - 1) // 2 if places else 0
    rows = [[QUADRANTS[2 * (row // side) + column // side] for column in range(2 * side)] for row in range(2 * side)]
    return side if [place.region for place in places] == ["cls", *itertools.chain(*rows)] else 0


def token_map(scores: Float[Tensor, " tokens"], places: Sequence[Place]) -> Figure:
    """The scores of one head's canvas tokens where they are on the canvas, CLS apart, an X where a score is NaN."""
    figure = Figure((3.4, 3), layout="compressed")
    _draw_tokens(figure, figure.subplots(), scores, places)
    return figure


def analysis_figure(scores: TokenScores, outputs: HeadOutputs, places: Sequence[Place], seed: int = 0) -> Figure:
    """Figure 2: the map of heads; of the two heads of highest taskness and of the lowest, tokens and t-SNE.

    ``scores`` are those of tokens; ``outputs`` are embedded with ``seed``, one point a prompt, by colour and marker of
    its task.
    """
    of_heads = head_taskness(scores)
    widths = _map_width(of_heads, HEIGHT), 6
    figure = Figure((sum(widths), HEIGHT), layout="compressed")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    chosen = _two_highest_and_lowest(of_heads)
    _draw_heads(left, of_heads, chosen)
    panels = right.subplots(len(chosen), 2, squeeze=False, width_ratios=[1.3, 1])
    for (letter, (stack, layer, head)), (tokens, plane) in zip(chosen.items(), panels, strict=True):
        _draw_tokens(right, tokens, scores[stack][layer, head], places)
        _draw_plane(plane, outputs, embed(outputs.vectors[stack][layer, head], seed))
        title = f"{letter}   {stack} layer {layer}, head {head}\ntaskness {float(of_heads[stack][layer, head]):.3g}"
        tokens.set_title(title, fontsize=9.5, color=INK, loc="left", pad=14)
    looks = dict(zip(outputs.tasks, _looks(), strict=False))
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=6, label=title_of(task))
        for task, (colour, marker) in looks.items()
    ]
    right.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _two_highest_and_lowest(scores: HeadScores) -> dict[str, Head]:
    """Three heads by the letters that name them in the figure."""
    heads = [
        (float(of_stack[layer, head]), (stack, layer, head))
        for stack, of_stack in scores.items()
        for layer, head in np.ndindex(*of_stack.shape)
    ]
    heads.sort(key=lambda head: -head[0])
    return {letter: heads[rank][1] for letter, rank in (("a", 0), ("b", 1), ("c", -1))}


def _map_width(scores: HeadScores, height: float) -> float:
    """Inches that square cells, labels and the colour bar take."""
    layers, heads = sum(len(of_stack) for of_stack in scores.values()), max(s.shape[1] for s in scores.values())
    return 1.6 + heads * (height - AROUND * len(scores)) / layers


def _draw_heads(figure: Figure | SubFigure, scores: HeadScores, marked: Mapping[str, Head]) -> None:
    layers = [len(of_stack) for of_stack in scores.values()]
    panels = figure.subplots(len(scores), 1, squeeze=False, height_ratios=layers)[:, 0]
    norm = _norm(torch.cat([of_stack.flatten() for of_stack in scores.values()]))
    for axes, (stack, of_stack) in zip(panels, scores.items(), strict=True):
        rows, columns = of_stack.shape
        corners = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
        mesh = _shade(axes, corners, of_stack.numpy(), norm)
        mesh.set(edgecolor="white", linewidth=0.5)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        axes.set(xticks=ticks(columns), yticks=ticks(rows), xlabel="head", ylabel=f"{stack} layer")
        tidy(axes)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for letter, (of, layer, head) in marked.items():
            if of == stack:
                colour = "white" if norm(float(of_stack[layer, head])) > 0.4 else INK
                _mark(axes, letter, (layer, head), colour)
    _name(figure.colorbar(ScalarMappable(norm, SHADES), ax=list(panels), shrink=0.8, aspect=30))


def _mark(axes: Axes, letter: str, place: tuple[int, int], colour: str) -> None:
    """A frame around the cell at this layer and head, and a letter in it."""
    layer, head = place
    frame = {"facecolor": "none", "edgecolor": VERMILLION, "linewidth": 1.8, "clip_on": False, "zorder": 3}
    axes.add_patch(Rectangle((head - 0.5, layer - 0.5), 1, 1, **frame))
    axes.text(head, layer, letter, color=colour, fontsize=9, weight="bold", ha="center", va="center_baseline")


def _draw_tokens(
    figure: Figure | SubFigure, axes: Axes, scores: Float[Tensor, " tokens"], places: Sequence[Place]
) -> None:
    half = quadrant_side(places)
    grid, far = 2 * half, 2 * half + GAP
    # One table with CLS above and left of the patches; its row and column and the gaps are empty but for CLS itself.
    cells = np.r_[0, 2 : 2 + half, 3 + half : 3 + 2 * half]
    table = np.full((3 + 2 * half,) * 2, np.nan)
    table[np.ix_(cells[1:], cells[1:])] = scores[1:].reshape(grid, grid).numpy()
    table[0, 0] = float(scores[0])
    edges = np.r_[-1 - GAP, -GAP, 0 : half + 1, half + GAP + np.arange(half + 1)]
    mesh = _shade(axes, (edges, edges), table, _norm(scores))
    centres = np.r_[np.arange(half), half + GAP + np.arange(half)] + 0.5
    absent = scores[1:].isnan().reshape(grid, grid).numpy().nonzero()
    axes.scatter(centres[absent[1]], centres[absent[0]], 220 / grid, MUTED, marker="x", linewidths=0.8, label="absent")
    frame = {"facecolor": "none", "edgecolor": MUTED, "linewidth": 0.8}
    axes.add_patch(Rectangle((-1 - GAP, -1 - GAP), 1, 1, **frame))
    label = {"fontsize": 7, "color": MUTED, "ha": "center"}
    axes.text(-0.5 - GAP, -1.2 - GAP, "CLS", va="bottom", **label)
    for index, quadrant in enumerate(QUADRANTS):
        top, left = (half + GAP) * (index // 2), (half + GAP) * (index % 2)
        axes.add_patch(Rectangle((left, top), half, half, **frame))
        outside = {"y": -0.2, "va": "bottom"} if index < 2 else {"y": far + 0.2, "va": "top"}
        axes.text(left + half / 2, s=quadrant.replace("_", " "), **outside, **label)
    axes.set(xlim=(-1.2 - GAP, far + 0.1), ylim=(far + 0.1, -1.2 - GAP), aspect="equal")
    axes.set_axis_off()
    _name(figure.colorbar(mesh, ax=axes, shrink=0.8, aspect=20), "taskness")


def _draw_plane(axes: Axes, outputs: HeadOutputs, points: Float[np.ndarray, "prompts 2"]) -> None:
    labels = outputs.labels.numpy()
    for index, (colour, marker) in zip(range(len(outputs.tasks)), _looks(), strict=False):
        x, y = points[labels == index].T
        axes.scatter(x, y, 13, colour, marker=marker, linewidths=0, alpha=0.85)
    axes.set(xticks=[], yticks=[], xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
    axes.set_box_aspect(1)
    tidy(axes)


def _looks() -> "zip[tuple[str, str]]":
    """Colour and marker of one task after the other."""
    return zip(cycle(COLOURS), cycle(MARKERS), strict=False)


def _norm(scores: Tensor) -> Normalize:
    """From the smallest to the largest score above 0 that is finite; from 0 on where they are of one magnitude."""
    shown = scores[scores.isfinite() & (scores > 0)]
    if not len(shown):
        return Normalize(0, 1)
    low, high = shown.min().item(), shown.max().item()
    return LogNorm(low, high, clip=True) if high > LOGARITHMIC * low else Normalize(0, high, clip=True)


def _shade(axes: Axes, edges: tuple[np.ndarray, np.ndarray], scores: np.ndarray, norm: Normalize) -> QuadMesh:
    """Cells of these scores, none where they are NaN; scores of 0 and infinity have the colours of the scale's ends."""
    shown = np.ma.masked_invalid(np.clip(scores, norm.vmin, norm.vmax))
    return axes.pcolormesh(*edges, shown, cmap=SHADES, norm=norm)


def _name(bar: Colorbar, label: str = TASKNESS) -> None:
    bar.set_label(label, fontsize=9, color=INK)
    bar.outline.set_edgecolor(FAINT)
    bar.ax.tick_params(labelsize=8, colors=MUTED)
    if isinstance(bar.norm, LogNorm):
        bar.locator = LogLocator(subs=(1, 2, 5))
        bar.formatter = StrMethodFormatter("{x:g}")
    bar.minorticks_off()
