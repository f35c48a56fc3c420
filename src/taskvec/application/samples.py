"""One sample: how its image is read and what its result is, which says what it was made from.

Nothing here has a model: images are read and results encoded in processes of their own.
"""

import json
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from taskvec.files import digest, json_text, read_bytes
from taskvec.images import MAX_PIXELS, Range, is_deep, read_raster
from taskvec.vectors import TaskVectors, input_pixels, result_image

_KEY = "taskvec"  # of the text in a result's PNG
_PIXELS = "pixels"  # in that text, the digest of the result itself

State = Literal["done", "left", "other"]


@dataclass(frozen=True)
class Sample:
    """An image to do. Its result has the same ``key``, a relative path without an ending; sentences call it ``name``.

    ``content`` is what its file holds, or the file. ``others`` is what its shard has of it beside the image, in the
    shard's own form. ``problem`` is why it cannot be done, where that is known already.
    """

    key: str
    name: str
    content: bytes | Path
    others: Any = None
    problem: str | None = None


@dataclass(frozen=True)
class Reading:
    """How images are read: the range of deep ones (None where there is none), as EXIF turns them or as they are stored,
    and up to how many pixels.
    """

    levels: Range | None = None
    ignore_orientation: bool = False
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Making:
    """All that results depend on but the images and the model: ``vectors`` is the fingerprint of the task vectors,
    ``size`` the side of the images that the model sees, ``threshold`` where a mask is cut, None for pictures.
    """

    vectors: str
    size: int
    threshold: float | None
    reading: Reading = Reading()

    @classmethod
    def of(cls, vectors: TaskVectors, reading: Reading = Reading()) -> "Making":
        return cls(vectors.fingerprint(), vectors.model.image_size, vectors.threshold, reading)


@dataclass(frozen=True)
class Input:
    """What is kept of an image between reading and writing: pixels at the model's size, its own size, its digest."""

    pixels: UInt8[np.ndarray, "side side 3"]
    size: tuple[int, int]
    digest: str
    deep: bool


def without_pixels(image: Input | str) -> Input | str:
    """What is still needed of an image once the model has answered."""
    return image if isinstance(image, str) else replace(image, pixels=np.empty((0, 0, 3), np.uint8))


def read(sample: Sample, making: Making) -> Input | str:
    """The image, or why it could not be read."""
    if sample.problem is not None:
        return sample.problem
    reading = making.reading
    try:
        content = content_of(sample)
        raster = read_raster(Path(sample.name), content, max_pixels=reading.max_pixels, reduce=True)
        raster = raster.as_stored() if reading.ignore_orientation else raster
        try:
            pixels = input_pixels(raster, making.size, reading.levels)
        except ValueError as error:
            return f"{sample.name} cannot be read as an image: {error}"
    except OSError as error:
        return f"{sample.name} cannot be read: {error.strerror}"
    except MemoryError:
        return f"{sample.name} cannot be read as an image: there is not enough memory for it"
    except ValueError as error:
        return str(error)
    return Input(pixels, raster.size, digest(content), raster.deep)


def encoded(output: UInt8[np.ndarray, "side side 3"], image: Input, making: Making) -> bytes:
    """The result as PNG, of the image's size. Raises MemoryError, and ValueError for a size that PNG does not have."""
    result = result_image(output, image.size, making.threshold)
    text = PngInfo()
    text.add_text(_KEY, json_text({**_origin(image.digest, making, deep=image.deep), _PIXELS: _digest_of(result)}))
    text.add(b"sRGB", b"\0")  # as all levels here are; its one byte says that colours are perceived
    file = BytesIO()
    result.save(file, "PNG", pnginfo=text)
    return file.getvalue()


def state_of(result: Path, sample: Sample, making: Making) -> State:
    """Of a file where a result belongs: ``done``, ``left`` to do, also where it is damaged, or ``other``, made of
    something else.
    """
    if not result.exists():
        return "left"
    try:
        content = content_of(sample)
    except (OSError, ValueError):
        return "left"  # which tells why it cannot be done
    deep = making.reading.levels is not None and is_deep(Path(sample.name), content)
    origin, whole = _origin_of(result)
    if origin != _origin(digest(content), making, deep=deep):
        return "other"
    return "done" if whole else "left"


def content_of(sample: Sample) -> bytes:
    """What the image's file holds; ValueError where it is no file, OSError where it cannot be read."""
    return sample.content if isinstance(sample.content, bytes) else read_bytes(sample.content)


def _origin(image: str, making: Making, *, deep: bool) -> dict[str, object]:
    """What a result is a function of; ``image`` is the digest of the image's file."""
    origin: dict[str, object] = {"vectors": making.vectors, "image": image}
    reading = making.reading
    if deep and reading.levels is not None:
        origin["levels"] = [reading.levels.low, reading.levels.high]
    if reading.ignore_orientation:
        origin["orientation"] = "as stored"
    return origin


def _origin_of(result: Path) -> tuple[object, bool]:
    """What an existing file says that it was made from, None where it is none of ours, and whether its pixels are as
    they were written.
    """
    origin = pixels = None
    try:
        with Image.open(BytesIO(read_bytes(result)), formats=["PNG"]) as image:
            origin = json.loads(image.info.get(_KEY, "null"))
            pixels = origin.pop(_PIXELS)
            return origin, pixels == _digest_of(image)
    except Exception:  # pillow's plugins raise anything for damaged data
        return None if pixels is None else origin, False


def _digest_of(result: Image.Image) -> str:
    return digest(f"{result.mode} {result.size}".encode() + result.tobytes())
