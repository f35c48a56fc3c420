from pathlib import Path

import numpy as np
import pytest

from taskvec.data.scenes import Scenes
from taskvec.tasks import TASKS
from taskvec.training.prompt_pool import UNSEEN_TASKS, PromptPool
from taskvec.training.recipe import read_recipe

TRAINED = read_recipe(Path(__file__).parents[2] / "recipes" / "tiny.toml").trained


@pytest.fixture(scope="module")
def figures() -> PromptPool:
    return PromptPool(Scenes("train"), 240, 16, TRAINED)


def test_a_batch_depends_on_the_generator_alone(figures: PromptPool) -> None:
    first, again, other = (figures.quadrants(9, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (9, 4, 16, 16, 3)
    assert first.dtype == np.uint8


def test_the_tasks_of_the_paper_are_trained_twice_as_often() -> None:
    names = [task.name for task in TRAINED]
    assert {name: names.count(name) for name in TASKS} == dict.fromkeys(TASKS, 2)
    assert {names.count(name) for name in names if name not in TASKS} == {1}


def test_a_query_alone_never_gives_the_task_away() -> None:
    for task in TRAINED:
        assert len({other.name for other in TRAINED if other.input is task.input}) > 1


def test_unseen_pairs_are_not_trained() -> None:
    trained = {(task.input, task.output) for task in TRAINED}
    assert not trained & {(task.input, task.output) for task in UNSEEN_TASKS}


def test_canvases_and_images_have_as_many_pixels(figures: PromptPool, random: np.random.Generator) -> None:
    assert figures.images(8, random).shape == (8, 16, 16, 3)
    assert figures.canvases(8, random).shape == (2, 32, 32, 3)


def test_a_canvas_is_its_quadrants(figures: PromptPool) -> None:
    quadrants = figures.quadrants(2, np.random.default_rng(5))
    canvases = figures.canvases(8, np.random.default_rng(5))
    assert np.array_equal(canvases[:, :16, 16:], quadrants[:, 1])
    assert np.array_equal(canvases[:, 16:, :16], quadrants[:, 2])
