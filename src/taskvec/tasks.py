"""Tasks: what turns an example into an input and an output (Section 8.3).

All images are uint8 [n, size, size, 3] at the size they have on the canvas; a task sees a whole batch at once. Of
examples that are texts each side is an array of str [n].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from taskvec.choices import TASKS
from taskvec.metrics import CHANGED, CHROMA, FOR_IMAGES, IOU, Metric
from taskvec.names import choose_from

Images = UInt8[np.ndarray, "n size size 3"]

Need = Literal["masks", "outputs"]
LACKING: dict[Need, str] = {
    "masks": "the images have no masks of objects, which this task needs",
    "outputs": "the images have no outputs of their own, which this task needs",
}
HOLE_SIDE = 0.25  # of the image side: 1/16 of the area, as the official code has it


@dataclass(frozen=True)
class Source:
    """What the sides of a task are drawn from: images, their objects' masks, where a hole would be, their outputs."""

    images: Images
    masks: UInt8[np.ndarray, "n size size"] | None
    holes: Float[np.ndarray, "n 2"]  # top and left of the hole as fractions 0..1 of the room it has
    outputs: Images | None = None


Side = Callable[[Source], Images]


@dataclass(frozen=True)
class Task:
    """A named pair of sides, and the metric that its answers are scored by.

    ``detail`` is a second error, of just what the task is to change, where the metric is mostly about the rest.
    ``needs`` is what the data must have beside images; ``title`` is what tables and figures print, the name by default.
    """

    name: str
    input: Side
    output: Side
    metric: Metric = FOR_IMAGES
    detail: Metric | None = None
    needs: tuple[Need, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name.replace("_", " "))


def image(source: Source) -> Images:
    return source.images


def object_of(source: Source) -> UInt8[np.ndarray, "n size size"]:
    """255 on the object; ValueError where the data has no masks."""
    if source.masks is None:
        raise ValueError(LACKING["masks"])
    return source.masks


def mask(source: Source) -> Images:
    """The object white on black."""
    return np.repeat(object_of(source)[..., None], 3, -1)


def own_output(source: Source) -> Images:
    """The output that came with the image; ValueError where the data has none."""
    if source.outputs is None:
        raise ValueError(LACKING["outputs"])
    return source.outputs


def dark(source: Source) -> Images:
    """Half the brightness."""
    return (source.images * np.float32(0.5)).astype(np.uint8)


def grey(source: Source) -> Images:
    """Luminance in the integer arithmetic of PIL's mode "L" (ITU-R 601)."""
    red, green, blue = (source.images[..., channel].astype(np.uint32) for channel in range(3))
    level = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    return np.repeat(level.astype(np.uint8)[..., None], 3, -1)


def hole(source: Source) -> Images:
    """A black square of a quarter of the image side."""
    size = source.images.shape[1]
    side = max(1, round(size * HOLE_SIDE))
    corners = np.floor(source.holes * (size - side + 1)).astype(np.int64)
    axis = np.arange(size)
    inside = (axis >= corners[..., None]) & (axis < corners[..., None] + side)
    return np.where((inside[:, 0, :, None] & inside[:, 1, None, :])[..., None], np.uint8(0), source.images)


SEGMENTATION = Task("segmentation", image, mask, IOU, needs=("masks",), title="Segmentation")
LOW_LIGHT = Task("low_light", dark, image, title="Low light")
INPAINTING = Task("inpainting", hole, image, detail=CHANGED, title="In-painting")
COLORIZATION = Task("colorization", grey, image, detail=CHROMA, title="Colorization")
IDENTITY = Task("identity", image, image, title="Identity")


def compose(first: Task, second: Task) -> Task:
    """The second task on the input of the first: after in-painting, segmentation is the mask of a holed image."""
    return Task(
        f"{first.name}+{second.name}",
        first.input,
        second.output,
        second.metric,
        second.detail,
        tuple(dict.fromkeys((*first.needs, *second.needs))),  # which of a task's sides has a need is not known
        f"{first.title} + {second.title.lower()}",
    )


def task_named(name: str) -> Task:
    """The built-in task of this name, or two composed, as ``inpainting+segmentation``; ValueError names the choices."""
    first, _, second = name.partition("+")
    if first in TASKS and second in TASKS:
        return compose(TASKS[first], TASKS[second])
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}: {choose_from(name, TASKS, ', or two joined by +')}")
    return TASKS[name]


def is_built_in(name: str) -> bool:
    """Whether it names a built-in task, or two composed; else it is a user's own."""
    return all(part in TASKS for part in name.split("+", 1))


def title_of(name: str) -> str:
    """What is printed for a task that is known by its name alone, such as one in a record."""
    try:
        return task_named(name).title
    except ValueError:  # a user's own
        return name.replace("_", " ")
