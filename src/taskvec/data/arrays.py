"""Pairs that are in memory, or that another library's data set gives: inputs, and outputs that they should become."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

from taskvec.data.image_pairs import ImagePairs, named
from taskvec.data.layouts import INPUTS, OUTPUTS, Pairs
from taskvec.data.masks import Census, census
from taskvec.files import digest, read_bytes
from taskvec.images import MAX_PIXELS, Header, Raster, raster_of, raster_of_array, read_raster

INPUT_PLACE, OUTPUT_PLACE = Path("inputs"), Path("outputs")  # what errors and records call them


@dataclass(frozen=True, eq=False)
class ArrayPairs(ImagePairs):
    """As ``pairs`` makes them: ``inputs`` and ``outputs`` are indexed from 0 on, whatever is there."""

    kind: ClassVar[str] = "arrays"

    inputs: Any = field(repr=False)
    outputs: Any = field(repr=False)
    split: str = "all"
    metric: str | None = None
    name: str = "pairs"
    groups: Sequence[object] | None = field(default=None, repr=False)
    levels: tuple[float, float] | None = None
    object_level: str | None = None
    void: str | None = None
    ignore_orientation: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if not len(self.inputs):
            raise ValueError("there are no inputs: expected images")
        for what, given in (("outputs", self.outputs), ("groups", self.groups)):
            if given is not None and len(given) != len(self.inputs):
                raise ValueError(f"there are {len(self.inputs)} inputs and {len(given)} {what}: expected as many")
        self.check()

    @cached_property
    def pairs(self) -> Pairs:
        width = len(str(len(self.inputs) - 1))
        names = [f"{index:0{width}}" for index in range(len(self.inputs))]
        outputs = None if self.outputs is None else [OUTPUT_PLACE / name for name in names]
        place = None if self.outputs is None else OUTPUT_PLACE
        return Pairs([INPUT_PLACE / name for name in names], outputs, INPUT_PLACE, place, {})

    @property
    def called(self) -> str:
        return self.name

    def read(self, path: Path) -> Raster:
        return named(path, _raster, self._at(path), self.max_pixels)

    def header(self, path: Path) -> Header:
        raster = self.read(path)
        width, height = raster.size
        return Header(width, height, raster.orientation, raster.deep, windowed=raster.shown is not None)

    def census_of(self, path: Path) -> Census:
        return census(self.read(path))

    def digests_of(self, paths: Sequence[Path]) -> list[str]:
        return [named(path, _digest, self._at(path)) for path in paths]

    def group_names(self) -> list[str] | None:
        return None if self.groups is None else [str(group) for group in self.groups]

    def _at(self, path: Path) -> Any:
        given = self.inputs if path.parent == INPUT_PLACE else self.outputs
        return None if given is None else given[int(path.name)]


@dataclass(frozen=True)
class _Column:
    """One side of the pairs of a data set, each taken when it is asked for."""

    of: Any
    key: str | int

    def __len__(self) -> int:
        return len(self.of)

    def __getitem__(self, index: int) -> Any:
        return self.of[index][self.key]


def pairs(
    inputs: Any,
    outputs: Any = None,
    *,
    metric: str | None = None,
    split: str = "all",
    name: str = "pairs",
    groups: Sequence[object] | None = None,
    input: str | int | None = None,
    output: str | int | None = None,
    levels: tuple[float, float] | None = None,
    object_level: str | None = None,
    void: str | None = None,
    ignore_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> ArrayPairs:
    """A task of your own, from pairs of images: what ``find``, ``evaluate`` and the rest take as data.

    ``inputs`` and ``outputs`` are sequences of images, each an array [height, width] or [height, width, 3 or 4] (a
    tensor may have its channels first), a pillow image, or the path of a file; or one array of all. Or ``inputs`` alone
    is a data set, of PyTorch's or Hugging Face's kind, whose items are pairs, or dictionaries with the columns
    ``input`` and ``output``, by default those called image and mask or the like; items are read when they are needed.
    Nothing is copied: arrays must stay as they are.

    ``split`` is ``all`` of them, or ``test``, a fifth that the images' content chooses, or ``train``, the rest. The
    other options are those of a folder (``ImagePairs``): ``groups`` has what each input hangs together with, such as
    a patient, so that it is in one split. Numbers that are not bytes have the range that all of them tell, or
    ``levels``.

    Raises ValueError for what is no pair of images, other numbers of inputs and outputs, a metric that there is not,
    and fewer than ten pairs to split.
    """
    if outputs is None and not isinstance(inputs, np.ndarray | torch.Tensor) and len(inputs):
        first = inputs[0]
        if isinstance(first, Mapping) and not _is_encoded(first):
            inputs, outputs = (
                _Column(inputs, _column(first, given, usual, what))
                for given, usual, what in ((input, INPUTS, "input"), (output, OUTPUTS, "output"))
            )
        elif isinstance(first, tuple | list) and len(first) == 2:
            inputs, outputs = (
                _Column(inputs, number if given is None else given) for number, given in enumerate((input, output))
            )
    options: dict[str, Any] = {"levels": levels, "object_level": object_level, "void": void, "max_pixels": max_pixels}
    return ArrayPairs(inputs, outputs, split, metric, name, groups, ignore_orientation=ignore_orientation, **options)


def _column(first: Mapping[str, Any], given: str | int | None, usual: Sequence[str], what: str) -> str | int:
    """The column that is asked for, or the one with a usual name; ValueError where that is none or several."""
    found = [given] if given is not None else [name for name in first if str(name).lower() in usual]
    if len(found) != 1 or found[0] not in first:
        there = ", ".join(map(str, first))
        raise ValueError(f"which column is the {what}? {what}=NAME says it: there are {there}")
    return found[0]


def _is_encoded(image: object) -> bool:
    """Whether it is a file's bytes, as Hugging Face's data sets have images that are not decoded."""
    return isinstance(image, Mapping) and image.keys() == {"bytes", "path"}


def _raster(image: Any, max_pixels: int) -> Raster:
    """ValueError for what is no image."""
    if isinstance(image, Image.Image):
        return raster_of(image)
    if isinstance(image, str | os.PathLike):
        return read_raster(Path(image), max_pixels=max_pixels)
    if _is_encoded(image):
        if image["bytes"] is None:
            return read_raster(Path(image["path"]), max_pixels=max_pixels)
        return read_raster(Path(image["path"] or "bytes"), image["bytes"], max_pixels=max_pixels)
    return raster_of_array(_array(image))


def _array(image: Any) -> np.ndarray:
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        first = image.ndim == 3 and image.shape[0] in (1, 3, 4) and image.shape[2] not in (1, 3, 4)
        return (image.movedim(0, 2) if first else image).numpy()
    if isinstance(image, np.ndarray | Sequence):
        return np.asarray(image)
    raise ValueError(f"it is of type {type(image).__name__}, expected an array, a pillow image or a path")


def _digest(image: Any) -> str:
    if isinstance(image, str | os.PathLike):
        return digest(read_bytes(Path(image)))
    if _is_encoded(image):
        return digest(read_bytes(Path(image["path"])) if image["bytes"] is None else image["bytes"])
    if isinstance(image, Image.Image):
        palette = image.getpalette() if image.mode == "P" else None
        return digest(f"{image.mode} {image.size} {palette}".encode() + image.tobytes())
    array = _array(image)
    return digest(f"{array.dtype} {array.shape}".encode() + array.tobytes())
