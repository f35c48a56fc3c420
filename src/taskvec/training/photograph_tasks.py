"""What is learnt from photographs beside the paper's tasks: many others on their inputs, so that the example is needed.

Random sides (noise) are functions of the source's holes, which are drawn anew for every image.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from taskvec.tasks import (
    Images,
    Side,
    Source,
    Task,
    dark,
    grey,
    hole,
    image,
    mask,
    object_of,
)
from taskvec.training.prompt_pool import (
    background_only,
    blurred,
    edges,
    inverse_mask,
    mirrored,
    negative,
    object_only,
    swapped_channels,
    upside_down,
)

RED, GREEN, BLUE, WHITE, MIDDLE = (230, 40, 40), (40, 200, 60), (40, 70, 230), (255, 255, 255), (128, 128, 128)

Colour = tuple[int, int, int]
Where = Bool[np.ndarray, "n size size"]


def _inside(source: Source) -> Where:
    return object_of(source) > 127


def _painted(images: Images, where: Where, colour: Colour) -> Images:
    return np.where(where[..., None], np.array(colour, np.uint8), images)


def _levels(values: np.ndarray) -> Images:
    """Grey images of these levels, [n, size, size]."""
    return np.repeat(np.clip(values, 0, 255).astype(np.uint8)[..., None], 3, -1)


def _resized(images: Images, size: int, resampling: Image.Resampling) -> Images:
    return np.stack([np.asarray(Image.fromarray(each).resize((size, size), resampling)) for each in images])


def _box_mean(values: Float[np.ndarray, "n size size"], radius: int) -> Float[np.ndarray, "n size size"]:
    """Mean over a square of 2 radius + 1 pixels, by sums along both axes."""
    for axis in (1, 2):
        widths = [(0, 0)] * 3
        widths[axis] = (radius + 1, radius)
        sums = np.cumsum(np.pad(values, widths, "edge"), axis, dtype=np.float64)
        upper, lower = np.split(sums, [2 * radius + 1], axis)[1], np.split(sums, [-2 * radius - 1], axis)[0]
        values = ((upper - lower) / (2 * radius + 1)).astype(np.float32)
    return values


def noisy(source: Source) -> Images:
    """Gaussian noise of 30 levels."""
    random = np.random.default_rng((source.holes.ravel() * 2**32).astype(np.uint32))
    noise = random.standard_normal(source.images.shape, np.float32)
    return np.clip(source.images + 30 * noise, 0, 255).astype(np.uint8)


def small(source: Source) -> Images:
    """A quarter of the resolution, magnified smoothly."""
    size = source.images.shape[1]
    return _resized(_resized(source.images, size // 4, Image.Resampling.BOX), size, Image.Resampling.BICUBIC)


def pixelated(source: Source) -> Images:
    """An eighth of the resolution, magnified in blocks."""
    size = source.images.shape[1]
    return _resized(_resized(source.images, size // 8, Image.Resampling.BOX), size, Image.Resampling.NEAREST)


def half_turn(source: Source) -> Images:
    return source.images[:, ::-1, ::-1]


def magnified(source: Source) -> Images:
    """The middle half, twice as large."""
    size = source.images.shape[1]
    middle = source.images[:, size // 4 : size - size // 4, size // 4 : size - size // 4]
    return _resized(middle, size, Image.Resampling.BICUBIC)


def bright(source: Source) -> Images:
    return (255 - (255 - source.images) * np.float32(0.5)).astype(np.uint8)


def sepia(source: Source) -> Images:
    return np.clip(grey(source) * np.array([1.07, 0.86, 0.63], np.float32), 0, 255).astype(np.uint8)


def posterised(source: Source) -> Images:
    """Three levels a channel."""
    return (np.round(source.images / np.float32(127.5)) * 127.5).astype(np.uint8)


def two_levels(source: Source) -> Images:
    """Black and white, divided at the mean luminance."""
    level = grey(source)
    return np.where(level > np.mean(level, (1, 2, 3), keepdims=True), np.uint8(255), np.uint8(0))


def relief(source: Source) -> Images:
    """Luminance as a surface lit from the top left."""
    down, right = np.gradient(grey(source)[..., 0].astype(np.float32), axis=(1, 2))
    return _levels(np.asarray(128 + 2 * (down + right)))


def object_painted(colour: Colour) -> Side:
    """The object in one colour; in grey, it is as good as erased."""

    def side(source: Source) -> Images:
        return _painted(source.images, _inside(source), colour)

    return side


def background_painted(colour: Colour) -> Side:
    def side(source: Source) -> Images:
        return _painted(source.images, ~_inside(source), colour)

    return side


def object_erased(source: Source) -> Images:
    """The object in the mean colour of what is around it."""
    outside = (~_inside(source))[..., None]
    means = (source.images * outside).sum((1, 2)) / np.maximum(outside.sum((1, 2)), 1)
    return np.where(outside, source.images, means.astype(np.uint8)[:, None, None])


def object_recoloured(source: Source) -> Images:
    return np.where(_inside(source)[..., None], swapped_channels(source), source.images)


def background_grey(source: Source) -> Images:
    return np.where(_inside(source)[..., None], source.images, grey(source))


def object_grey(source: Source) -> Images:
    return np.where(_inside(source)[..., None], grey(source), source.images)


def background_blurred(source: Source) -> Images:
    return np.where(_inside(source)[..., None], source.images, blurred(source))


def red_mask(source: Source) -> Images:
    """The object red on green."""
    return _painted(np.full_like(source.images, GREEN), _inside(source), RED)


def _bounds(source: Source) -> Int[np.ndarray, "4 n"]:
    """First and last row, first and last column of every object."""
    size = source.images.shape[1]
    spans = []
    for axis in (2, 1):
        used = np.asarray(_inside(source).any(axis))
        spans += [used.argmax(1), size - 1 - used[:, ::-1].argmax(1)]
    return np.stack(spans)


def _in_box(source: Source, shrink: int = 0) -> Where:
    top, bottom, left, right = _bounds(source)[..., None]
    axis = np.arange(source.images.shape[1])
    rows = (axis >= top + shrink) & (axis <= bottom - shrink)
    columns = (axis >= left + shrink) & (axis <= right - shrink)
    return rows[:, :, None] & columns[:, None, :]


def boxed(source: Source) -> Images:
    """A red frame around the object."""
    return _painted(source.images, _in_box(source) & ~_in_box(source, 3), RED)


def box_mask(source: Source) -> Images:
    """The object's bounding box white on black."""
    return _painted(np.zeros_like(source.images), _in_box(source), WHITE)


