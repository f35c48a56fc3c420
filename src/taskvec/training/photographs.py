"""Photographs to learn from: every crop differs, and objects are cut out of one photograph and pasted onto another.

They are read from a directory of folders, each with ``JPEGImages/*.jpg`` and masks of the same names as 8-bit PNG:
``SegmentationClass/`` (0 is no class, 255 is ignored) or ``Regions/`` (every value a region, of no class). A folder
with ``splits`` gives only what ``splits/trn/*.txt`` list, in lines of ``NAME__CLASS``, and what ``splits/val/*.txt``
list must not be among it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from taskvec.data.examples import DataSet, Examples
from taskvec.files import read_text
from taskvec.images import read_image, read_rgb

NO_CLASS = 0
IGNORED = 255

HELD_OUT_SHARE = 0.1
PASTED_SHARE = 0.35  # of the crops of photographs that have an object of a class; of the others all
SMALLEST, LARGEST = 0.03, 0.85  # of an image: what counts as an object in it
PHOTOGRAPHS_OF_A_CLASS = 4  # a class with fewer counts as none: its prompts would show one photograph twice

Mask = Bool[np.ndarray, "height width"]
Pixels = UInt8[np.ndarray, "size size 3"]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Photograph:
    """``objects`` are the values in ``labels`` that are large enough, with the class of each."""

    name: str
    image: Image.Image
    labels: UInt8[np.ndarray, "height width"]
    objects: tuple[tuple[int, int], ...]

    @property
    def of_a_class(self) -> tuple[tuple[int, int], ...]:
        return tuple((value, kind) for value, kind in self.objects if kind != NO_CLASS)


def read_photographs(directory: Path) -> list[Photograph]:
    """All photographs of a directory, in a fixed order; ValueError where there are none or lists contradict."""
    found: list[tuple[str, Image.Image, np.ndarray, list[tuple[str, int]]]] = []
    for folder in sorted(path.parent for path in directory.glob("*/JPEGImages")):
        for name in _names(folder):
            image = read_rgb(folder / "JPEGImages" / f"{name}.jpg")
            labels, keys = _labels(folder, name, image.size)
            found.append((f"{folder.name}/{name}", image, labels, keys))
    if not found:
        raise ValueError(f"{directory} holds no photographs: expected folders with JPEGImages in it")
    counts: dict[str, int] = {}
    for *_, keys in found:
        for key, _ in keys:
            counts[key] = counts.get(key, 0) + 1
    frequent = sorted(key for key, count in counts.items() if key and count >= PHOTOGRAPHS_OF_A_CLASS)
    classes = {key: number for number, key in enumerate(frequent, NO_CLASS + 1)}
    return [
        Photograph(name, image, labels, tuple((value, classes.get(key, NO_CLASS)) for key, value in keys))
        for name, image, labels, keys in found
    ]


def _names(folder: Path) -> list[str]:
    """The photographs of a folder that may be trained on."""
    if not (folder / "splits").is_dir():
        return sorted(path.stem for path in (folder / "JPEGImages").glob("*.jpg"))
    listed = {
        split: {name for path in sorted((folder / "splits" / split).glob("*.txt")) for name in _listed(path)}
        for split in ("trn", "val")
    }
    shared = listed["trn"] & listed["val"]
    if shared:
        raise ValueError(f"{folder}: {min(shared)} is in the lists of splits/trn and of splits/val")
    return sorted(listed["trn"])


def _listed(path: Path) -> list[str]:
    """The names in a list; ValueError for one that is no file's name, and might lead out of the directory."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    names = [line.partition("__")[0] for line in lines]
    for line, name in zip(lines, names, strict=True):
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise ValueError(f"{path}: {line!r}, expected NAME__CLASS with the name of a file in JPEGImages")
    return names


