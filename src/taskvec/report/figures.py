"""The report's pictures, as the bytes of a PNG or the text of an SVG. Colours are Okabe and Ito's, on white."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO, StringIO
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from taskvec.evaluation import Evaluation
from taskvec.metrics import Metric
from taskvec.objectives import ObjectiveKind
from taskvec.report.outcomes import EXAMPLES, Outcome, SearchedStack, TaskOutcome
from taskvec.report.style import BLUE, FAINT, INK, MUTED, VERMILLION, ticks, tidy
from taskvec.report.table import METHOD_LABELS, method_label, number
from taskvec.sites import Site
from taskvec.tasks import Images

METHOD_COLOURS = {"one_shot": BLUE, "task_vectors": VERMILLION}

# What each stack sees of a canvas that holds a query alone.

# Dividing pixels by a power of two is exact, so a figure made to hold an array has exactly the array's size.
PIXELS_PER_INCH = 128
TILE, GAP, GROUP_GAP, MARGIN, HEADING, LABEL = 192, 10, 44, 12, 88, 120  # pixels
Groups = dict[str, dict[str, str]]  # the label of each column by its name, by the label of its group
GROUPS: Groups = {
    "prompt": {"support_input": "input", "support_output": "output"},
    "query": {"query_input": "input"},
    "answers": {method: METHOD_LABELS[method] for method in ("one_shot", "query_only", "task_vectors")},
    "truth": {"truth": "output"},
}


def example_grid(outcome: TaskOutcome) -> bytes:
    """A PNG: a row for each example, a column for each name of EXAMPLES, every image at least 192 pixels wide."""
    return _grid(outcome.examples, GROUPS)


def ranked_grid(evaluations: Sequence[Evaluation], *, with_example: bool) -> bytes:
    """A PNG of the two best, the two middle and the two worst answers of all, with their scores, beside the truth.

    ``with_example`` shows the prompt's example too, for methods that see it.
    """
    metric = evaluations[0].prompts.task.metric
    scores = np.concatenate([each.scores for each in evaluations])
    order = np.argsort(metric.loss(scores), kind="stable")
    middle = max(0, len(order) // 2 - 1)
    ranks = {"best": order[:2], "median": order[middle : middle + 2], "worst": order[-2:]}
    rows = np.concatenate(list(ranks.values()))
    names = [name for name, some in ranks.items() for _ in some]
    labels = [f"{name}\n{metric.label} {number(float(scores[row]))}" for name, row in zip(names, rows, strict=True)]
    groups: Groups = {"query": {"query_input": "input"}, "answer": {"answer": "output"}, "truth": {"truth": "output"}}
    if with_example:
        groups = {"prompt": GROUPS["prompt"], **groups}
    starts = np.cumsum([0, *(len(each.scores) for each in evaluations)])
    owners = np.searchsorted(starts, rows, side="right") - 1
    images: dict[str, Images] = {}
    for owner in np.unique(owners):
        own = np.flatnonzero(owners == owner)
        prompts, answers = evaluations[owner].examples(rows[own] - starts[owner])
        supports = ("support_input", "support_output") if with_example else ()
        shown = {name: getattr(prompts, name) for name in (*supports, "query_input")}
        for name, pixels in {**shown, "answer": answers, "truth": prompts.query_output}.items():
            images.setdefault(name, np.zeros((len(rows), *pixels.shape[1:]), np.uint8))[own] = pixels
    return _grid(images, groups, labels)


def _grid(examples: Mapping[str, Images], groups: Groups, labels: Sequence[str] = ()) -> bytes:
    """A PNG: a row for each example under the groups' columns, the rows' labels, if there are any, on the left."""
    count, size = examples["truth"].shape[:2]
    scale = math.ceil(TILE / size)
    side = scale * size
    lefts, width = _columns(groups, side, LABEL if labels else MARGIN)
    pixels = np.full((HEADING + count * (side + GAP) - GAP + MARGIN, width, 3), 255, np.uint8)
    for name, left in lefts.items():
        for row, image in enumerate(examples[name]):
            top = HEADING + row * (side + GAP)
            pixels[top - 1 : top + side + 1, left - 1 : left + side + 1] = 128  # a border, as white images need one
            pixels[top : top + side, left : left + side] = image.repeat(scale, 0).repeat(scale, 1)
    figure = Figure((width / PIXELS_PER_INCH, len(pixels) / PIXELS_PER_INCH), PIXELS_PER_INCH)
    figure.figimage(pixels)
    _headings(figure, groups, lefts, side, (width, len(pixels)))
    for row, label in enumerate(labels):
        centre = 1 - (HEADING + row * (side + GAP) + side / 2) / len(pixels)
        figure.text(LABEL / 2 / width, centre, label, size=12, color=INK, ha="center", va="center")
    return _png(figure)


def _columns(groups: Groups, side: int, left: int) -> tuple[dict[str, int], int]:
    """The left edge of every column, the first at ``left``, and the width of the picture, in pixels."""
    lefts: dict[str, int] = {}
    for columns in groups.values():
        for name in columns:
            lefts[name] = left
            left += side + GAP
        left += GROUP_GAP - GAP
    return lefts, left - GROUP_GAP + MARGIN


def _headings(figure: Figure, groups: Groups, lefts: dict[str, int], side: int, size: tuple[int, int]) -> None:
    """The groups' names over a line that spans their columns, and the columns' names below it."""
    width, height = size
    for group, columns in groups.items():
        left, right = lefts[next(iter(columns))], lefts[list(columns)[-1]] + side
        figure.text((left + right) / 2 / width, 1 - 30 / height, group, size=14, weight="bold", color=INK, ha="center")
        line = [left / width, right / width], [1 - 42 / height] * 2
        figure.add_artist(Line2D(*line, color=MUTED, linewidth=1))
        for name, label in columns.items():
            centre = (lefts[name] + side / 2) / width
            figure.text(centre, 1 - 74 / height, label, size=14, color=METHOD_COLOURS.get(name, INK), ha="center")


def overview(outcome: Outcome) -> bytes:
    """The example grid with one row a task, in the outcome's order: each task's first example."""
    first = {name: np.concatenate([task.examples[name][:1] for task in outcome.tasks]) for name in EXAMPLES}
    return example_grid(replace(outcome.tasks[0], examples=first))


def search_curve(outcome: TaskOutcome, objective: ObjectiveKind = "pixel") -> str:
    """An SVG of a search that minimised ``objective``: by step its loss, the validation score of the best set at every
    checkpoint, and numbers of sites.
    """
    figure = Figure((5, 4.6), layout="constrained")
    losses, chosen, sites = figure.subplots(3, 1, sharex=True, height_ratios=[2, 2, 1.3])
    steps = [record["step"] for record in outcome.history]
    checkpoints = [record for record in outcome.history if "chosen_sites" in record]
    checked = [record["step"] for record in checkpoints]
    marks = {"marker": "o", "color": VERMILLION, "markersize": 5, "clip_on": False, "zorder": 3}

    losses.plot(steps, [record["loss"] for record in outcome.history], color=BLUE, label="items searched on")
    losses.set_ylabel(_loss_label(outcome.metric, objective))
    validation = [_validation_loss(record) for record in checkpoints]
    scores = [outcome.metric.loss(loss) for loss in validation]
    chosen.plot(checked, scores, linestyle=":", **marks, label="best set at checkpoint, validation items")
    if checkpoints:
        best = validation.index(min(validation))
        ring = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "color": INK, "linestyle": "none"}
        chosen.plot([checked[best]], [scores[best]], **ring, clip_on=False, label="the set that is used")
    chosen.set_ylabel(f"validation {outcome.metric.label}")
    chosen.margins(y=0.2)
    sites.plot(steps, [record["sites"] for record in outcome.history], color=BLUE)
    sites.plot(checked, [record["chosen_sites"] for record in checkpoints], linestyle="none", **marks)
    sites.set_ylabel(f"sites (of {outcome.of:,})")
    sites.set_ylim(bottom=0)
    sites.set_xlabel("search step")
    sites.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, chosen, sites):
        tidy(axes)
    figure.align_ylabels()
    figure.legend(loc="outside upper center", ncols=2, fontsize=8.5, frameon=False)
    return _svg(figure)


def _validation_loss(record: dict[str, Any]) -> float:
    """Of a checkpoint's record, which earlier versions wrote by another name."""
    return record["validation_loss"] if "validation_loss" in record else record["held_out_loss"]


