"""Pascal-5i (Shaban et al., 2017): the objects of Pascal VOC 2012 in four folds of five classes.

An example is one class in one image, a line ``ID__CC`` of a list; its mask is every pixel of that class. Pixels that
VOC marks to be ignored (255, the borders of objects) count as background, as in the code of the paper. A file that is
missing, a mask that does not fit its image or lacks the class that a list names for it, is an error.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from taskvec.choices import FOLDS, LAYOUTS, Layout
from taskvec.data.examples import Examples, digests, read_each
from taskvec.digests import of_json
from taskvec.files import read_text
from taskvec.images import read_image, read_rgb, resize

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
FOLD_CLASSES = len(CLASSES) // FOLDS
IGNORED = 255
LISTS = {"train": "trn", "test": "val"}


@dataclass(frozen=True)
class Line:
    """One line of a list: the class (1 to 20) of the image ``id`` that is the object."""

    id: str
    class_index: int

    def __str__(self) -> str:
        return f"{self.id}__{self.class_index:02}"

    @property
    def fold(self) -> int:
        return (self.class_index - 1) // FOLD_CLASSES


@dataclass(frozen=True)
class Pascal:
    """The examples of one split and fold, read from ``root`` when they are asked for.

    ``root`` is VOCdevkit, VOC2012 in it, or any directory with JPEGImages and SegmentationClass; a mask in
    SegmentationClassAug goes before. The lists are in ``splits`` (or ``splits/pascal``) beside them: trn/foldK.txt and
    val/foldK.txt. ``split`` ``test`` is the val list: the five classes of the fold. ``train`` is, by ``layout``
    ``few_shot``, the other fifteen classes, so that those of the test are new; by ``official``, the paper's code, the
    same five. Either is told from lists in either arrangement. Without ``fold``, all classes.

    Raises ValueError for a split, fold or layout that there is not, a list that is missing or wrong, and where files of
    the list are missing, unless ``skip_missing``, which leaves them out; ``describe`` counts them.
    """

    root: Path
    split: str = "train"
    fold: int | None = None
    layout: Layout = "few_shot"
    skip_missing: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.split not in LISTS:
            raise ValueError(f"pascal has no split {self.split!r}: expected one of {', '.join(LISTS)}")
        if self.fold is not None and self.fold not in range(FOLDS):
            raise ValueError(f"pascal has no fold {self.fold}: expected 0 to {FOLDS - 1}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"pascal has no layout {self.layout!r}: expected one of {', '.join(LAYOUTS)}")
        if not self._lines:
            raise ValueError(f"{self.root}: no example of split {self.split}, fold {self.fold} is left")

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return self._classes[indices]

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [str(self._lines[index]) for index in indices]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [self._digests[self._lines[index].id] for index in indices]

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.images_of(indices)

    def remarks(self) -> list[str]:
        missing = len(self._listed) - len(self)
        return [f"{missing} examples of {self.split} are left out, as their files are missing"] if missing else []

    def describe(self) -> dict[str, object]:
        return {
            "data": "pascal",
            "split": self.split,
            "fold": self.fold,
            "layout": self.layout,
            "examples": len(self),
            "missing": len(self._listed) - len(self),
            "digest": self._digest,
        }

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        """Examples resized to ``size`` x ``size`` pixels.

        Raises ValueError for a file that cannot be read, a mask whose size is not its image's, with values that are no
        class, or without the class that the list names.
        """

        def read(index: int) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"]]:
            line = self._lines[index]
            image = np.asarray(read_rgb(self._image(line)))
            return resize(image, size), resize(self._read_mask(line, image.shape[:2]), size)

        images, masks = zip(*read_each(read, indices), strict=True)
        return Examples(np.stack(images), np.stack(masks), self.class_of(indices), np.asarray(indices))

    @cached_property
    def _digest(self) -> str:
        """Of the images of these examples with their classes, wherever they lie."""
        return of_json(sorted((self._digests[line.id], line.class_index) for line in self._lines))

    @cached_property
    def _base(self) -> Path:
        """Where JPEGImages is."""
        places = (self.root, self.root / "VOC2012", self.root / "VOCdevkit" / "VOC2012")
        for place in places:
            if (place / "JPEGImages").is_dir():
                return place
        raise ValueError(f"{self.root} holds no Pascal VOC: expected JPEGImages in it or in {places[1]}")

    @cached_property
    def _lists(self) -> Path:
        """Where trn/ and val/ are."""
        places = [place / "splits" / inner for place in (self._base, self.root) for inner in ("", "pascal")]
        for place in places:
            if (place / "val").is_dir():
                return place
        raise ValueError(
            f"{self.root} holds no lists of Pascal-5i: expected trn/fold0.txt to val/fold3.txt in {places[0]}"
        )

    @cached_property
    def _lines(self) -> list[Line]:
        """The lines whose files are there."""
        lines = [line for line in self._listed if self._image(line).is_file() and self._mask(line).is_file()]
        missing = len(self._listed) - len(lines)
        if missing and not self.skip_missing:
            there = set(lines)
            first = next(line for line in self._listed if line not in there)
            paths = (self._image(first), self._mask(first))
            raise ValueError(
                f"{next(path for path in paths if not path.is_file())} is missing (incomplete: {missing} of "
                f"{len(self._listed)} examples); skip_missing (--skip-missing) leaves these out"
            )
        return lines

    @cached_property
    def _digests(self) -> dict[str, str]:
        """Of every image; several lines may be of one."""
        paths = {line.id: self._image(line) for line in self._lines}
        return dict(zip(paths, digests(list(paths.values())), strict=True))

    @cached_property
    def _classes(self) -> Int[np.ndarray, " n"]:
        return np.array([line.class_index for line in self._lines])

    @cached_property
    def _listed(self) -> list[Line]:
        folds = range(FOLDS) if self.fold is None else [self.fold]
        if self.split == "train" and self.fold is not None:
            return self._training_lines(self.fold)
        lines = [line for fold in folds for line in self._read_list(fold)]
        return list(dict.fromkeys(lines))

    def _training_lines(self, fold: int) -> list[Line]:
        """Those of the layout that is asked for, from lists in either."""

        def belongs(line: Line) -> bool:
            return (line.fold == fold) == (self.layout == "official")

        own = self._read_list(fold)
        if own and all(belongs(line) for line in own):
            return own
        others = [line for other in range(FOLDS) if other != fold for line in self._read_list(other)]
        return [line for line in dict.fromkeys(others) if belongs(line)]

    def _read_list(self, fold: int) -> list[Line]:
        path = self._lists / LISTS[self.split] / f"fold{fold}.txt"
        try:
            rows = read_text(path).splitlines()
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is not a readable list: {error}") from error
        lines = []
        for number, row in enumerate(rows, 1):
            if not row.strip():
                continue
            match = re.fullmatch(r"([\w-]+)__(\d\d)", row.strip())
            if match is None or not 1 <= int(match[2]) <= len(CLASSES):
                raise ValueError(f"{path}, line {number}: {row!r}, expected ID__CC with a class CC from 01 to 20")
            line = Line(match[1], int(match[2]))
            if self.split == "test" and line.fold != fold:
                raise ValueError(f"{path}, line {number}: {row!r} is a class of fold {line.fold}, expected {fold}")
            lines.append(line)
        return lines

    def _image(self, line: Line) -> Path:
        return self._base / "JPEGImages" / f"{line.id}.jpg"

    def _mask(self, line: Line) -> Path:
        augmented = self._base / "SegmentationClassAug" / f"{line.id}.png"
        return augmented if augmented.is_file() else self._base / "SegmentationClass" / f"{line.id}.png"

    def _read_mask(self, line: Line, shape: tuple[int, ...]) -> UInt8[np.ndarray, "height width"]:
        path = self._mask(line)
        mask = read_image(path)
        if mask.mode not in ("P", "L"):
            raise ValueError(f"{path} has mode {mask.mode}, expected a byte a pixel, the class (P or L)")
        labels = np.asarray(mask)
        if labels.shape != shape:
            sizes = [f"{width} x {height}" for height, width in (labels.shape, shape)]
            raise ValueError(f"{path} is of {sizes[0]} pixels, expected {sizes[1]} as its image")
        strange = labels[(labels > len(CLASSES)) & (labels != IGNORED)]
        if strange.size:
            raise ValueError(f"{path} holds class {strange[0]}, expected 0 to {len(CLASSES)}, or {IGNORED} for ignored")
        inside = labels == line.class_index
        if not inside.any():
            name = CLASSES[line.class_index - 1]
            raise ValueError(f"{path} has no pixel of class {line.class_index:02} ({name}), which a list names")
        return np.where(inside, np.uint8(255), np.uint8(0))
