from pathlib import Path

import numpy as np
import pytest

from taskvec.data.scenes import Scenes
from taskvec.tasks import TASKS, Source, Task, object_of
from taskvec.training import photograph_tasks as sides
from taskvec.training.prompt_pool import UNSEEN_TASKS
from taskvec.training.recipe import read_recipe

TRAINED = read_recipe(Path(__file__).parents[2] / "recipes" / "small.toml").trained

SIZE = 24


@pytest.fixture(scope="module")
def source() -> Source:
    examples = Scenes("train").load(np.arange(6), SIZE)
    return Source(examples.images, examples.masks, np.random.default_rng(0).random((6, 2)))


@pytest.fixture
def block() -> Source:
    """White on black: one object of 6 rows and 9 columns."""
    masks = np.zeros((1, SIZE, SIZE), np.uint8)
    masks[:, 4:10, 8:17] = 255
    return Source(np.repeat(masks[..., None], 3, -1), masks, np.zeros((1, 2)))


@pytest.mark.parametrize("task", {task.name: task for task in TRAINED}.values(), ids=lambda task: task.name)
def test_sides_are_images_and_repeatable(task: Task, source: Source) -> None:
    before = source.images.copy()
    for side in (task.input, task.output):
        images = side(source)
        assert images.shape == source.images.shape
        assert images.dtype == np.uint8
        assert np.array_equal(images, side(source))
    assert np.array_equal(before, source.images)


def test_every_name_stands_for_one_task_and_other_tasks_do_something_else(source: Source) -> None:
    by_name = {task.name: task for task in TRAINED}
    assert all(by_name[task.name] == task for task in TRAINED)
    outputs = {name: (task.input(source).tobytes(), task.output(source).tobytes()) for name, task in by_name.items()}
    assert len(set(outputs.values())) == len(outputs)


def test_a_query_alone_never_gives_the_task_away() -> None:
    for task in TRAINED:
        same_input = {other.name for other in TRAINED if other.input is task.input}
        assert len(same_input) > 1, task.name


def test_the_paper_has_nearly_half_and_the_unseen_tasks_nothing() -> None:
    of_the_paper = [task for task in TRAINED if task.name in TASKS]
    assert 0.4 < len(of_the_paper) / len(TRAINED) < 0.5
    assert len({task.name for task in TRAINED}) > 50
    trained = {(task.input, task.output) for task in TRAINED}
    assert not trained & {(task.input, task.output) for task in UNSEEN_TASKS}


def test_boxes_follow_the_object(block: Source) -> None:
    white = sides.box_mask(block)[0, ..., 0] == 255
    assert np.array_equal(white, object_of(block)[0] > 0)
    red = (sides.boxed(block)[0] == sides.RED).all(-1)
    assert red.sum() == 6 * 9 - 0 * 3
    green = (sides.keypoint(block)[0] == sides.GREEN).all(-1)
    assert np.argwhere(green).mean(0).tolist() == [6.5, 12.0]


def test_an_erased_object_is_as_what_is_around_it(block: Source) -> None:
    assert not sides.object_erased(block).any()
    outline = sides.contour(block)[0, ..., 0] == 255
    assert not outline[6, 12]
    assert outline[4, 12]
    assert outline[3, 12]


def test_small_images_keep_means_and_lose_detail(source: Source) -> None:
    for side in (sides.small, sides.pixelated):
        images = side(source).astype(np.float32)
        assert images.mean() == pytest.approx(source.images.mean(), abs=1)
        assert np.abs(np.diff(images, axis=1)).mean() < np.abs(np.diff(source.images.astype(np.float32), axis=1)).mean()


def test_noise_differs_from_image_to_image(source: Source) -> None:
    other = Source(source.images, source.masks, source.holes[::-1])
    noise = sides.noisy(source).astype(int) - source.images
    assert 20 < noise.std() < 35
    assert not np.array_equal(sides.noisy(source), sides.noisy(other))