def _labels(folder: Path, name: str, size: tuple[int, int]) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Labels of every pixel, and what is an object: the key of its class (empty for none) and its label."""
    kind = "SegmentationClass" if (folder / "SegmentationClass").is_dir() else "Regions"
    path = folder / kind / f"{name}.png"
    if not path.is_file():
        return np.zeros(size[::-1], np.uint8), []
    labels = np.asarray(read_image(path))
    if labels.shape != size[::-1]:
        raise ValueError(f"{path} has a shape of {labels.shape}, expected the photograph's, {size[::-1]}")
    shares = np.bincount(labels.ravel(), minlength=256) / labels.size
    shares[[0, IGNORED]] = 0
    values = np.flatnonzero((shares >= SMALLEST) & (shares <= LARGEST)).tolist()
    return labels, [(f"{folder.name}/{value:03d}" if kind == "SegmentationClass" else "", value) for value in values]


def split(photographs: list[Photograph], seed: int) -> tuple[list[Photograph], list[Photograph]]:
    """The photographs to train on and those held out, at random."""
    order = np.random.default_rng([seed, 11]).permutation(len(photographs))
    held_out = round(HELD_OUT_SHARE * len(photographs))
    return [photographs[i] for i in order[held_out:]], [photographs[i] for i in order[:held_out]]


def describe(photographs: list[Photograph]) -> dict[str, object]:
    """How many there are, and a digest of their names."""
    digest = hashlib.sha256("\n".join(photograph.name for photograph in photographs).encode())
    return {"data": "photographs", "count": len(photographs), "names": digest.hexdigest()[:16]}


@dataclass(frozen=True)
class WholePhotographs:
    """Every object of a class is an example, in the whole photograph: what models are measured on."""

    photographs: list[Photograph]

    @property
    def _objects(self) -> list[tuple[Photograph, int, int]]:
        return [(each, value, kind) for each in self.photographs for value, kind in each.of_a_class]

    def __len__(self) -> int:
        return len(self._objects)

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return np.array([kind for _, _, kind in self._objects], np.int64)[indices]

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [f"{each.name}__{value:03}" for each, value, _ in (self._objects[index] for index in indices)]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [self._objects[index][0].name for index in indices]

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.images_of(indices)

    def remarks(self) -> list[str]:
        return []

    def describe(self) -> dict[str, object]:
        return describe(self.photographs)

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        chosen = [self._objects[index] for index in indices]
        cut = [_cut(each.image, each.labels == value, (0, 0, *each.image.size), size) for each, value, _ in chosen]
        return _examples(cut, self.class_of(indices), indices)


@dataclass(frozen=True)
class Crops:
    """Crop ``i`` is a function of the photographs, the seed and ``i`` alone: cut, pasted onto, flipped, recoloured."""

    photographs: list[Photograph]
    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not any(each.of_a_class for each in self.photographs):
            raise ValueError("no object in the photographs is of a class that enough of them show")

    def __len__(self) -> int:
        return self.count

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [f"crop {self.seed}/{index}" for index in indices]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.names(indices)

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.images_of(indices)

    def remarks(self) -> list[str]:
        return []

    def describe(self) -> dict[str, object]:
        return {**describe(self.photographs), "crops": self.count, "seed": self.seed}

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return np.array([self._choose(np.random.default_rng([self.seed, 12, index]))[3] for index in indices])

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        drawn = [self._draw(np.random.default_rng([self.seed, 12, index]), size) for index in indices]
        return _examples([(image, mask) for image, mask, _ in drawn], np.array([d[2] for d in drawn]), indices)

    def _choose(self, random: np.random.Generator) -> tuple[Photograph, Photograph, int, int]:
        """A photograph, the one that the object is from (mostly the same), the object's label and class."""
        ground = self.photographs[random.integers(len(self.photographs))]
        source, candidates = ground, ground.of_a_class
        if random.random() < PASTED_SHARE or not candidates:
            candidates = ()
            while not candidates:
                source = self.photographs[random.integers(len(self.photographs))]
                candidates = source.objects
        value, kind = candidates[random.integers(len(candidates))]
        return ground, source, value, kind

    def _draw(self, random: np.random.Generator, size: int) -> tuple[Pixels, Mask, int]:
        ground, source, value, kind = self._choose(random)
        thing = source.labels == value
        if source is ground:
            image, mask = _cut(ground.image, thing, _object_box(thing, random), size)
        else:
            image, _ = _cut(ground.image, None, _random_box(*ground.image.size, random), size)
            image, mask = _paste(image, _recoloured(np.asarray(source.image), random), thing, random)
        if random.random() < 0.5:
            image, mask = image[:, ::-1], mask[:, ::-1]
        return _recoloured(image, random), mask, kind


@dataclass(frozen=True)
class Together:
    """The first so many examples of several data sets, one after the other; no class of one is a class of another."""

    parts: tuple[tuple[DataSet, int], ...]

    def __len__(self) -> int:
        return sum(count for _, count in self.parts)

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self._gather(indices, lambda data, inside: data.names(inside))

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self._gather(indices, lambda data, inside: data.images_of(inside))

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self._gather(indices, lambda data, inside: data.groups_of(inside))

    def remarks(self) -> list[str]:
        return []

    def describe(self) -> dict[str, object]:
        return {"data": "together", "parts": [{**data.describe(), "first": count} for data, count in self.parts]}

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        classes = np.empty(len(indices), np.int64)
        for number, (rows, data, inside) in enumerate(self._split(indices)):
            classes[rows] = data.class_of(inside) * len(self.parts) + number
        return classes

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        images = np.empty((len(indices), size, size, 3), np.uint8)
        masks, classes = np.empty((len(indices), size, size), np.uint8), np.empty(len(indices), np.int64)
        for number, (rows, data, inside) in enumerate(self._split(indices)):
            part = data.load(inside, size)
            images[rows] = part.images
            masks[rows] = 0 if part.masks is None else part.masks
            classes[rows] = part.classes * len(self.parts) + number
        return Examples(images, masks, classes, indices)

    def _gather(
        self, indices: Int[np.ndarray, " n"], ask: Callable[[DataSet, Int[np.ndarray, " n"]], list[str]]
    ) -> list[str]:
        gathered = np.empty(len(indices), object)
        for rows, data, inside in self._split(indices):
            gathered[rows] = ask(data, inside)
        return gathered.tolist()

    def _split(self, indices: Int[np.ndarray, " n"]) -> list[tuple[np.ndarray, DataSet, np.ndarray]]:
        """Of every data set: the rows of ``indices`` that speak of it, itself, and its own indices there."""
        ends = np.cumsum([count for _, count in self.parts])
        which = np.searchsorted(ends, indices, "right")
        rows = [np.flatnonzero(which == number) for number in range(len(self.parts))]
        starts = ends - [count for _, count in self.parts]
        return [(rows[i], data, np.asarray(indices)[rows[i]] - starts[i]) for i, (data, _) in enumerate(self.parts)]