def _loss_label(metric: Metric, objective: ObjectiveKind) -> str:
    if objective == "token":
        return f"loss (nats a {'token' if metric.of_tokens else 'patch'})"
    return f"loss ({'minus ' if metric.better == 'higher' else ''}{metric.label})"


def sites_curve(outcome: TaskOutcome) -> str:
    """An SVG of the validation score by the number of sites, those with the highest scores of the search, beside the
    number of sites that task vectors have.
    """
    figure = Figure((3.4, 2.3), layout="constrained")
    axes = figure.subplots()
    counts = [count for count, _ in outcome.curve]
    scores = [outcome.metric.loss(loss) for _, loss in outcome.curve]
    axes.plot(counts, scores, color=BLUE, marker="o", markersize=5, clip_on=False)
    axes.axvline(len(outcome.sites), color=VERMILLION, linestyle=":", linewidth=1.5)
    axes.annotate(
        f"task vectors: {len(outcome.sites):,}",
        (len(outcome.sites), 1),
        (0, 2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=8.5,
        color=VERMILLION,
        ha="center",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("sites, the best first")
    axes.set_ylabel(f"validation {outcome.metric.label}")
    tidy(axes)
    return _svg(figure)


class HasSites(Protocol):
    """A task's outcome, or task vectors."""

    @property
    def sites(self) -> Sequence[Site]: ...


def site_map(outcome: HasSites, stacks: Mapping[str, SearchedStack]) -> str:
    """An SVG of where the chosen sites are: by stack and region, layers down and heads across.

    ``stacks`` are those that were searched. Where sites are single tokens, cells are shaded by the share of the
    region's tokens that are chosen, and tell their number.
    """
    by_token = any(site.token is not None for site in outcome.sites)
    columns = max(stack.heads for stack in stacks.values())
    cell = 0.27 if by_token else min(0.28, max(0.15, 1.5 / columns))  # inches
    across, layers = max(len(stack.regions) for stack in stacks.values()), [stack.layers for stack in stacks.values()]
    width, height = across * (columns * cell + 0.5) + 0.5, sum(layers) * cell + 0.75 * len(layers)
    figure = Figure((width, height), layout="compressed")
    grid = figure.subplots(len(layers), across, squeeze=False, height_ratios=layers)
    for row, (name, stack) in zip(grid, stacks.items(), strict=True):
        for axes in row[len(stack.regions) :]:
            axes.set_axis_off()
        for axes, (region, tokens) in zip(row, stack.regions.items(), strict=False):
            counts = _counts(outcome.sites, name, region, (stack.layers, stack.heads))
            _cells(axes, counts / (tokens if by_token else 1))
            if by_token:
                _numbers(axes, counts, tokens)
            axes.set_title(region.replace("_", " "), fontsize=9, color=INK)
            axes.set_xlabel("head", fontsize=8.5)
        row[0].set_ylabel(f"{name}\nlayer", fontsize=9)
    return _svg(figure)


def _counts(sites: Sequence[Site], stack: str, region: str, shape: tuple[int, int]) -> Int[np.ndarray, "layers heads"]:
    """How many of these sites cover some of the region, by layer and head."""
    counts = np.zeros(shape, np.int64)
    for site in sites:
        if site.stack == stack and site.region in (None, region):
            counts[site.layer, slice(None) if site.head is None else site.head] += 1
    return counts


def _cells(axes: Axes, shares: Float[np.ndarray, "layers heads"]) -> None:
    """A cell for every head, from white at 0 to blue at 1; the first layer on top."""
    colours = LinearSegmentedColormap.from_list("share", ["white", BLUE])
    rows, columns = shares.shape
    corners = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    axes.pcolormesh(*corners, shares, cmap=colours, vmin=0, vmax=1, edgecolors=FAINT, linewidth=0.5)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xticks(ticks(columns))
    axes.set_yticks(ticks(rows))
    axes.tick_params(labelsize=8, length=0, colors=MUTED)
    axes.spines[:].set_visible(False)


def _numbers(axes: Axes, counts: Int[np.ndarray, "layers heads"], tokens: int) -> None:
    for layer, head in zip(*counts.nonzero(), strict=True):
        count = int(counts[layer, head])
        colour = "white" if count > tokens / 2 else INK
        axes.text(head, layer, str(count), fontsize=7, color=colour, ha="center", va="center_baseline")


def idea(outcome: TaskOutcome) -> bytes:
    """A PNG of what task vectors do, with the first example: a one-shot prompt, and the query alone with them."""
    figure = Figure((7.2, 2.8), 1.5 * PIXELS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    images = {name: examples[0] for name, examples in outcome.examples.items()}
    _place(axes, images["support_input"], 0, 0)
    _place(axes, images["support_output"], 1.06, 0)
    for left, title, answer in ((0, "one-shot prompting", "one_shot"), (4.64, "task vectors", "task_vectors")):
        colour = METHOD_COLOURS[answer]
        axes.text(left + 1.03, -0.1, title, size=12, weight="bold", color=colour, ha="center")
        _place(axes, images["query_input"], left, 1.06)
        _place(axes, images[answer], left + 1.06, 1.06, colour)
        _caption(axes, left + 0.5, 2.2, "query")
        _caption(axes, left + 1.56, 2.2, "answer", colour)
    for left in (4.64, 5.7):
        axes.add_patch(Rectangle((left, 0), 1, 1, facecolor="none", edgecolor=MUTED, linestyle=(0, (3, 3))))
        _caption(axes, left + 0.5, 0.54, "no example")
    axes.text(-0.12, 0.5, "example", size=10, color=MUTED, rotation=90, ha="center", va="center")
    _middle(axes, len(outcome.sites), outcome.of)
    axes.set(xlim=(-0.3, 6.9), ylim=(2.4, -0.4), aspect="equal")  # last, as each image sets its own
    return _png(figure)


def _middle(axes: Axes, sites: int, of: int) -> None:
    """The arrow from prompting to task vectors, and what it stands for."""
    arrow = FancyArrowPatch((2.3, 1.03), (4.4, 1.03), arrowstyle="-|>", mutation_scale=22, linewidth=2, color=INK)
    axes.add_patch(arrow)
    _caption(axes, 3.32, 0.86, "task vectors", INK, "bold")
    _caption(axes, 3.32, 1.32, f"{sites:,} of {of:,} sites", INK)
    _caption(axes, 3.32, 1.52, "replaced by their mean", INK)


def _place(axes: Axes, image: Images, left: float, top: float, colour: str = FAINT) -> None:
    """One image as a unit square, framed."""
    axes.imshow(image, extent=(left, left + 1, top + 1, top), interpolation="nearest", aspect="equal", zorder=1)
    width = 1 if colour == FAINT else 3
    axes.add_patch(Rectangle((left, top), 1, 1, facecolor="none", edgecolor=colour, linewidth=width, zorder=2))


def _caption(axes: Axes, x: float, y: float, text: str, colour: str = MUTED, weight: str = "normal") -> None:
    axes.text(x, y, text, size=10, color=colour, weight=weight, ha="center", va="baseline")


def score_chart(outcome: TaskOutcome) -> str:
    """An SVG with the mean and 95 % interval of every method on the task's own axis, which says what is better."""
    figure = Figure((3.4, 2.1), layout="constrained")
    axes = figure.subplots()
    methods = outcome.methods
    for row, method in enumerate(methods):
        score, colour = outcome.intervals[method], METHOD_COLOURS.get(method, MUTED)
        if not score.too_few:
            axes.plot([score.low, score.high], [row, row], color=colour, linewidth=2, solid_capstyle="round")
        axes.plot([score.mean], [row], color=colour, marker="o", markersize=6.5, clip_on=False, zorder=3)
    axes.set_yticks(range(len(methods)), [method_label(method, outcome) for method in methods])
    axes.invert_yaxis()
    axes.set_xlim(outcome.metric.low, outcome.metric.high if math.isfinite(outcome.metric.high) else None)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    axes.set_xlabel(_axis(outcome.metric))
    tidy(axes)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    for label, method in zip(axes.get_yticklabels(), methods, strict=True):
        label.set_color(METHOD_COLOURS.get(method, INK))
    return _svg(figure)


def _axis(metric: Metric) -> str:
    label = f"{metric.label} ({metric.unit})"
    if metric.better == "higher":
        return f"{label}   better \N{RIGHTWARDS ARROW}"
    return f"\N{LEFTWARDS ARROW} better   {label}"


def _png(figure: Figure) -> bytes:
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _svg(figure: Figure) -> str:
    """The same figure gives the same text: no date, and names that do not depend on chance."""
    file = StringIO()
    with rc_context({"svg.hashsalt": "taskvec"}):
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    return file.getvalue()
