"""A user's own images, or pairs of them, wherever they come from: what they are, and how they are split."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from jaxtyping import Bool, Int, UInt8

from taskvec.choices import IMAGE_METRICS
from taskvec.data.examples import Examples, read_each
from taskvec.data.groups import TEST_SHARE, kept_aside
from taskvec.data.layouts import Pairs, check_enough
from taskvec.data.levels import range_of
from taskvec.data.masks import Census, MaskRule, Outputs, label_named, outputs_of
from taskvec.digests import of_json
from taskvec.files import printable
from taskvec.images import Header, Range, Raster, in_colour, resize
from taskvec.metrics import FOR_IMAGES, FOR_MASKS, Metric, metric_named
from taskvec.tasks import Task, image, own_output

T = TypeVar("T")

SPLITS = ("train", "test", "all")
_GLANCE = 16  # outputs that show whether all are pictures
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_NAMED = 3  # files in a line


class ImagePairs(ABC):
    """Inputs and, where there are any, an output of each, known by paths, which may be of files or only names.

    A fifth of the pairs, chosen by the images' content, is ``split`` ``test``, the rest ``train``; ``all`` is every
    pair. What hangs together by ``group_names`` is in one split, as are images that are the same. With outputs they
    are a task of their own, ``called`` so.

    ``metric`` is ``iou`` where outputs are masks, which is told from their levels, else ``mse``. Of two levels the
    brighter is the object; in maps of classes it is ``object_level``, a level or a colour such as #800000, and pixels
    of ``void`` (255 where levels are classes) count nowhere. ``levels`` are those of deep images (16 bits, floating
    point) that become black and white; where they are not given, one range is told from all of them.
    ``ignore_orientation`` takes pixels as they are stored, whatever EXIF says. ``remarks`` says what was chosen.
    """

    kind: ClassVar[str]  # what a record of a run calls such data
    split: str
    metric: str | None
    levels: tuple[float, float] | None
    object_level: str | None
    void: str | None
    ignore_orientation: bool

    @cached_property
    @abstractmethod
    def pairs(self) -> Pairs: ...

    @property
    @abstractmethod
    def called(self) -> str:
        """The name of the task."""

    @abstractmethod
    def read(self, path: Path) -> Raster:
        """ValueError for what cannot be read."""

    @abstractmethod
    def header(self, path: Path) -> Header: ...

    @abstractmethod
    def census_of(self, path: Path) -> Census:
        """The levels of an output."""

    @abstractmethod
    def digests_of(self, paths: Sequence[Path]) -> list[str]:
        """What identifies the content of each."""

    @abstractmethod
    def group_names(self) -> list[str] | None:
        """What each input hangs together with, None where nothing is known."""

    def check(self) -> None:
        """ValueError for options that there are not or that do not go together, and for too few pairs to split."""
        if self.split not in SPLITS:
            raise ValueError(f"folders have no split {self.split!r}: expected one of {', '.join(SPLITS)}")
        if self.levels is not None:
            Range(*self.levels)
        place = self.pairs.input_place
        labels = [label_named(text) for text in (self.object_level, self.void) if text is not None]
        if self._asked is not None and not self._asked.of_masks and labels:
            raise ValueError(f"--metric {self.metric} takes outputs as pictures, which have no --object and no --void")
        if self.metric is not None and self.pairs.outputs is None:
            raise ValueError(f"{place} has no output/ that the metric {self.metric} could compare with")
        if self._asked is not None and self._asked.of_tokens:
            raise ValueError(f"--metric {self.metric} is for words: expected {' or '.join(IMAGE_METRICS)}")
        check_enough(self.pairs, self.split)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def own_task(self) -> Task | None:
        return self._task

    @property
    def wording(self) -> None:
        return None

    @cached_property
    def _task(self) -> Task | None:
        if self.pairs.outputs is None:
            return None
        if self._outputs.refusal is not None:
            raise ValueError(self._outputs.refusal)
        usual = FOR_IMAGES if self._outputs.rule is None else FOR_MASKS
        return Task(self.called, image, own_output, self._asked or usual, needs=("outputs",))

    @property
    def _asked(self) -> Metric | None:
        return None if self.metric is None else metric_named(self.metric)

    def _told(self, rule: MaskRule) -> str:
        return f"metric {(self._asked or FOR_MASKS).label}: {rule.remark}"

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """All are of one class."""
        return np.zeros(len(indices), np.int64)

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [printable(self.pairs.inputs[self._members[index]].name) for index in indices]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [self._digests[self._members[index]] for index in indices]

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [self._groups[self._members[index]] for index in indices]

    def describe(self) -> dict[str, object]:
        """The object's level, the range of levels and the like are what they were told to be, if not asked for."""
        rule = None if self.pairs.outputs is None else self._outputs.rule
        return {
            "data": self.kind,
            "split": self.split,
            "examples": len(self),
            "metric": self.metric,
            "digest": self._digest,
            "object": None if rule is None else self._told(rule),
            "input_levels": self._as_list(self._input_range),
            "output_levels": self._as_list(self._output_range),
            "ignore_orientation": self.ignore_orientation,
            "groups": None if self.group_names() is None else len(set(self._groups)),
        }

    @staticmethod
    def _as_list(levels: Range | None) -> list[float] | None:
        return None if levels is None else [levels.low, levels.high]

    def remarks(self) -> list[str]:
        """What was told from the files, a line each: the object, ranges of levels, turned images, what is left out."""
        lines = []
        if self.pairs.outputs is not None:
            told = self._outputs
            lines += [text for text in (self._told(told.rule) if told.rule else told.remark,) if text]
        for place, headers, levels in (
            (self.pairs.input_place, self._headers, self._input_range),
            (self.pairs.output_place, self._output_headers, self._output_range),
        ):
            deep = sum(header.deep for header in headers)
            if levels is not None and deep:
                how = "as asked for" if self.levels else "told from all of them; --levels LO HI sets others"
                lines.append(f"levels {levels} of the {deep} deep files in {place} become 0 to 255 ({how})")
        windowed = sum(header.windowed for header in self._headers)
        if windowed and self._input_range is None:
            lines.append(f"{windowed} files are shown as their own windows say; --levels LO HI sets one range for all")
        turned = sum(header.orientation > 1 for header in self._headers)
        if turned and self.pairs.outputs is not None:
            lines.append(
                f"{turned} inputs are taken as stored, though EXIF turns them"
                if self.ignore_orientation
                else f"{turned} inputs are turned upright as EXIF says; if their outputs were drawn on the pixels as "
                "stored: --ignore-orientation"
            )
        lines += self._header_remarks()
        if self.group_names() is not None:
            lines.append(f"{len(set(self._groups))} groups by --groups, each on one side of every split")
        if self.pairs.left_out:
            names = [path.name for path in self.pairs.left_out]
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            lines.append(f"left out, as they are no images: {', '.join(names[:_NAMED])}{more}")
        return lines

    def _header_remarks(self) -> list[str]:
        lines = []
        for paths, headers in (
            (self.pairs.inputs, self._headers),
            (self.pairs.outputs or [], self._output_headers),
        ):
            named = [(path.name, header.remark) for path, header in zip(paths, headers, strict=True) if header.remark]
            for remark in dict.fromkeys(remark for _, remark in named):
                names = [name for name, other in named if other == remark]
                more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
                lines.append(f"{names[0]}{more} {remark}")
        return lines

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        """Examples resized to ``size`` x ``size`` pixels; ValueError for a file that cannot be read."""
        members = self._members[indices]
        images = read_each(partial(self._read_input, size=size), members)
        outputs = ignored = None
        if self.pairs.outputs is not None and self._outputs.refusal is None:
            read = read_each(partial(self._read_output, size=size), members)
            outputs = np.stack([pixels for pixels, _ in read])
            if any(pixels is not None for _, pixels in read):
                nothing = np.zeros((size, size), np.bool_)
                ignored = np.stack([nothing if pixels is None else pixels for _, pixels in read])
        return Examples(np.stack(images), None, self.class_of(indices), np.asarray(indices), outputs, ignored)

    def _read_input(self, index: int, size: int) -> UInt8[np.ndarray, "size size 3"]:
        path = self.pairs.inputs[index]
        return in_colour(resize(named(path, self._raster(path).bytes, self._input_range), size))

    def _read_output(
        self, index: int, size: int
    ) -> tuple[UInt8[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"] | None]:
        """The output, and where it is not to count."""
        path, rule = (self.pairs.outputs or [])[index], self._outputs.rule
        raster = self._raster(path)
        if rule is None:
            return in_colour(resize(named(path, raster.bytes, self._output_range), size)), None
        mask, ignored = rule.mask(raster)
        if ignored is not None:
            ignored = resize(np.where(ignored, np.uint8(255), np.uint8(0)), size) > 127
        return in_colour(resize(mask, size)), ignored

    def _raster(self, path: Path) -> Raster:
        raster = self.read(path)
        return raster.as_stored() if self.ignore_orientation else raster

    @cached_property
    def _headers(self) -> list[Header]:
        return _in_threads(self.header, self.pairs.inputs)

    @cached_property
    def _output_headers(self) -> list[Header]:
        return _in_threads(self.header, self.pairs.outputs or [])

    @cached_property
    def _input_range(self) -> Range | None:
        return self._range(self.pairs.inputs, self._headers)

    @cached_property
    def _output_range(self) -> Range | None:
        if self.pairs.outputs is None or self._outputs.rule is not None or self._outputs.refusal is not None:
            return None
        return self._range(self.pairs.outputs, self._output_headers)

    def _range(self, paths: Sequence[Path], headers: Sequence[Header]) -> Range | None:
        """Of deep files: what was asked for, or what all of them tell."""
        deep = [path for path, header in zip(paths, headers, strict=True) if header.deep]
        if not deep:
            return None
        return Range(*self.levels) if self.levels else range_of([partial(self._raster, path) for path in deep])

    @cached_property
    def _outputs(self) -> Outputs:
        """What the outputs are; ValueError where one does not lie on its input."""
        paths = self.pairs.outputs or []
        for triple in zip(self.pairs.inputs, self._headers, paths, self._output_headers, strict=True):
            _check_shapes(*triple, ignore_orientation=self.ignore_orientation)
        where = self.pairs.output_place or self.pairs.input_place
        wanted, void = (None if text is None else label_named(text) for text in (self.object_level, self.void))
        if self.metric is None and wanted is None:
            glance = paths[:: max(1, len(paths) // _GLANCE)]
            told = outputs_of(dict(zip(glance, self._censuses(glance), strict=True)), None, None, None, where)
            if told.rule is None and told.refusal is None:
                return told
        return outputs_of(dict(zip(paths, self._censuses(paths), strict=True)), self._asked, wanted, void, where)

    def _censuses(self, paths: Sequence[Path]) -> list[Census]:
        return _in_threads(self.census_of, paths)

    @cached_property
    def _digests(self) -> list[str]:
        return self.digests_of(self.pairs.inputs)

    @cached_property
    def _groups(self) -> list[str]:
        """Of every pair; images that are the same join the groups that they are in."""
        groups = self.group_names()
        return self._digests if groups is None else _joined(groups, self._digests)

    @cached_property
    def _digest(self) -> str:
        """Of the content of these examples, in whatever directory and by whatever names."""
        paths = self.pairs.outputs
        outputs = paths and self.digests_of([paths[index] for index in self._members])
        inputs = [self._digests[index] for index in self._members]
        return of_json(sorted(zip(inputs, outputs or inputs, strict=True)))

    @cached_property
    def _members(self) -> Int[np.ndarray, " n"]:
        if self.split == "all":
            return np.arange(len(self.pairs.inputs))
        aside = kept_aside(self._groups, TEST_SHARE, f"images of {self.pairs.input_place}")
        return np.flatnonzero(aside == (self.split == "test"))


def _joined(groups: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Groups that hold the same image become one, called as the first of them by name."""
    leader = {group: group for group in groups}

    def find(group: str) -> str:
        while leader[group] != group:
            group = leader[group]
        return group

    first: dict[str, str] = {}
    for group, digest in zip(groups, digests, strict=True):
        one, other = sorted((find(group), find(first.setdefault(digest, group))))
        leader[other] = one
    return [find(group) for group in groups]


def _check_shapes(path: Path, header: Header, output_path: Path, output: Header, *, ignore_orientation: bool) -> None:
    """ValueError where an output is of another aspect ratio than its input."""
    sizes = [one.stored if ignore_orientation else (one.width, one.height) for one in (header, output)]
    if _same_ratio(*sizes):
        return
    (width, height), (output_width, output_height) = sizes
    told = (
        f"{output_path} is of {output_width} x {output_height} pixels, and its input {path.name} of {width} x {height}"
    )
    if _same_ratio((height, width), sizes[1]):
        if header.orientation in _TURNED and not ignore_orientation:
            raise ValueError(
                f"{told}, turned as its EXIF data say: the output seems drawn on the pixels as they are stored "
                "(--ignore-orientation takes these)"
            )
        raise ValueError(f"{told}: they differ by a quarter turn, so one of them has to be turned")
    raise ValueError(f"{told}: expected one aspect ratio, as otherwise one would be stretched")


def _same_ratio(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether the smaller is the larger times one factor, but for less than a pixel of rounding."""
    smaller, larger = sorted((first, second), key=lambda size: size[0] * size[1])
    least = max((side - 1) / whole for side, whole in zip(smaller, larger, strict=True))
    most = min((side + 1) / whole for side, whole in zip(smaller, larger, strict=True))
    return least < most


def _in_threads(read: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    return read_each(lambda index: read(paths[index]), np.arange(len(paths)))


def named(path: Path, make: Callable[..., T], *given: object) -> T:
    """What is made of a file's image; an error names the file."""
    try:
        return make(*given)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
