from dataclasses import replace
from io import BytesIO
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from taskvec.metrics import IOU, MSE
from taskvec.models.canvas import CanvasGeometry
from taskvec.report import figures
from taskvec.report.outcomes import EXAMPLES, Outcome, SearchedStack, TaskOutcome
from taskvec.sites import Granularity, Site, Sites, StackLayout

STACKS = {
    "encoder": SearchedStack(3, 2, {"cls": 1, "query_input": 4}),
    "decoder": SearchedStack(2, 2, {"cls": 1, "query_input": 4, "query_output": 4}),
}
CELLS = 2 * 3 * 2 + 3 * 2 * 2  # panels x layers x heads of the encoder and of the decoder


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def cells(svg: str) -> list[str]:
    """The fill of every cell of a site map: cells are the only uses of a path that are filled and have a faint edge."""
    styles = [element.get("style", "") for element in ElementTree.fromstring(svg).iter()]  # noqa: S314 - our own text
    edged = [style for style in styles if f"stroke: {figures.FAINT}" in style and "fill: #" in style]
    return [style.partition("fill: ")[2][:7] for style in edged]


def with_sites(task: TaskOutcome, granularity: Granularity, chosen: list[int]) -> TaskOutcome:
    """The task with these of the sites of a 4x4 canvas, whose quadrants have four tokens."""
    geometry = CanvasGeometry(64, 31, 16)
    view = geometry.view("query_only")
    layouts = {stack: StackLayout(own.layers, own.heads, 4, geometry.places()) for stack, own in STACKS.items()}
    sites = Sites.group(layouts, {stack: view.tokens(stack) for stack in STACKS}, granularity)
    return replace(task, sites=tuple(sites.names[index] for index in chosen), of=len(sites))


@pytest.fixture
def task(outcome: Outcome) -> TaskOutcome:
    return outcome.tasks[0]


