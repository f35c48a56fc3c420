import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from taskvec.images import resize
from taskvec.metrics import CHROMA, IOU
from taskvec.models.canvas import CanvasGeometry, Region
from taskvec.tasks import COLORIZATION, SEGMENTATION, TASKS, Source, Task, dark, grey, hole, mask, task_named

GEOMETRY = CanvasGeometry(224, 111, 16)


def _source(golden: dict[str, Tensor], which: str) -> Source:
    image = resize(golden[f"input/{which}_rgb_u8"].numpy(), 111)
    mask = resize(np.where(golden[f"input/{which}_labels_u8"].numpy() == 8, 255, 0).astype(np.uint8), 111)
    return Source(image[None], mask[None], np.zeros((1, 2)))


@pytest.mark.parametrize(("row", "task"), [(0, SEGMENTATION), (1, COLORIZATION)])
def test_recorded_canvases_are_composed_exactly(row: int, task: Task, golden: dict[str, Tensor]) -> None:
    support, query = _source(golden, "support"), _source(golden, "query")
    quadrants: dict[Region, np.ndarray] = {
        "support_input": task.input(support),
        "support_output": task.output(support),
        "query_input": task.input(query),
        "query_output": task.output(query),
    }
    assert np.array_equal(GEOMETRY.compose(quadrants)[0], golden["canvas_u8"][row].numpy())


def _random_source(size: int, seed: int) -> Source:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (3, size, size, 3), np.uint8)
    masks = np.where(random.random((3, size, size)) > 0.5, 255, 0).astype(np.uint8)
    return Source(images, masks, random.random((3, 2)), images[::-1])


@given(st.integers(4, 40), st.integers(0, 99))
def test_every_side_is_a_batch_of_images(size: int, seed: int) -> None:
    source = _random_source(size, seed)
    before = source.images.copy()
    for task in TASKS.values():
        for side in (task.input(source), task.output(source)):
            assert side.shape == source.images.shape
            assert side.dtype == np.uint8
    assert np.array_equal(source.images, before)


@given(st.integers(4, 40), st.integers(0, 99))
def test_a_hole_is_one_black_square_of_a_quarter_of_the_side(size: int, seed: int) -> None:
    source = _random_source(size, seed)
    source = Source(np.maximum(source.images, 1), source.masks, source.holes)
    for image, holed in zip(source.images, hole(source), strict=True):
        black = (holed == 0).all(-1)
        rows, columns = np.flatnonzero(black.any(1)), np.flatnonzero(black.any(0))
        side = max(1, round(size / 4))
        assert len(rows) == len(columns) == side
        assert black.sum() == side**2
        assert np.array_equal(holed[~black], image[~black])


def test_holes_reach_every_border() -> None:
    corners = np.array([[0.0, 0.0], [1 - 1e-9, 1 - 1e-9]])
    holed = hole(Source(np.full((2, 8, 8, 3), 9, np.uint8), np.zeros((2, 8, 8), np.uint8), corners))
    assert not holed[0, :2, :2].any()
    assert not holed[1, 6:, 6:].any()


def test_grey_is_what_pillow_makes_of_it() -> None:
    source = _random_source(64, 0)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in source.images])
    assert np.array_equal(grey(source), np.repeat(expected[..., None], 3, -1))


def test_dark_halves() -> None:
    source = _random_source(16, 0)
    assert np.array_equal(dark(source), source.images // 2)


@given(st.integers(4, 40), st.integers(0, 99))
def test_a_composed_task_has_the_input_of_the_first_and_the_output_of_the_second(size: int, seed: int) -> None:
    source, task = _random_source(size, seed), task_named("inpainting+segmentation")
    assert np.array_equal(task.input(source), hole(source))
    assert np.array_equal(task.output(source), mask(source))
    assert (task.name, task.metric, task.detail) == ("inpainting+segmentation", IOU, None)
    assert task_named("low_light+colorization").detail is CHROMA


@pytest.mark.parametrize("name", ["inpainting+", "+segmentation", "inpainting+juggling", "identity+identity+identity"])
def test_what_does_not_compose_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"there is no task '.*': .*expected one of segmentation, .*, or two joined by"
    ):
        task_named(name)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no task 'juggling': expected one of segmentation, low_light"):
        task_named("juggling")