def keypoint(source: Source) -> Images:
    """A green disk with a black rim in the middle of the object's bounding box."""
    top, bottom, left, right = _bounds(source)[..., None, None]
    size = source.images.shape[1]
    axis = np.arange(size)
    distance = np.hypot(axis[:, None] - (top + bottom) / 2, axis - (left + right) / 2)
    return _painted(_painted(source.images, distance < size / 9, (0, 0, 0)), distance < size / 12, GREEN)


def contour(source: Source) -> Images:
    """The object's outline white on black."""
    cover = _box_mean(_inside(source).astype(np.float32), 1)
    return _painted(np.zeros_like(source.images), (cover > 0.05) & (cover < 0.95), WHITE)


def depth(source: Source) -> Images:
    """Shades as a depth map has: the ground nearer towards the bottom, the object in front, its middle nearest."""
    size = source.images.shape[1]
    inside = _inside(source)
    ground = np.linspace(20, 120, size, dtype=np.float32)[None, :, None]
    shade = np.where(inside, 120 + 135 * _box_mean(inside.astype(np.float32), size // 8), ground)
    return _levels(shade)


_IMAGE_TO = {
    "negative": negative,
    "mirror": mirrored,
    "upside_down": upside_down,
    "half_turn": half_turn,
    "magnify": magnified,
    "edges": edges,
    "relief": relief,
    "blur": blurred,
    "pixelate": pixelated,
    "swap_channels": swapped_channels,
    "greying": grey,
    "darkening": dark,
    "brightening": bright,
    "sepia": sepia,
    "posterise": posterised,
    "two_levels": two_levels,
    "inverse_mask": inverse_mask,
    "red_mask": red_mask,
    "contour": contour,
    "depth": depth,
    "box_mask": box_mask,
    "box": boxed,
    "keypoint": keypoint,
    "object_only": object_only,
    "background_only": background_only,
    "object_red": object_painted(RED),
    "object_blue": object_painted(BLUE),
    "background_green": background_painted(GREEN),
    "background_white": background_painted(WHITE),
    "object_erased": object_erased,
    "object_recoloured": object_recoloured,
    "object_grey": object_grey,
    "background_grey": background_grey,
    "background_blurred": background_blurred,
}
_OTHERS = [
    Task("denoise", noisy, image),
    Task("noise_to_mask", noisy, mask),
    Task("deblur", blurred, image),
    Task("blur_to_mask", blurred, mask),
    Task("super_resolution", small, image),
    Task("small_to_edges", small, edges),
    Task("brightness_back", bright, image),
    Task("bright_to_dark", bright, dark),
    Task("erased_to_erased", object_erased, object_erased),
    Task("erased_to_blur", object_erased, background_blurred),
    Task("dark_to_dark", dark, dark),
    Task("dark_to_mask", dark, mask),
    Task("grey_to_grey", grey, grey),
    Task("grey_to_mask", grey, mask),
    Task("grey_to_sepia", grey, sepia),
    Task("hole_to_hole", hole, hole),
    Task("hole_to_inverse_mask", hole, inverse_mask),
    Task("hole_to_grey", hole, grey),
]
PHOTOGRAPH_TASKS: list[Task] = [*(Task(name, image, side) for name, side in _IMAGE_TO.items()), *_OTHERS]