def test_the_grid_has_every_image_enlarged_in_its_column_and_row(task: TaskOutcome):
    grid = pixels(figures.example_grid(task))
    centres = np.flatnonzero((grid[-figures.MARGIN - 10] != 255).any(-1))
    runs = np.split(centres, np.flatnonzero(np.diff(centres) > 1) + 1)
    assert len(runs) == len(EXAMPLES)
    for column, run in enumerate(runs):
        assert len(run) == figures.TILE + 2  # and a border of one pixel
        middle = run[len(run) // 2]
        for row in range(2):
            top = figures.HEADING + row * (figures.TILE + figures.GAP)
            tile = grid[top : top + figures.TILE, middle - figures.TILE // 2 : middle + figures.TILE // 2 - 1]
            assert (tile == 20 * column + 10 * row).all()


def test_the_grid_enlarges_by_repeating_pixels(task: TaskOutcome):
    image = np.random.default_rng(0).integers(0, 256, (1, 5, 5, 3), dtype=np.uint8)
    grid = pixels(figures.example_grid(replace(task, examples=dict.fromkeys(EXAMPLES, image))))
    scale = 39  # 5 pixels make at least 192
    top, left = figures.HEADING, figures.MARGIN
    tile = grid[top : top + 5 * scale, left : left + 5 * scale]
    np.testing.assert_array_equal(tile, image[0].repeat(scale, 0).repeat(scale, 1))


def test_groups_of_columns_are_set_apart(task: TaskOutcome):
    lefts, _ = figures._columns(figures.GROUPS, 100, 5)
    gaps = {name: left - 100 for name, left in zip(list(lefts)[1:], np.diff(list(lefts.values())), strict=True)}
    assert tuple(lefts) == EXAMPLES
    assert {name for name, gap in gaps.items() if gap == figures.GROUP_GAP} == {"query_input", "one_shot", "truth"}
    assert set(gaps.values()) == {figures.GAP, figures.GROUP_GAP}


def test_quadrant_sites_fill_one_cell_each(task: TaskOutcome):
    filled = cells(figures.site_map(task, STACKS))
    assert len(filled) == CELLS
    assert filled.count(figures.BLUE) == 3
    assert filled.count("#ffffff") == CELLS - 3
    panels = {"encoder cls": filled[:6], "encoder query_input": filled[6:12], "decoder query_output": filled[20:24]}
    assert panels["encoder cls"].index(figures.BLUE) == 1  # layer 0, head 1
    assert panels["encoder query_input"].index(figures.BLUE) == 4  # layer 2, head 0
    assert panels["decoder query_output"].index(figures.BLUE) == 3  # layer 1, head 1


@pytest.mark.parametrize(
    ("granularity", "chosen", "expected"),
    [
        ("head", [0, 6], 2 + 3),  # a head of the encoder in its two regions, one of the decoder in its three
        ("layer", [1, 4], 2 * 2 + 2 * 3),  # all heads of a layer of each
    ],
)
def test_sites_of_whole_heads_and_layers_fill_every_region(
    task: TaskOutcome, granularity: Granularity, chosen: list[int], expected: int
):
    filled = cells(figures.site_map(with_sites(task, granularity, chosen), STACKS))
    assert len(filled) == CELLS
    assert filled.count(figures.BLUE) == expected


def test_token_sites_are_shaded_by_the_share_of_the_region(task: TaskOutcome):
    # The first head of the encoder has site 0 for CLS and 1 to 4 for its query input, the second 5 and 6 to 9.
    filled = cells(figures.site_map(with_sites(task, "token", [0, 1, 2, 6, 7, 8, 9]), STACKS))
    cls, query_input = filled[:6], filled[6:12]
    assert cls[:2] == [figures.BLUE, "#ffffff"]
    halfway = [int(query_input[0][at : at + 2], 16) for at in (1, 3, 5)]
    blue = [int(figures.BLUE[at : at + 2], 16) for at in (1, 3, 5)]
    np.testing.assert_allclose(halfway, (np.array(blue) + 255) / 2, atol=2)
    assert query_input[1] == figures.BLUE
    assert set(filled[12:]) == {"#ffffff"}


def test_token_counts_are_drawn(task: TaskOutcome, monkeypatch: pytest.MonkeyPatch):
    drawn = []
    monkeypatch.setattr(figures, "_numbers", lambda axes, counts, tokens: drawn.append((counts.sum(), tokens)))
    figures.site_map(with_sites(task, "token", [0, 1, 2, 6, 7, 8, 9]), STACKS)
    assert drawn == [(1, 1), (6, 4), (0, 1), (0, 4), (0, 4)]


def test_a_map_shows_the_searched_stacks_only(task: TaskOutcome):
    decoder = replace(task, sites=(Site("decoder", 0, 0, "cls", None),))
    assert len(cells(figures.site_map(decoder, {"decoder": STACKS["decoder"]}))) == 3 * 2 * 2


def test_the_idea_shows_the_images_of_the_first_example(task: TaskOutcome):
    picture = pixels(figures.idea(task))
    height, width = picture.shape[:2]
    assert width > 2 * height
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    area = {tuple(colour): count for colour, count in zip(colours.tolist(), counts, strict=True)}
    shown = {name: area.get((20 * index,) * 3, 0) for index, name in enumerate(EXAMPLES)}
    used = {"support_input", "support_output", "query_input", "one_shot", "task_vectors"}
    assert {name for name, count in shown.items() if count > 20_000} == used
    assert shown["query_input"] == pytest.approx(2 * shown["support_input"], rel=0.05)  # it is on both canvases


@pytest.mark.parametrize(
    ("metric", "objective", "label"),
    [
        (IOU, "pixel", "loss (minus IoU)"),
        (MSE, "pixel", "loss (MSE)"),
        (IOU, "token", "loss (nats a patch)"),
    ],
)
def test_the_search_curve_names_its_units(task: TaskOutcome, metric, objective, label):
    svg = figures.search_curve(replace(task, metric=metric), objective)
    assert f"<!-- {label} -->" in svg  # matplotlib notes the text of what it draws as paths
    assert "<!-- search step -->" in svg
    assert f"<!-- validation {metric.label} -->" in svg
    assert "<!-- sites (of 24) -->" in svg


def test_the_search_curve_marks_checkpoints_and_the_best_of_them(task: TaskOutcome, monkeypatch: pytest.MonkeyPatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_svg", drawn.append)
    figures.search_curve(replace(task, metric=MSE))
    points = [[np.asarray(line.get_xydata()).tolist() for line in axes.lines] for axes in drawn[0].axes]
    assert points[0] == [[[1, 5], [2, 4], [3, 3], [4, 3.1]]]
    assert points[1] == [[[2, 3.5], [4, 3.2]], [[4, 3.2]]]
    assert points[2] == [[[1, 6], [2, 5], [3, 4], [4, 3]], [[2, 4], [4, 3]]]


def test_the_curve_of_sites_is_in_the_metrics_own_units(task: TaskOutcome, monkeypatch: pytest.MonkeyPatch):
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "_svg", drawn.append)
    figures.sites_curve(replace(task, curve=((1, -0.2), (2, -0.5), (4, -0.4))))
    (axes,) = drawn[0].axes
    curve, chosen = (np.asarray(line.get_xydata()).tolist() for line in axes.lines)
    assert curve == [[1, 0.2], [2, 0.5], [4, 0.4]]
    assert [x for x, _ in chosen] == [3, 3]
    assert axes.get_ylabel() == "validation IoU"


@pytest.mark.parametrize(("index", "arrow"), [(0, "better →"), (1, "← better")])
def test_the_score_chart_says_which_way_is_better(outcome: Outcome, index: int, arrow: str):
    svg = figures.score_chart(outcome.tasks[index])
    assert arrow in svg
    assert all(f"<!-- {label} -->" in svg for label in figures.METHOD_LABELS.values())


@pytest.mark.parametrize("draw", [figures.search_curve, figures.score_chart])
def test_the_same_outcome_gives_the_same_text(task: TaskOutcome, draw):
    assert draw(task) == draw(task)


def test_a_search_of_an_earlier_version_is_drawn_the_same(task: TaskOutcome) -> None:
    """Its records call the validation loss a held-out one."""
    names = {"validation_loss": "held_out_loss"}
    earlier = [{names.get(name, name): value for name, value in record.items()} for record in task.history]
    assert earlier != task.history
    assert figures.search_curve(replace(task, history=earlier)) == figures.search_curve(task)