def _examples(cut: list[tuple[Pixels, Mask]], classes: np.ndarray, indices: np.ndarray) -> Examples:
    images, masks = (np.stack(each) for each in zip(*cut, strict=True))
    return Examples(images, np.where(masks, np.uint8(255), np.uint8(0)), classes, np.asarray(indices))


def _random_box(width: int, height: int, random: np.random.Generator) -> Box:
    """30 to 100 % of a photograph's area, up to 1.35 times as wide or high as that share of it would be."""
    share, stretch = random.uniform(0.3, 1.0), np.exp(random.uniform(-0.3, 0.3))
    wide, high = min(1.0, np.sqrt(share * stretch)), min(1.0, np.sqrt(share / stretch))
    left, top = random.random() * (1 - wide) * width, random.random() * (1 - high) * height
    return left, top, left + wide * width, top + high * height


def _object_box(thing: Mask, random: np.random.Generator, attempts: int = 6) -> Box:
    """A random box in which the object is neither too small nor too large, or else the whole photograph."""
    height, width = thing.shape
    for _ in range(attempts):
        box = _random_box(width, height, random)
        left, top, right, bottom = (round(edge) for edge in box)
        if SMALLEST <= thing[top:bottom, left:right].mean() <= LARGEST:
            return box
    return 0.0, 0.0, float(width), float(height)


def _cut(image: Image.Image, thing: Mask | None, box: Box, size: int) -> tuple[Pixels, Mask]:
    """A box of a photograph as a square, without keeping its aspect ratio, and the object's mask in it."""
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box))
    return pixels, np.zeros((size, size), bool) if thing is None else _shrunk(thing, (size, size), box) >= 0.5


def _shrunk(thing: Mask, size: tuple[int, int], box: Box) -> Float[np.ndarray, "height width"]:
    """The share of the object in every pixel of a box resized to ``size`` (width, height)."""
    resized = Image.fromarray(thing.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX, box)
    return np.asarray(resized, np.float32) / 255


def _paste(image: Pixels, source: np.ndarray, thing: Mask, random: np.random.Generator) -> tuple[Pixels, Mask]:
    """The object on another image: 35 to 90 % of its side, anywhere, by up to a fifth of itself outside."""
    size = len(image)
    rows, columns = np.flatnonzero(thing.any(1)), np.flatnonzero(thing.any(0))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    scale = random.uniform(0.35, 0.9) * size / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(4, round(length * scale)) for length in (box[2] - box[0], box[3] - box[1]))
    resized = Image.fromarray(source).resize((width, height), Image.Resampling.BICUBIC, box)
    left, top = (round(random.uniform(-0.2 * n, size - 0.8 * n)) for n in (width, height))
    layer, cover = Image.new("RGB", (size, size)), Image.new("F", (size, size))
    layer.paste(resized, (left, top))
    cover.paste(Image.fromarray(_shrunk(thing, (width, height), box)), (left, top))
    alpha = np.asarray(cover)[..., None]
    mixed = np.asarray(layer) * alpha + image * (1 - alpha)
    return np.round(mixed).astype(np.uint8), alpha[..., 0] >= 0.5


def _recoloured(image: UInt8[np.ndarray, "h w 3"], random: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Brightness, contrast, saturation and white balance a little different."""
    values = image.astype(np.float32)
    contrast, brightness, saturation = random.uniform(0.8, 1.2), random.uniform(-20, 20), random.uniform(0.6, 1.4)
    balance = random.uniform(0.93, 1.07, 3).astype(np.float32)
    grey = values @ np.array([0.299, 0.587, 0.114], np.float32)
    values = grey[..., None] + (values - grey[..., None]) * np.float32(saturation)
    mean = grey.mean()
    return np.clip((values - mean) * balance * np.float32(contrast) + mean + np.float32(brightness), 0, 255).astype(
        np.uint8
    )
