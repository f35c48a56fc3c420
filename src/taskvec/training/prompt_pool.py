"""What the models learn from: examples under many procedural tasks, so that the example on the canvas is needed.

Every kind of input occurs with several outputs; a query alone never tells which output is wanted.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Int

from taskvec.data.examples import DataSet, Examples
from taskvec.metrics import IOU
from taskvec.prompts import source_of
from taskvec.tasks import Images, Source, Task, dark, grey, hole, image, mask


def negative(source: Source) -> Images:
    return 255 - source.images


def mirrored(source: Source) -> Images:
    return source.images[:, :, ::-1]


def upside_down(source: Source) -> Images:
    return source.images[:, ::-1]


def rotated(source: Source) -> Images:
    return source.images.swapaxes(1, 2)[:, ::-1]


def swapped_channels(source: Source) -> Images:
    """Red, green, blue become green, blue, red."""
    return np.roll(source.images, -1, axis=-1)


def object_only(source: Source) -> Images:
    return np.where(mask(source) > 127, source.images, np.uint8(0))


def background_only(source: Source) -> Images:
    return np.where(mask(source) > 127, np.uint8(0), source.images)


def inverse_mask(source: Source) -> Images:
    return 255 - mask(source)


def blurred(source: Source) -> Images:
    """A 5 x 5 box mean."""
    size = source.images.shape[1]
    padded = np.pad(source.images, ((0, 0), (2, 2), (2, 2), (0, 0)), "edge").astype(np.float32)
    rows = np.stack([padded[:, shift : shift + size] for shift in range(5)]).mean(0)
    return np.stack([rows[:, :, shift : shift + size] for shift in range(5)]).mean(0).astype(np.uint8)


def edges(source: Source) -> Images:
    """Length of the luminance gradient, white on black."""
    level = grey(source)[..., 0].astype(np.float32)
    down, right = np.gradient(level, axis=(1, 2))
    return np.repeat(np.clip(3 * np.hypot(down, right), 0, 255).astype(np.uint8)[..., None], 3, -1)


SCENE_TASKS: list[Task] = [
    Task("negative", image, negative),
    Task("mirror", image, mirrored),
    Task("upside_down", image, upside_down),
    Task("edges", image, edges),
    Task("blur", image, blurred),
    Task("swap_channels", image, swapped_channels),
    Task("object_only", image, object_only),
    Task("background_only", image, background_only),
    Task("greying", image, grey),
    Task("darkening", image, dark),
    Task("inverse_mask", image, inverse_mask),
    Task("dark_to_dark", dark, dark),
    Task("dark_to_mask", dark, mask),
    Task("grey_to_grey", grey, grey),
    Task("grey_to_mask", grey, mask),
    Task("hole_to_hole", hole, hole),
    Task("hole_to_inverse_mask", hole, inverse_mask),
]

# Never trained on: new pairs of known sides, and one side that never occurs. They measure what a model cannot do.
UNSEEN_TASKS: list[Task] = [
    Task("dark_to_negative", dark, negative),
    Task("grey_to_mirror", grey, mirrored),
    Task("hole_to_mask", hole, mask, IOU),
    Task("rotate", image, rotated),
]


class PromptPool:
    """Examples held in memory, given out as random prompts' quadrants. A batch is a function of the generator alone."""

    def __init__(
        self,
        data: DataSet,
        count: int,
        size: int,
        tasks: Sequence[Task],
        frequency: Literal["equal", "natural"] = "equal",
    ):
        """A task that stands twice in ``tasks`` is drawn twice as often; classes are drawn equally or as they occur."""
        self._pool = data.load(np.arange(count), size)
        self._tasks, self._frequency = tasks, frequency
        order = np.argsort(self._pool.classes, kind="stable")
        groups = np.split(order, np.unique(self._pool.classes[order], return_index=True)[1][1:])
        self._by_class = [group for group in groups if len(group) > 1]

    def _examples(self, rows: Int[np.ndarray, " n"]) -> Examples:
        pool = self._pool
        masks = None if pool.masks is None else pool.masks[rows]
        return Examples(pool.images[rows], masks, pool.classes[rows], pool.indices[rows])

    def quadrants(self, count: int, random: np.random.Generator) -> Images:
        """[count, 4, size, size, 3]: support in and out, query in and out; support and query are of one class."""
        if self._frequency == "equal":
            which = random.integers(0, len(self._by_class), count)
        else:
            sizes = np.array([len(group) for group in self._by_class])
            which = random.choice(len(sizes), count, p=sizes / sizes.sum())
        rows = np.stack([random.choice(self._by_class[group], 2, replace=False) for group in which])
        tasks = random.integers(0, len(self._tasks), count)
        size = self._pool.images.shape[1]
        figures = np.empty((count, 4, size, size, 3), np.uint8)
        for index in np.unique(tasks):
            task, members = self._tasks[index], np.flatnonzero(tasks == index)
            for place in range(2):
                source = source_of(self._examples(rows[members, place]), random.random((len(members), 2)))
                figures[members, 2 * place] = task.input(source)
                figures[members, 2 * place + 1] = task.output(source)
        return figures

    def images(self, count: int, random: np.random.Generator) -> Images:
        """[count, size, size, 3]: sides of training tasks; the untouched image is by far the most frequent."""
        quadrants = self.quadrants(-(-count // 2), random)
        return quadrants[:, 2:].reshape(-1, *quadrants.shape[2:])[:count]

    def canvases(self, count: int, random: np.random.Generator) -> Images:
        """[count / 4, 2 size, 2 size, 3]: as many pixels as ``images`` gives, four images a canvas without gaps."""
        quadrants = self.quadrants(count // 4, random)
        count, _, size, _, channels = quadrants.shape
        grid = quadrants.reshape(count, 2, 2, size, size, channels).swapaxes(2, 3)
        return grid.reshape(count, 2 * size, 2 * size, channels)
